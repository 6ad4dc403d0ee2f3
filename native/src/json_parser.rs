//! The JSON parser: an object is an event, an array of objects is several.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::json_in::{PairHook, Reader, Scratch, key_bytes};
use crate::options::{FieldCache, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, OtherValues, Parser, Session};

/// A compiled JSON parser.
pub struct JsonParser {
    rules: FieldRules,
    /// Bit n is set where a key of n bytes (the last bit: or more) has a rule of its own.
    special_lengths: u64,
    estimate_current_event: bool,
    /// What a value that is no text is: to Oj no JSON, to the other libraries a mistake.
    other_values: OtherValues,
}

#[inline]
fn length_bit(key: &[u8]) -> u64 {
    1 << key.len().min(63)
}

impl JsonParser {
    /// Compiles.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        let rules = FieldRules::new(options)?;
        let fields = options.types.keys().chain(&options.time_key);
        let mut special_lengths = fields.fold(0, |bits, field| bits | length_bit(field.as_bytes()));
        if options.null_empty_string || options.null_value_pattern.is_some() {
            special_lengths = u64::MAX;
        }
        let estimate_current_event = options.estimate_current_event;
        Ok(JsonParser {
            rules,
            special_lengths,
            estimate_current_event,
            other_values: OtherValues::Unmatched,
        })
    }
}

impl Parser for JsonParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(JsonSession {
            parser: self,
            cache: self.rules.cache(),
            scratch: Scratch::default(),
            skipped: Vec::new(),
            value: Vec::new(),
        })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate_current_event
    }

    fn other_values(&self) -> OtherValues {
        self.other_values.clone()
    }
}

struct JsonSession<'a> {
    parser: &'a JsonParser,
    cache: FieldCache,
    scratch: Scratch,
    /// Where array elements go that are no objects.
    skipped: Vec<u8>,
    /// A copy of the key and value that a rule is applied to.
    value: Vec<u8>,
}

/// Applies the field rules to a record's pairs.
struct Rules<'a> {
    parser: &'a JsonParser,
    cache: &'a mut FieldCache,
    value: &'a mut Vec<u8>,
    time_ns: Option<i64>,
    failed: Option<Mismatch>,
}

impl PairHook for Rules<'_> {
    #[inline]
    fn pair(&mut self, out: &mut Vec<u8>, key: usize, value: usize) -> usize {
        let name = key_bytes(&out[key..value]);
        if self.parser.special_lengths & length_bit(name) == 0 || self.parser.rules.rule(name).is_plain() {
            return 1;
        }
        self.apply(out, key, value)
    }
}

impl Rules<'_> {
    fn apply(&mut self, out: &mut Vec<u8>, key: usize, value: usize) -> usize {
        self.value.clear();
        self.value.extend_from_slice(&out[key..]);
        out.truncate(key);
        let (name, value) = self.value.split_at(value - key);
        let mut pairs = 0;
        let rules = &self.parser.rules;
        let time = &mut self.time_ns;
        match rules.write_value(key_bytes(name), value, self.cache, out, &mut pairs, time) {
            Ok(()) => pairs as usize,
            Err(why) => {
                // the text is read to its end all the same: the next element may be good
                self.failed = Some(why);
                out.truncate(key);
                0
            }
        }
    }
}

/// Reads the object whose `{` comes next as one event.
#[inline]
fn record(
    reader: &mut Reader<'_>,
    rules: &mut Rules<'_>,
    out: &mut Events,
) -> Result<Result<(), Mismatch>, Mismatch> {
    reader.take();
    let start = out.fields.len();
    let pairs = reader.pairs(&mut out.fields, 1, rules)?;
    let time_ns = rules.time_ns.take();
    if let Some(why) = rules.failed.take() {
        out.fields.truncate(start);
        return Ok(Err(why));
    }
    out.push(start, pairs as u32, time_ns);
    Ok(Ok(()))
}

impl Session for JsonSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let mut rules = Rules {
            parser: self.parser,
            cache: &mut self.cache,
            value: &mut self.value,
            time_ns: None,
            failed: None,
        };
        out.fields.reserve(text.len() + text.len() / 4 + 16);
        let mut reader = Reader::new(text, &mut self.scratch)?;
        match reader.peek()? {
            b'{' => {
                let outcome = record(&mut reader, &mut rules, out)?;
                reader.end()?;
                outcome
            }
            b'[' => {
                reader.take();
                let mut why = Mismatch::NoMatch;
                let mut last = reader.peek()? == b']';
                if last {
                    reader.take();
                }
                while !last {
                    if reader.peek()? == b'{' {
                        if let Err(reason) = record(&mut reader, &mut rules, out)? {
                            out.unmatched += 1;
                            why = reason;
                        }
                    } else {
                        self.skipped.clear();
                        reader.value(&mut self.skipped, 1)?;
                        out.unmatched += 1;
                    }
                    match reader.peek()? {
                        b',' => {}
                        b']' => last = true,
                        _ => return Err(Mismatch::NoMatch),
                    }
                    reader.take();
                }
                reader.end()?;
                if out.items.is_empty() && out.unmatched > 0 { Err(why) } else { Ok(()) }
            }
            _ => Err(Mismatch::NoMatch),
        }
    }
}

/// Compiles a JSON parser. `json_parser` names one of Fluentd's libraries; all mean the one engine here.
#[pyfunction]
pub fn json_parser(json_parser: &str, options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    if !matches!(json_parser, "oj" | "yajl" | "json") {
        let why = format!("expected oj, yajl or json, not {json_parser}");
        return Err(Invalid::new("json_parser", why).into());
    }
    let mut parser = JsonParser::new(&ParseOptions::from_dict(options)?)?;
    if json_parser != "oj" {
        parser.other_values = OtherValues::Failed;
    }
    Ok(CompiledParser::new(parser))
}

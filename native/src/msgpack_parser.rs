//! The msgpack parser: a map is an event, an array of maps is several, and so are values behind each other.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::msgpack::{Malformed, Token, read_token, skip_value};
use crate::options::{FieldCache, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};

/// The compiled parser.
pub struct MsgpackParser {
    rules: FieldRules,
    estimate: bool,
}

impl MsgpackParser {
    /// Compiles.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        Ok(MsgpackParser { rules: FieldRules::new(options)?, estimate: options.estimate_current_event })
    }
}

impl Parser for MsgpackParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(MsgpackSession { rules: &self.rules, cache: self.rules.cache() })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }
}

struct MsgpackSession<'a> {
    rules: &'a FieldRules,
    cache: FieldCache,
}

impl From<Malformed> for Mismatch {
    fn from(why: Malformed) -> Self {
        if why == Malformed::TooDeep { Mismatch::Limit } else { Mismatch::Malformed }
    }
}

impl Session for MsgpackSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let mut why = Mismatch::NoMatch;
        let mut pos = 0;
        while pos < text.len() {
            let start = pos;
            skip_value(text, &mut pos)?; // first: a length that lies is found before anything is taken
            let mut at = start;
            let values = match read_token(text, &mut at)? {
                Token::Array(values) => values,
                _ => {
                    at = start;
                    1
                }
            };
            for _ in 0..values {
                let (value, before) = (at, out.fields.len());
                skip_value(text, &mut at)?;
                if let Err(reason) = self.value(&text[value..at], out) {
                    out.fields.truncate(before);
                    out.unmatched += 1;
                    why = reason;
                }
            }
        }
        if out.items.is_empty() && (out.unmatched > 0 || text.is_empty()) { Err(why) } else { Ok(()) }
    }
}

impl MsgpackSession<'_> {
    /// Takes a value as an event.
    fn value(&mut self, value: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let mut at = 0;
        let Token::Map(count) = read_token(value, &mut at)? else { return Err(Mismatch::NoMatch) };
        let start = out.fields.len();
        let (mut pairs, mut time) = (0, None);
        if self.rules.is_plain() {
            out.fields.extend_from_slice(&value[at..]);
            pairs = u32::try_from(count).map_err(|_| Mismatch::Limit)?;
        } else {
            for _ in 0..count {
                let pair = at;
                let key = read_token(value, &mut at)?;
                if !matches!(key, Token::Str(_) | Token::Bin(_)) {
                    at = pair;
                    skip_value(value, &mut at)?;
                }
                let from = at;
                skip_value(value, &mut at)?;
                match key {
                    Token::Str(key) | Token::Bin(key) => self.rules.write_value(
                        key,
                        &value[from..at],
                        &mut self.cache,
                        &mut out.fields,
                        &mut pairs,
                        &mut time,
                    )?,
                    _ => {
                        out.fields.extend_from_slice(&value[pair..at]);
                        pairs += 1;
                    }
                }
            }
        }
        out.push(start, pairs, time);
        Ok(())
    }
}

/// `msgpack_parser(options) -> CompiledParser`
#[pyfunction]
pub fn msgpack_parser(options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(MsgpackParser::new(&ParseOptions::from_dict(options)?)?))
}

//! logfmt: `key=value key="quoted \"value\"" flag`.
//!
//! The grammar is that of Go's kr/logfmt: a name is a run of bytes above a space that are neither `=` nor `"`;
//! what is neither a name nor white space between pairs does not count. A value without quotes goes up to the next
//! white space, so that `url=http://a/?b=c` keeps its `=`.

use memchr::memchr2;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::named::{Name, Named, NamedMemory, Value};
use crate::options::{FieldCache, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};

/// The compiled parser.
pub struct LogfmtParser {
    rules: FieldRules,
    estimate: bool,
}

impl LogfmtParser {
    /// Compiles.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        Ok(LogfmtParser { rules: FieldRules::new(options)?, estimate: options.estimate_current_event })
    }
}

impl Parser for LogfmtParser {
    fn session(&self) -> Box<dyn Session + '_> {
        let (cache, memory) = (self.rules.cache(), NamedMemory::default());
        Box::new(LogfmtSession { rules: &self.rules, cache, memory })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }
}

struct LogfmtSession<'a> {
    rules: &'a FieldRules,
    cache: FieldCache,
    memory: NamedMemory,
}

fn is_name(byte: u8) -> bool {
    byte > b' ' && byte != b'=' && byte != b'"'
}

/// Where the run of bytes of a kind ends that starts at `at`.
fn run(text: &[u8], at: usize, kind: impl Fn(u8) -> bool) -> usize {
    at + text[at..].iter().take_while(|byte| kind(**byte)).count()
}

impl Session for LogfmtSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let mut fields = Named::new(text, &mut self.memory);
        let mut at = 0;
        loop {
            let start = run(text, at, |byte| !is_name(byte));
            if start == text.len() {
                break;
            }
            let end = run(text, start, is_name);
            at = end;
            let value = match text.get(end..) {
                Some([b'=', b'"', ..]) => quoted(text, end + 2, &mut at, &mut fields)?,
                Some([b'=', ..]) => {
                    at = run(text, end + 1, |byte| byte > b' ');
                    Value::Text(end + 1, at)
                }
                _ => Value::True,
            };
            fields.set(Name::Text(start, end), value);
        }
        if fields.is_empty() {
            return Err(Mismatch::NoMatch);
        }
        fields.write(self.rules, None, &mut self.cache, out)
    }
}

/// The value whose first byte behind the quote is at `start`; `at` is then behind the closing quote.
fn quoted(text: &[u8], start: usize, at: &mut usize, fields: &mut Named<'_>) -> Result<Value, Mismatch> {
    let mut from = start;
    let mut escapes = false;
    loop {
        let found = from + memchr2(b'"', b'\\', &text[from..]).ok_or(Mismatch::Malformed)?;
        if text[found] == b'"' {
            *at = found + 1;
            let value = (start, found);
            return Ok(match escapes {
                false => Value::Text(value.0, value.1),
                true => fields.scratch(|text, out| unescape(&text[value.0..value.1], out)),
            });
        }
        escapes = true;
        from = found + 2;
        if from > text.len() {
            return Err(Mismatch::Malformed);
        }
    }
}

/// Go's (and JSON's) escapes; what is none stays as it is written.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        let Some(backslash) = memchr::memchr(b'\\', &text[at..]).map(|found| at + found) else { break };
        out.extend_from_slice(&text[at..backslash]);
        at = backslash + 2;
        match text.get(backslash + 1) {
            Some(byte @ (b'"' | b'\\' | b'/' | b'\'')) => out.push(*byte),
            Some(b'b') => out.push(0x08),
            Some(b'f') => out.push(0x0c),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'u') => match unicode(text, at) {
                Some((letter, end)) => {
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    at = end;
                }
                None => out.extend_from_slice(b"\\u"),
            },
            Some(byte) => out.extend_from_slice(&[b'\\', *byte]),
            None => out.push(b'\\'),
        }
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

/// The letter of `XXXX`, or of `XXXX\uXXXX` where the first is half of a pair; half a pair alone is U+FFFD.
fn unicode(text: &[u8], at: usize) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 4)?;
        digits.iter().try_fold(0, |value, byte| Some(value << 4 | (*byte as char).to_digit(16)?))
    };
    let first = unit(at)?;
    if (0xd800..0xdc00).contains(&first)
        && text.get(at + 4..at + 6) == Some(b"\\u")
        && let Some(second @ 0xdc00..0xe000) = unit(at + 6)
    {
        let letter = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return char::from_u32(letter).map(|letter| (letter, at + 10));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), at + 4))
}

/// `logfmt_parser(options) -> CompiledParser`
#[pyfunction]
pub fn logfmt_parser(options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(LogfmtParser::new(&ParseOptions::from_dict(options)?)?))
}

//! Times of archived lines: numbers whose unit is told by their size, common text forms, or a format.

use memchr::memchr;

use super::NANOS;
use crate::msgpack::{Token, read_token};
use crate::time::{TimeCache, TimeParser, TimeSpec};

/// How times are read.
pub(super) struct Times {
    text: TimeParser,
    seconds: TimeParser,
    /// A format was given: texts that look like numbers are read by it too.
    by_format: bool,
    cache: TimeCache,
}

impl Times {
    pub(super) fn new(format: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        let text = match format {
            None => TimeParser::for_records(None)?,
            Some(format) => TimeParser::new(&TimeSpec {
                kind: "string".to_owned(),
                format: Some(format.to_owned()),
                zone: zone.map(str::to_owned),
                ..TimeSpec::default()
            })?,
        };
        let seconds = TimeParser::new(&TimeSpec { kind: "float".to_owned(), ..TimeSpec::default() })?;
        Ok(Times { text, seconds, by_format: format.is_some(), cache: TimeCache::default() })
    }

    pub(super) fn of_text(&mut self, text: &[u8]) -> Option<i64> {
        if self.by_format {
            return self.text.parse(text, &mut self.cache);
        }
        let point = memchr(b'.', text).unwrap_or(text.len());
        let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !digits(&text[..point]) {
            return self.text.parse(text, &mut self.cache);
        }
        if point == text.len() {
            return of_integer(std::str::from_utf8(text).ok()?.parse().ok()?);
        }
        // never through the cache: it is for the texts of the other parser
        if digits(&text[point + 1..]) { self.seconds.parse(text, &mut TimeCache::default()) } else { None }
    }

    pub(super) fn of_value(&mut self, value: &[u8]) -> Option<i64> {
        match read_token(value, &mut 0).ok()? {
            Token::Str(text) => self.of_text(text),
            Token::Uint(number) => of_integer(i64::try_from(number).ok()?),
            Token::Float(number) => self.seconds.from_number(number),
            _ => None,
        }
    }
}

/// Seconds, milli-, micro- or nanoseconds by their size: no two of them mean the same from 1973 to 5138.
fn of_integer(number: i64) -> Option<i64> {
    match number {
        0..100_000_000_000 => number.checked_mul(NANOS),
        100_000_000_000..100_000_000_000_000 => number.checked_mul(1_000_000),
        100_000_000_000_000..100_000_000_000_000_000 => number.checked_mul(1000),
        100_000_000_000_000_000.. => Some(number),
        _ => None,
    }
}

//! Entries `[time, record]` as forward clients send them, checked and brought into one form, undecoded.
//!
//! What is `[EventTime or integer, map]` already passes as it is. Otherwise, as Fluentd's in_forward does:
//! further elements are cut off, `[[time, metadata], record]` (Fluent Bit) loses the metadata, and in some modes a
//! time of zero becomes the present.

use std::sync::Arc;

use crate::msgpack::{self, Malformed, Token};
use crate::time::{exact_nanos, text_to_integer};

/// How entries are checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// Takes missing times (for the present) and floats too.
    pub lenient: bool,
    /// Leaves times of zero as they are.
    pub keep_zero: bool,
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
}

/// A field that every record gets: its name, the name and the value as MessagePack.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name.
    pub name: Arc<[u8]>,
    /// Name and value, encoded, behind each other.
    pub pair: Vec<u8>,
    /// Where the value starts in `pair`.
    pub value_at: usize,
}

impl Field {
    /// A field with text in it.
    #[must_use]
    pub fn text(name: &Arc<[u8]>, value: &[u8]) -> Self {
        let mut pair = Vec::with_capacity(name.len() + value.len() + 10);
        msgpack::write_text(&mut pair, name, false);
        let value_at = pair.len();
        msgpack::write_text(&mut pair, value, false);
        Field { name: Arc::clone(name), pair, value_at }
    }
}

/// Why an entry does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No event; the next entry can be read.
    Invalid,
    /// No MessagePack: nothing behind it can be read.
    Broken(Malformed),
}

impl From<Malformed> for Refused {
    fn from(why: Malformed) -> Self {
        Refused::Broken(why)
    }
}

/// Walks over at most `most` entries that are in the form that flows here, and moves `pos` behind the last of
/// them. Gives their number.
#[must_use]
pub fn canonical(data: &[u8], pos: &mut usize, most: usize) -> usize {
    for count in 0..most {
        let at = *pos;
        let Some(record) = record_start(&data[at..]) else { return count };
        let mut end = at + record;
        if !matches!(data.get(end), Some(0x80..=0x8f | 0xde | 0xdf))
            || msgpack::skip_value(data, &mut end).is_err()
        {
            return count;
        }
        *pos = end;
    }
    most
}

/// Where the record starts in an entry whose head needs no change.
#[inline(always)]
fn record_start(entry: &[u8]) -> Option<usize> {
    match entry {
        [0x92, 0xd7, 0x00, a, b, c, d, _, _, _, _, ..] if (a | b | c | d) != 0 => Some(11),
        [0x92, 0xce, a, b, c, d, ..] if (a | b | c | d) != 0 => Some(6),
        [0x92, 0xc7, 0x08, 0x00, a, b, c, d, _, _, _, _, ..] if (a | b | c | d) != 0 => Some(12),
        _ => None,
    }
}

/// Checks the entry at `pos`, which may have any form, moves `pos` behind it, and appends it to `out` as
/// `[time, record]` with `fields` in the record.
///
/// # Errors
/// [`Refused`]; `out` is then as it was.
pub fn normalise(
    data: &[u8],
    pos: &mut usize,
    checks: &Checks,
    fields: &[Field],
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let start = *pos;
    let before = out.len();
    let outcome = elements(data, pos, checks, fields, out);
    if outcome == Err(Refused::Invalid) {
        out.truncate(before);
        *pos = start;
        msgpack::skip_value(data, pos)?;
    } else if outcome.is_err() {
        out.truncate(before);
    }
    outcome
}

fn elements(
    data: &[u8],
    pos: &mut usize,
    checks: &Checks,
    fields: &[Field],
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let Token::Array(len) = msgpack::read_token(data, pos)? else { return Err(Refused::Invalid) };
    if len < 2 {
        return Err(Refused::Invalid);
    }
    out.push(0x92);
    let at = *pos;
    match msgpack::read_token(data, pos)? {
        Token::Array(parts) if parts > 0 => {
            let at = *pos;
            let first = msgpack::read_token(data, pos)?;
            time(data, at, *pos, first, checks, out)?;
            for _ in 1..parts {
                msgpack::skip_value(data, pos)?;
            }
        }
        token => time(data, at, *pos, token, checks, out)?,
    }
    record(data, pos, fields, out)?;
    for _ in 2..len {
        msgpack::skip_value(data, pos)?;
    }
    Ok(())
}

/// Appends a time that was read from `at` to `end`.
///
/// # Errors
/// [`Refused::Invalid`] for what is none.
pub fn time(
    data: &[u8],
    at: usize,
    end: usize,
    token: Token<'_>,
    checks: &Checks,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let zero = match token {
        Token::Ext(0, raw) if raw.len() == 8 => raw[..4] == [0; 4],
        Token::Uint(seconds) => seconds == 0,
        Token::Int(_) => false,
        Token::Float(seconds) if checks.lenient && seconds.is_finite() => {
            if seconds.trunc() != 0.0 {
                msgpack::write_event_time(out, exact_nanos(seconds).ok_or(Refused::Invalid)?);
                return Ok(());
            }
            true
        }
        // what Ruby's to_i makes 0 of
        Token::Str(text) | Token::Bin(text)
            if checks.lenient && !checks.keep_zero && text_to_integer(text) == 0 =>
        {
            true
        }
        Token::Nil if checks.lenient => {
            msgpack::write_event_time(out, checks.now_ns);
            return Ok(());
        }
        _ => return Err(Refused::Invalid),
    };
    if zero && !checks.keep_zero {
        msgpack::write_event_time(out, checks.now_ns);
    } else {
        out.extend_from_slice(&data[at..end]);
    }
    Ok(())
}

/// Appends the record at `pos` with `fields` in it, and moves `pos` behind it.
///
/// # Errors
/// [`Refused::Invalid`] where it is no map.
pub fn record(data: &[u8], pos: &mut usize, fields: &[Field], out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = *pos;
    if fields.is_empty() {
        if !matches!(data.get(start), Some(0x80..=0x8f | 0xde | 0xdf)) {
            return Err(if start < data.len() { Refused::Invalid } else { Malformed::Truncated.into() });
        }
        msgpack::skip_value(data, pos)?;
        out.extend_from_slice(&data[start..*pos]);
        return Ok(());
    }
    let Token::Map(pairs) = msgpack::read_token(data, pos)? else { return Err(Refused::Invalid) };
    let body = *pos;
    *pos = start;
    msgpack::skip_value(data, pos)?; // first, so that nothing is reserved for a length that lies
    let found = present(data, body, pairs, fields)?;
    msgpack::write_map_header(out, pairs + fields.len() - found.count_ones() as usize);
    let mut at = body;
    if found == 0 {
        out.extend_from_slice(&data[at..*pos]);
    } else {
        for _ in 0..pairs {
            let key = at;
            let index = field_at(data, &mut at, fields)?;
            let value = at;
            msgpack::skip_value(data, &mut at)?;
            out.extend_from_slice(&data[key..value]);
            match index {
                Some(index) => out.extend_from_slice(&fields[index].pair[fields[index].value_at..]),
                None => out.extend_from_slice(&data[value..at]),
            }
        }
    }
    for (index, field) in fields.iter().enumerate() {
        if found & 1 << index == 0 {
            out.extend_from_slice(&field.pair);
        }
    }
    Ok(())
}

/// Which fields the record has already, as bits.
fn present(data: &[u8], body: usize, pairs: usize, fields: &[Field]) -> Result<u32, Malformed> {
    let (mut at, mut found) = (body, 0);
    for _ in 0..pairs {
        if let Some(index) = field_at(data, &mut at, fields)? {
            found |= 1 << index;
        }
        msgpack::skip_value(data, &mut at)?;
    }
    Ok(found)
}

/// Moves `at` behind the key there; which field has that name.
fn field_at(data: &[u8], at: &mut usize, fields: &[Field]) -> Result<Option<usize>, Malformed> {
    let start = *at;
    msgpack::skip_value(data, at)?;
    Ok(match msgpack::read_token(data, &mut { start })? {
        Token::Str(name) | Token::Bin(name) => fields.iter().position(|field| *field.name == *name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT_TIME: &[u8] = b"\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x01";
    const NOW: &[u8] = b"\xd7\x00\x00\x00\x00\x01\x00\x00\x00\x00";

    fn all(data: &[u8], lenient: bool, fields: &[Field]) -> Result<Vec<u8>, Refused> {
        let checks = Checks { lenient, keep_zero: false, now_ns: 1_000_000_000 };
        let (mut pos, mut out) = (0, Vec::new());
        normalise(data, &mut pos, &checks, fields, &mut out).inspect_err(|_| assert!(out.is_empty()))?;
        assert_eq!(pos, data.len());
        Ok(out)
    }

    #[test]
    fn forms_of_an_entry() {
        let entry = |time: &[u8]| [b"\x92", time, b"\x81\xa1a\x01"].concat();
        for (given, strict, lenient) in [
            (entry(b"\xce\x65\x53\xf1\x00"), Some(entry(b"\xce\x65\x53\xf1\x00")), None),
            (entry(EVENT_TIME), Some(entry(EVENT_TIME)), None),
            (entry(b"\x05"), Some(entry(b"\x05")), None),
            (entry(b"\xff"), Some(entry(b"\xff")), None),
            (entry(b"\x00"), Some(entry(NOW)), None),
            (entry(b"\xd7\x00\0\0\0\0\0\0\0\x01"), Some(entry(NOW)), None),
            (entry(b"\xc0"), None, Some(entry(NOW))),
            (
                entry(b"\xcb\x3f\xf8\0\0\0\0\0\0"),
                None,
                Some(entry(b"\xd7\x00\x00\x00\x00\x01\x1d\xcd\x65\x00")),
            ),
            (entry(b"\xa1x"), None, Some(entry(NOW))), // what Ruby's to_i makes 0 of
            (entry(b"\xa15"), None, None),
            (
                [b"\x92\x92", EVENT_TIME, b"\x80\x80"].concat(),
                Some([b"\x92", EVENT_TIME, b"\x80"].concat()),
                None,
            ),
            (b"\x93\x05\x80\xc0".to_vec(), Some(b"\x92\x05\x80".to_vec()), None),
            (b"\xdc\x00\x02\x05\x80".to_vec(), Some(b"\x92\x05\x80".to_vec()), None),
            (b"\x92\x05\x90".to_vec(), None, None),
            (b"\x92\x05\xc0".to_vec(), None, None),
            (b"\x91\x05".to_vec(), None, None),
            (b"\x90".to_vec(), None, None),
            (b"\x80".to_vec(), None, None),
            (b"\x07".to_vec(), None, None),
        ] {
            assert_eq!(all(&given, false, &[]).ok(), strict, "{given:x?}");
            assert_eq!(all(&given, true, &[]).ok(), lenient.or(strict), "{given:x?}");
        }
        assert_eq!(all(b"\x92\x05", false, &[]), Err(Refused::Broken(Malformed::Truncated)));
        assert_eq!(all(b"\x92\x05\xc1", false, &[]), Err(Refused::Invalid.into_broken()));
    }

    impl Refused {
        fn into_broken(self) -> Self {
            // an invalid entry that cannot be skipped either is broken
            Refused::Broken(Malformed::Reserved)
        }
    }

    #[test]
    fn fields_replace_where_they_stand_or_follow() {
        let fields = [Field::text(&Arc::from(&b"a"[..]), b"X"), Field::text(&Arc::from(&b"h"[..]), b"Y")];
        assert_eq!(
            all(b"\x92\x05\x82\xa1a\x01\xa1b\x02", false, &fields),
            Ok(b"\x92\x05\x83\xa1a\xa1X\xa1b\x02\xa1h\xa1Y".to_vec())
        );
        assert_eq!(all(b"\x92\x05\x80", false, &fields), Ok(b"\x92\x05\x82\xa1a\xa1X\xa1h\xa1Y".to_vec()));
        assert!(all(b"\x92\x05\xdf\xff\xff\xff\xff\xa1a", false, &fields).is_err());
    }

    #[test]
    fn canonical_entries_are_counted_and_others_stop_the_walk() {
        let mut data = Vec::new();
        for _ in 0..3 {
            data.extend([b"\x92", EVENT_TIME, b"\x81\xa1a\x92\x01\x02"].concat());
        }
        let good = data.len();
        for (rest, most, count) in [
            (&b""[..], usize::MAX, 3),
            (b"", 2, 2),
            (b"\x92\x00\x80", usize::MAX, 3),
            (b"\x92\xce\x65\x53\xf1\x00", usize::MAX, 3),
            (b"\x92\xce\x65\x53\xf1\x00\x81\xa1a", usize::MAX, 3),
            (b"\x92\xce\x65\x53\xf1\x00\x80", usize::MAX, 4),
        ] {
            let data = [&data, rest].concat();
            let mut pos = 0;
            assert_eq!(canonical(&data, &mut pos, most), count, "{rest:x?}");
            if count == 3 {
                assert_eq!(pos, good);
            }
        }
    }
}

//! MessagePack as event streams use it: writing values, and walking over them without decoding.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>; `EventTime` is ext type 0 with
//! seconds and nanoseconds as big-endian u32 (Fluentd Forward Protocol v1, "EventTime Ext Format").

use std::fmt;

use crate::time::exact_nanos;

/// How deep arrays and maps may nest before a stream is refused as hostile.
pub const MAX_DEPTH: u32 = 512;

/// Why bytes are not a well-formed MessagePack value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside a value.
    Truncated,
    /// 0xc1, which MessagePack never uses.
    Reserved,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Well-formed, but not an event entry `[time, record]`.
    NotAnEntry,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "the bytes end inside a MessagePack value",
            Malformed::Reserved => "byte 0xc1 is not MessagePack",
            Malformed::TooDeep => "MessagePack nested deeper than 512 levels",
            Malformed::NotAnEntry => "expected an entry [time, record] with a map as record",
        })
    }
}

impl std::error::Error for Malformed {}

// ---------------------------------------------------------------- writing

/// Appends the header of a `str` of `len` bytes.
#[inline]
pub fn write_str_header(out: &mut Vec<u8>, len: usize) {
    if len < 32 {
        out.push(0xa0 | len as u8);
    } else if len < 1 << 8 {
        out.extend_from_slice(&[0xd9, len as u8]);
    } else if len < 1 << 16 {
        out.push(0xda);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xdb);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

/// Appends `text` as `str`; the caller knows that it is valid UTF-8.
#[inline]
pub fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    write_str_header(out, text.len());
    out.extend_from_slice(text);
}

/// Appends `data` as `bin`.
pub fn write_bin(out: &mut Vec<u8>, data: &[u8]) {
    let len = data.len();
    if len < 1 << 8 {
        out.extend_from_slice(&[0xc4, len as u8]);
    } else if len < 1 << 16 {
        out.push(0xc5);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xc6);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
    out.extend_from_slice(data);
}

/// Appends `text` as `str` where it is valid UTF-8 and as `bin` where not, so that no byte is changed
/// and no strict peer chokes. `known_valid` saves the check.
#[inline]
pub fn write_text(out: &mut Vec<u8>, text: &[u8], known_valid: bool) {
    if known_valid || simdutf8::basic::from_utf8(text).is_ok() {
        write_str(out, text);
    } else {
        write_bin(out, text);
    }
}

/// What [`put_part`] may write beyond a text's length.
pub const PART_ROOM: usize = 5 + PART_BLOCK;
const PART_BLOCK: usize = 32;

/// Writes `part` as `str` to `to` and gives the place behind it. A call of memcpy costs more than the few bytes of
/// most fields: where `part` is a part of `text` that ends early enough, blocks of fixed size are copied.
///
/// # Safety
/// There is room for `part.len() +` [`PART_ROOM`] bytes at `to`.
#[inline(always)]
pub unsafe fn put_part(to: *mut u8, text: &[u8], part: &[u8]) -> *mut u8 {
    let len = part.len();
    // SAFETY: room for a header, the caller's
    let to = unsafe {
        if len < 32 {
            to.write(0xa0 | len as u8);
            to.add(1)
        } else if len < 256 {
            to.cast::<[u8; 2]>().write([0xd9, len as u8]);
            to.add(2)
        } else if let Ok(len) = u16::try_from(len) {
            let [high, low] = len.to_be_bytes();
            to.cast::<[u8; 3]>().write([0xda, high, low]);
            to.add(3)
        } else {
            to.write(0xdb);
            to.add(1).cast::<[u8; 4]>().write((len as u32).to_be_bytes());
            to.add(5)
        }
    };
    let offset = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let blocks = offset <= text.len() && len < 256 && text.len() - offset >= len + PART_BLOCK;
    // SAFETY: there is room for the text and a block; `text` can be read a block beyond the part, where it says so.
    unsafe {
        if blocks {
            let from = text.as_ptr().add(offset);
            let mut at = 0;
            while at < len {
                to.add(at).copy_from_nonoverlapping(from.add(at), PART_BLOCK);
                at += PART_BLOCK;
            }
        } else {
            to.copy_from_nonoverlapping(part.as_ptr(), len);
        }
        to.add(len)
    }
}

/// Appends an unsigned integer in its shortest form.
#[inline]
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    if value < 128 {
        out.push(value as u8);
    } else if value < 1 << 8 {
        out.extend_from_slice(&[0xcc, value as u8]);
    } else if value < 1 << 16 {
        out.push(0xcd);
        out.extend_from_slice(&(value as u16).to_be_bytes());
    } else if value < 1 << 32 {
        out.push(0xce);
        out.extend_from_slice(&(value as u32).to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a signed integer in its shortest form.
#[inline]
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    if value >= 0 {
        write_uint(out, value as u64);
    } else if value >= -32 {
        out.push(value as i8 as u8);
    } else if value >= i64::from(i8::MIN) {
        out.extend_from_slice(&[0xd0, value as i8 as u8]);
    } else if value >= i64::from(i16::MIN) {
        out.push(0xd1);
        out.extend_from_slice(&(value as i16).to_be_bytes());
    } else if value >= i64::from(i32::MIN) {
        out.push(0xd2);
        out.extend_from_slice(&(value as i32).to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a float64.
#[inline]
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends nil.
#[inline]
pub fn write_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Appends a boolean.
#[inline]
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// Appends the header of an array of `len` values.
#[inline]
pub fn write_array_header(out: &mut Vec<u8>, len: usize) {
    if len < 16 {
        out.push(0x90 | len as u8);
    } else if len < 1 << 16 {
        out.push(0xdc);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xdd);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

/// Appends the header of a map of `len` pairs.
#[inline]
pub fn write_map_header(out: &mut Vec<u8>, len: usize) {
    if len < 16 {
        out.push(0x80 | len as u8);
    } else if len < 1 << 16 {
        out.push(0xde);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xdf);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

/// Appends an `EventTime`. `time_ns` is nanoseconds since the epoch; seconds wrap at u32 as the
/// protocol's field does, so a time before 1970 or after 2106 is clamped to what it can hold.
#[inline]
pub fn write_event_time(out: &mut Vec<u8>, time_ns: i64) {
    let seconds = time_ns.div_euclid(1_000_000_000).clamp(0, i64::from(u32::MAX)) as u32;
    let nanos = if time_ns < 0 { 0 } else { time_ns.rem_euclid(1_000_000_000) as u32 };
    let mut bytes = [0u8; 10];
    bytes[0] = 0xd7;
    bytes[2..6].copy_from_slice(&seconds.to_be_bytes());
    bytes[6..10].copy_from_slice(&nanos.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends the start of an entry: the array header and the time. The record must follow.
#[inline]
pub fn write_entry_start(out: &mut Vec<u8>, time_ns: i64) {
    out.push(0x92);
    write_event_time(out, time_ns);
}

// ---------------------------------------------------------------- walking

/// One value's head: what it is, and where its payload or its first child starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// nil
    Nil,
    /// true or false
    Bool(bool),
    /// A non-negative integer.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    /// A float; float32 is widened.
    Float(f64),
    /// A string's bytes, which need not be UTF-8.
    Str(&'a [u8]),
    /// Binary data.
    Bin(&'a [u8]),
    /// An extension value: type and data.
    Ext(i8, &'a [u8]),
    /// An array of so many values, which follow.
    Array(usize),
    /// A map of so many pairs, which follow.
    Map(usize),
}

#[inline]
fn take<'a>(data: &'a [u8], pos: &mut usize, len: usize) -> Result<&'a [u8], Malformed> {
    let end = pos.checked_add(len).ok_or(Malformed::Truncated)?;
    let part = data.get(*pos..end).ok_or(Malformed::Truncated)?;
    *pos = end;
    Ok(part)
}

#[inline]
fn be(data: &[u8], pos: &mut usize, len: usize) -> Result<u64, Malformed> {
    Ok(take(data, pos, len)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Reads the token at `pos` and moves `pos` behind its head (behind the whole value for scalars).
///
/// # Errors
/// [`Malformed`] for truncated bytes and for 0xc1.
#[inline]
pub fn read_token<'a>(data: &'a [u8], pos: &mut usize) -> Result<Token<'a>, Malformed> {
    let first = *data.get(*pos).ok_or(Malformed::Truncated)?;
    *pos += 1;
    Ok(match first {
        0x00..=0x7f => Token::Uint(u64::from(first)),
        0x80..=0x8f => Token::Map(usize::from(first & 0x0f)),
        0x90..=0x9f => Token::Array(usize::from(first & 0x0f)),
        0xa0..=0xbf => Token::Str(take(data, pos, usize::from(first & 0x1f))?),
        0xc0 => Token::Nil,
        0xc1 => return Err(Malformed::Reserved),
        0xc2 => Token::Bool(false),
        0xc3 => Token::Bool(true),
        0xc4..=0xc6 => {
            let len = be(data, pos, 1 << (first - 0xc4))? as usize;
            Token::Bin(take(data, pos, len)?)
        }
        0xc7..=0xc9 => {
            let len = be(data, pos, 1 << (first - 0xc7))? as usize;
            let kind = be(data, pos, 1)? as u8 as i8;
            Token::Ext(kind, take(data, pos, len)?)
        }
        0xca => Token::Float(f64::from(f32::from_bits(be(data, pos, 4)? as u32))),
        0xcb => Token::Float(f64::from_bits(be(data, pos, 8)?)),
        0xcc..=0xcf => Token::Uint(be(data, pos, 1 << (first - 0xcc))?),
        0xd0..=0xd3 => {
            let width = 1 << (first - 0xd0);
            let raw = be(data, pos, width)?;
            let shift = 64 - 8 * width as u32;
            let value = ((raw << shift) as i64) >> shift;
            if value >= 0 { Token::Uint(value as u64) } else { Token::Int(value) }
        }
        0xd4..=0xd8 => {
            let kind = be(data, pos, 1)? as u8 as i8;
            Token::Ext(kind, take(data, pos, 1 << (first - 0xd4))?)
        }
        0xd9..=0xdb => {
            let len = be(data, pos, 1 << (first - 0xd9))? as usize;
            Token::Str(take(data, pos, len)?)
        }
        0xdc | 0xdd => Token::Array(be(data, pos, if first == 0xdc { 2 } else { 4 })? as usize),
        0xde | 0xdf => Token::Map(be(data, pos, if first == 0xde { 2 } else { 4 })? as usize),
        0xe0..=0xff => Token::Int(i64::from(first as i8)),
    })
}

/// Sizes in bytes of the values whose first byte tells it all; 0: another.
pub(crate) const SIZES: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut first = 0;
    while first < 256 {
        sizes[first] = match first {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 1,
            0xa0..=0xbf => 1 + (first as u8 & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            0xd4..=0xd8 => 2 + (1 << (first - 0xd4)),
            _ => 0,
        };
        first += 1;
    }
    sizes
};

/// Moves `pos` behind the value that starts there.
///
/// # Errors
/// [`Malformed`] for truncated, reserved or too deeply nested bytes; `pos` is then anywhere.
#[inline(always)]
pub fn skip_value(data: &[u8], pos: &mut usize) -> Result<(), Malformed> {
    let Some(&first) = data.get(*pos) else { return Err(Malformed::Truncated) };
    let size = match SIZES[usize::from(first)] {
        0 if first == 0xd9 => match data.get(*pos + 1) {
            Some(len) => 2 + usize::from(*len),
            None => return Err(Malformed::Truncated),
        },
        0 => return skip_other(data, pos, 0),
        size => usize::from(size),
    };
    if data.len() - *pos < size {
        return Err(Malformed::Truncated);
    }
    *pos += size;
    Ok(())
}

/// The rarer kinds; `depth` counts the arrays and maps around the value.
fn skip_other(data: &[u8], pos: &mut usize, depth: u32) -> Result<(), Malformed> {
    match read_token(data, pos)? {
        Token::Array(len) => skip_children(data, pos, len, depth + 1),
        Token::Map(len) => skip_children(data, pos, len.saturating_mul(2), depth + 1),
        _ => Ok(()),
    }
}

/// Reads a map key that is a string of less than 256 bytes and moves `pos` behind it. None, and `pos`
/// unmoved, for any other.
#[inline(always)]
pub fn read_short_key<'a>(data: &'a [u8], pos: &mut usize) -> Option<&'a [u8]> {
    let first = *data.get(*pos)?;
    let (start, len) = match first {
        0xa0..=0xbf => (*pos + 1, usize::from(first & 0x1f)),
        0xd9 => (*pos + 2, usize::from(*data.get(*pos + 1)?)),
        _ => return None,
    };
    let key = data.get(start..start + len)?;
    *pos = start + len;
    Some(key)
}

fn skip_children(data: &[u8], pos: &mut usize, count: usize, depth: u32) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::TooDeep);
    }
    for _ in 0..count {
        match data.get(*pos) {
            // only what nests can go deeper
            Some(0x80..=0x9f | 0xdc..=0xdf) => skip_other(data, pos, depth)?,
            _ => skip_value(data, pos)?,
        }
    }
    Ok(())
}

/// One entry's parts as slices of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The time as it stands in the stream (`EventTime`, or an integer or float of seconds).
    pub time_bytes: &'a [u8],
    /// How many pairs the record has.
    pub pairs: usize,
    /// The record's pairs, without the map header.
    pub body: &'a [u8],
    /// The whole entry.
    pub bytes: &'a [u8],
}

/// Reads an entry's array header, time and map header at `pos` and moves `pos` to its first pair. Gives the
/// time in nanoseconds, where it starts and ends, and the number of pairs.
///
/// # Errors
/// [`Malformed::NotAnEntry`] for another shape, the others for broken bytes.
#[inline]
pub fn read_entry_head(data: &[u8], pos: &mut usize) -> Result<(i64, (usize, usize), usize), Malformed> {
    let Token::Array(2) = read_token(data, pos)? else {
        return Err(Malformed::NotAnEntry);
    };
    let time_start = *pos;
    let time_ns = match read_token(data, pos)? {
        Token::Ext(0, raw) if raw.len() == 8 => {
            let seconds = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
            let nanos = u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]);
            i64::from(seconds) * 1_000_000_000 + i64::from(nanos)
        }
        Token::Uint(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000),
        Token::Int(seconds) => seconds.saturating_mul(1_000_000_000),
        Token::Float(seconds) => exact_nanos(seconds).unwrap_or((seconds * 1e9) as i64),
        _ => return Err(Malformed::NotAnEntry),
    };
    let time = (time_start, *pos);
    let Token::Map(pairs) = read_token(data, pos)? else {
        return Err(Malformed::NotAnEntry);
    };
    Ok((time_ns, time, pairs))
}

/// Reads the entry at `pos` and moves `pos` behind it.
///
/// # Errors
/// As [`read_entry_head`].
#[inline]
pub fn read_entry<'a>(data: &'a [u8], pos: &mut usize) -> Result<Entry<'a>, Malformed> {
    let start = *pos;
    let (time_ns, time, pairs) = read_entry_head(data, pos)?;
    let body_start = *pos;
    skip_children(data, pos, pairs.saturating_mul(2), 1)?;
    Ok(Entry {
        time_ns,
        time_bytes: &data[time.0..time.1],
        pairs,
        body: &data[body_start..*pos],
        bytes: &data[start..*pos],
    })
}

/// Iterates over a stream's entries; ends after the first malformed one.
pub struct Entries<'a> {
    data: &'a [u8],
    pos: usize,
}

impl<'a> Entries<'a> {
    /// Over all of `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Entries { data, pos: 0 }
    }

    /// Where the next entry starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.pos >= self.data.len() {
            return None;
        }
        let entry = read_entry(self.data, &mut self.pos);
        if entry.is_err() {
            self.pos = self.data.len();
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives_a_round_trip() {
        for value in [0i64, 1, 127, 128, 255, 256, 65535, 65536, i64::from(u32::MAX), i64::MAX] {
            let mut out = Vec::new();
            write_int(&mut out, value);
            let mut pos = 0;
            assert_eq!(read_token(&out, &mut pos), Ok(Token::Uint(value as u64)));
            assert_eq!(pos, out.len());
        }
        for value in [-1i64, -32, -33, -128, -129, -32768, -32769, i64::from(i32::MIN), i64::MIN] {
            let mut out = Vec::new();
            write_int(&mut out, value);
            let mut pos = 0;
            assert_eq!(read_token(&out, &mut pos), Ok(Token::Int(value)));
        }
        for len in [0usize, 1, 31, 32, 255, 256, 65535, 65536] {
            let text = vec![b'x'; len];
            let mut out = Vec::new();
            write_text(&mut out, &text, false);
            let mut pos = 0;
            assert_eq!(read_token(&out, &mut pos), Ok(Token::Str(&text)));
        }
    }

    #[test]
    fn skipping_agrees_with_reading_for_every_first_byte() {
        for first in 0..=255u8 {
            let mut data = vec![first];
            data.extend_from_slice(&[0; 40]);
            let (mut read, mut skipped) = (0, 0);
            let token = read_token(&data, &mut read);
            let outcome = skip_value(&data, &mut skipped);
            assert_eq!(token.is_err(), outcome.is_err(), "{first:#x}");
            if !matches!(token, Err(_) | Ok(Token::Array(_) | Token::Map(_))) {
                assert_eq!(read, skipped, "{first:#x}");
                assert_eq!(skip_value(&data[..read - 1], &mut 0), Err(Malformed::Truncated), "{first:#x}");
            }
        }
    }

    #[test]
    fn entries_stop_at_the_first_malformed_one() {
        let mut out = Vec::new();
        write_entry_start(&mut out, 1_700_000_000_123_456_789);
        write_map_header(&mut out, 1);
        write_str(&mut out, b"k");
        write_bin(&mut out, &[0xff]);
        let good = out.len();
        out.extend_from_slice(&[0x92, 0xc1]);
        let mut entries = Entries::new(&out);
        let first = entries.next().unwrap().unwrap();
        assert_eq!(first.time_ns, 1_700_000_000_123_456_789);
        assert_eq!((first.pairs, first.bytes.len()), (1, good));
        assert_eq!(entries.next().unwrap().unwrap_err(), Malformed::Reserved);
        assert!(entries.next().is_none());
    }

    #[test]
    fn lengths_that_lie_are_truncated_not_trusted() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdb, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(skip_value(bytes, &mut 0), Err(Malformed::Truncated));
        }
        let deep = vec![0x91; 100_000];
        assert_eq!(skip_value(&deep, &mut 0), Err(Malformed::TooDeep));
    }
}

//! MessagePack -> JSON text in one pass, straight from bytes.
//!
//! The building blocks compose: [`write_record`] for a whole object, [`write_pairs`] for its inside (so
//! that a caller can put fields of its own before or after), [`write_string`] for one string. All append
//! to a `Vec<u8>` and always give valid JSON (RFC 8259):
//!
//! - Escaped are `"`, `\` and the control characters below U+0020 (`\b \t \n \f \r`, others `\u00XX`);
//!   `/`, `<`, `&`, U+007F, U+2028 and all else stand as they are, as Fluentd writes them.
//! - Bytes that are not UTF-8 become U+FFFD, one for each maximal ill-formed part (Unicode 16, 3.9).
//! - Keys that are no strings become strings as Ruby's `to_s` writes them; nil becomes "".
//! - NaN and the infinities become null: JSON has no form for them (Fluentd writes NaN).
//! - An `EventTime` inside a record becomes its integer seconds, as in Fluentd; other ext values and
//!   binary data become strings.
//! - Floats have the fewest digits that read back the same; their layout is [`Floats`].

mod scan;

use std::ptr;

use crate::msgpack::{MAX_DEPTH, Malformed, Token, read_token};
use crate::ruby_inspect;

/// How floats are laid out. They differ only in -0.0 and in whole numbers from 1e15 to 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Floats {
    /// As Oj does (Fluentd's formatter `json`): whole numbers below 2^63 without exponent, `-0.0` as `0.0`.
    #[default]
    Oj,
    /// As Ruby's `Float#to_s` and its json library do: an exponent from 1e15 on.
    Ruby,
}

/// Appends `pairs` key/value pairs, which are at the start of `body`, as a JSON object.
///
/// # Errors
/// [`Malformed`] for bytes that are no MessagePack (an [`crate::msgpack::Entry`]'s body never is); `out` is
/// then as it was.
#[inline]
pub fn write_record(out: &mut Vec<u8>, body: &[u8], pairs: usize) -> Result<(), Malformed> {
    write_record_at(out, body, &mut 0, pairs, Floats::Oj)
}

/// As [`write_record`], from `pos` on; moves `pos` behind the pairs.
///
/// # Errors
/// As [`write_record`].
#[inline]
pub fn write_record_at(
    out: &mut Vec<u8>,
    data: &[u8],
    pos: &mut usize,
    pairs: usize,
    floats: Floats,
) -> Result<(), Malformed> {
    let mut sink = Sink::new(out, floats);
    if pairs == 0 {
        sink.bytes(b"{}");
    } else {
        sink.bytes(b"{");
        *pos = sink.pairs(data, *pos, pairs, 1)?;
        sink.unput();
        sink.bytes(b"}");
    }
    sink.commit();
    Ok(())
}

/// Appends the pairs without the braces: `"a":1,"b":2`. Nothing at all for no pairs.
///
/// # Errors
/// As [`write_record`].
pub fn write_pairs(out: &mut Vec<u8>, body: &[u8], pairs: usize) -> Result<(), Malformed> {
    let mut sink = Sink::new(out, Floats::Oj);
    sink.pairs(body, 0, pairs, 1)?;
    if pairs > 0 {
        sink.unput();
    }
    sink.commit();
    Ok(())
}

/// Appends the value at `pos`, and moves `pos` behind it.
///
/// # Errors
/// As [`write_record`].
pub fn write_value(out: &mut Vec<u8>, data: &[u8], pos: &mut usize, floats: Floats) -> Result<(), Malformed> {
    let mut sink = Sink::new(out, floats);
    *pos = sink.value(data, *pos, 1)?;
    sink.unput();
    sink.commit();
    Ok(())
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    let mut sink = Sink::new(out, Floats::Oj);
    sink.quoted(text, 0, text.len(), b' ');
    sink.unput();
    sink.commit();
}

/// Appends `value`; null for NaN and infinities.
pub fn write_float(out: &mut Vec<u8>, value: f64, floats: Floats) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
    } else if floats == Floats::Oj && value.abs() < 9_223_372_036_854_775_808.0 && value.trunc() == value {
        // whole, so that the cast is exact; it also turns -0.0 into 0
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        out.extend_from_slice(b".0");
    } else {
        ruby_inspect::write_float(out, value);
    }
}

/// Where the text goes: the spare room of a vector, written through raw pointers and made part of the
/// vector by `commit`. Without `commit` (an error on the way) the vector is as it was.
///
/// Invariant: `at <= end`, both inside (or one behind) the vector's allocation.
struct Sink<'a> {
    vec: &'a mut Vec<u8>,
    at: *mut u8,
    end: *mut u8,
    floats: Floats,
}

impl<'a> Sink<'a> {
    #[inline]
    fn new(vec: &'a mut Vec<u8>, floats: Floats) -> Self {
        let spare = vec.spare_capacity_mut().as_mut_ptr_range();
        let (at, end) = (spare.start.cast(), spare.end.cast());
        Sink { vec, at, end, floats }
    }

    /// Makes everything written part of the vector.
    #[inline]
    fn commit(self) {
        let len = self.at as usize - self.vec.as_ptr() as usize;
        // SAFETY: the bytes up to `at` were written, and `at` is within the allocation (invariant).
        unsafe { self.vec.set_len(len) };
    }

    /// Makes room for `count` more bytes.
    #[inline(always)]
    fn need(&mut self, count: usize) {
        if (self.end as usize) - (self.at as usize) < count {
            self.grow(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, count: usize) {
        let committed = self.vec.len();
        let written = self.at as usize - self.vec.as_ptr() as usize;
        // SAFETY: as in `commit`. The length is set back at once, so that a later error still leaves
        // the vector as it was; `reserve` in between has to copy what was written so far.
        unsafe {
            self.vec.set_len(written);
            self.vec.reserve(count);
            self.at = self.vec.as_mut_ptr().add(written);
            self.end = self.vec.as_mut_ptr().add(self.vec.capacity());
            self.vec.set_len(committed);
        }
    }

    /// Appends one byte, for which `need` has made room.
    #[inline(always)]
    fn put(&mut self, byte: u8) {
        debug_assert!(self.at < self.end);
        // SAFETY: the caller has seen to the room; `at` stays within the allocation.
        unsafe {
            *self.at = byte;
            self.at = self.at.add(1);
        }
    }

    /// Appends bytes; makes the room itself.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.need(bytes.len());
        // SAFETY: there is room, and a vector's spare room does not overlap a borrowed slice.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.at = self.at.add(bytes.len());
        }
    }

    /// Takes back the last byte.
    #[inline]
    fn unput(&mut self) {
        debug_assert!(self.at as usize > self.vec.as_ptr() as usize);
        // SAFETY: called behind a byte that was just written.
        self.at = unsafe { self.at.sub(1) };
    }

    /// Writes pairs without braces, a comma behind each; gives the position behind them.
    fn pairs(&mut self, data: &[u8], mut pos: usize, pairs: usize, depth: u32) -> Result<usize, Malformed> {
        for _ in 0..pairs {
            if let Some(after) = self.short_pair(data, pos) {
                pos = after;
                continue;
            }
            match data.get(pos) {
                Some(&first @ 0xa0..=0xbf) => {
                    let start = pos + 1;
                    pos = start + usize::from(first & 0x1f);
                    if pos > data.len() {
                        return Err(Malformed::Truncated);
                    }
                    self.quoted(data, start, pos, b':');
                }
                _ => pos = self.odd_key(data, pos)?,
            }
            pos = self.value(data, pos, depth)?;
        }
        Ok(pos)
    }

    /// A pair of a key up to 31 and a string up to 255 bytes that need no escapes: what nearly all records are
    /// made of. One check of the room for both, and no other. None, and nothing is written: it is another pair, or
    /// at the end of the stream.
    #[inline(always)]
    fn short_pair(&mut self, data: &[u8], pos: usize) -> Option<usize> {
        let pair = data.get(pos..pos + PAIR)?;
        self.need(PAIR + 6);
        let key_len = usize::from(pair[0] ^ 0xa0);
        if key_len > 31 {
            return None;
        }
        // SAFETY: `pair` has PAIR bytes, the longest key and value with a block behind each, and `need` left room
        // for them with quotes, colon and comma: `copy_clean` reads and writes a block more than `len` at most.
        unsafe {
            let mut out = self.at;
            out.write(b'"');
            out = copy_clean(pair.as_ptr().add(1), out.add(1), key_len)?;
            out.cast::<[u8; 3]>().write(*b"\":\"");
            let first = *pair.get_unchecked(1 + key_len);
            let (start, len) = match first {
                0xa0..=0xbf => (key_len + 2, usize::from(first & 0x1f)),
                0xd9 => (key_len + 3, usize::from(*pair.get_unchecked(key_len + 2))),
                _ => return None,
            };
            out = copy_clean(pair.as_ptr().add(start), out.add(3), len)?;
            out.cast::<[u8; 2]>().write(*b"\",");
            self.at = out.add(2);
            Some(pos + start + len)
        }
    }

    /// A key that is long or no string.
    #[cold]
    fn odd_key(&mut self, data: &[u8], pos: usize) -> Result<usize, Malformed> {
        let mut after = pos;
        if let Token::Str(text) | Token::Bin(text) = read_token(data, &mut after)? {
            self.quoted(text, 0, text.len(), b':');
            return Ok(after);
        }
        let mut text = Vec::new();
        let mut after = pos;
        ruby_inspect::write_to_s(&mut text, data, &mut after)?;
        self.quoted(&text, 0, text.len(), b':');
        Ok(after)
    }

    /// Writes a value and a comma; gives the position behind the value.
    #[inline]
    fn value(&mut self, data: &[u8], pos: usize, depth: u32) -> Result<usize, Malformed> {
        let first = *data.get(pos).ok_or(Malformed::Truncated)?;
        // the strings of nearly every record: up to 31, and up to 255 bytes
        let (start, len) = match first {
            0xa0..=0xbf => (pos + 1, usize::from(first & 0x1f)),
            0xd9 => (pos + 2, usize::from(*data.get(pos + 1).ok_or(Malformed::Truncated)?)),
            _ => return self.other_value(data, pos, depth),
        };
        let end = start + len;
        if end > data.len() {
            return Err(Malformed::Truncated);
        }
        self.quoted(data, start, end, b',');
        Ok(end)
    }

    fn other_value(&mut self, data: &[u8], mut pos: usize, depth: u32) -> Result<usize, Malformed> {
        match read_token(data, &mut pos)? {
            Token::Nil => self.bytes(b"null,"),
            Token::Bool(true) => self.bytes(b"true,"),
            Token::Bool(false) => self.bytes(b"false,"),
            Token::Uint(value) => self.number(itoa::Buffer::new().format(value).as_bytes()),
            Token::Int(value) => self.number(itoa::Buffer::new().format(value).as_bytes()),
            Token::Float(value) => {
                let mut text = Vec::with_capacity(32);
                write_float(&mut text, value, self.floats);
                self.number(&text);
            }
            Token::Ext(0, raw) if raw.len() == 8 => {
                let seconds = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
                self.number(itoa::Buffer::new().format(seconds).as_bytes());
            }
            Token::Str(text) | Token::Bin(text) | Token::Ext(_, text) => {
                self.quoted(text, 0, text.len(), b',');
            }
            Token::Array(0) => self.bytes(b"[],"),
            Token::Map(0) => self.bytes(b"{},"),
            Token::Array(_) | Token::Map(_) if depth >= MAX_DEPTH => return Err(Malformed::TooDeep),
            Token::Array(len) => {
                self.bytes(b"[");
                for _ in 0..len {
                    pos = self.value(data, pos, depth + 1)?;
                }
                self.unput();
                self.bytes(b"],");
            }
            Token::Map(len) => {
                self.bytes(b"{");
                pos = self.pairs(data, pos, len, depth + 1)?;
                self.unput();
                self.bytes(b"},");
            }
        }
        Ok(pos)
    }

    /// Appends digits and a comma.
    #[inline]
    fn number(&mut self, digits: &[u8]) {
        self.need(digits.len() + 1);
        self.bytes(digits);
        self.put(b',');
    }

    /// Writes `data[from..to]` as a JSON string and `after` behind it. What lies behind `to` in `data` is read
    /// (whole blocks are loaded) and never written. Panics unless `from <= to <= data.len()`.
    #[inline]
    fn quoted(&mut self, data: &[u8], from: usize, to: usize, after: u8) {
        assert!(from <= to && to <= data.len());
        // two quotes, the byte behind them, and the last block's bytes that do not count
        self.need(to - from + 3 + scan::WIDTH);
        let mut at = from;
        // Kept out of `self` in the loop: through memory, each step would wait for the one before.
        let mut out = self.at;
        // SAFETY: `need` left room for all that is written here: the quotes and `after`, every byte of
        // `from..to` (the loop writes as many as it reads), and one block more. WIDTH bytes can be read at
        // `at`, which is checked.
        unsafe {
            *out = b'"';
            out = out.add(1);
            while at < to {
                let clean = if data.len() - at < scan::WIDTH {
                    0
                } else {
                    scan::copy_ascii(data.as_ptr().add(at), out)
                };
                let count = clean.min(to - at);
                at += count;
                out = out.add(count);
                if count < scan::WIDTH && at < to {
                    self.at = out;
                    return self.quoted_rest(data, at, to, after, false);
                }
            }
            *out = b'"';
            *out.add(1) = after;
            self.at = out.add(2);
        }
    }

    /// As `quoted`, after the opening quote: with escapes, other characters than ASCII, and the last bytes
    /// of the stream. `valid`: the bytes are known to be UTF-8.
    #[inline(never)]
    fn quoted_rest(&mut self, data: &[u8], from: usize, to: usize, after: u8, mut valid: bool) {
        let mut at = from;
        while at < to {
            self.need(to - at + 8 + scan::WIDTH);
            if data.len() - at >= scan::WIDTH {
                // SAFETY: WIDTH bytes can be read at `at`, and `need` has made the room.
                let clean = unsafe {
                    if valid {
                        scan::copy_text(data.as_ptr().add(at), self.at)
                    } else {
                        scan::copy_ascii(data.as_ptr().add(at), self.at)
                    }
                };
                let count = clean.min(to - at);
                at += count;
                // SAFETY: `count` of these bytes were just written.
                self.at = unsafe { self.at.add(count) };
                if count == scan::WIDTH || at == to {
                    continue;
                }
            }
            let byte = data[at];
            if byte >= 0x80 && !valid {
                if simdutf8::basic::from_utf8(&data[at..to]).is_err() {
                    return self.quoted_lossy(&data[at..to], after);
                }
                valid = true;
                continue;
            }
            at += 1;
            match ESCAPES[usize::from(byte)] {
                0 => self.put(byte),
                b'u' => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    let hex = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    self.bytes(&[b'\\', b'u', b'0', b'0', hex[0], hex[1]]);
                }
                letter => self.bytes(&[b'\\', letter]),
            }
        }
        self.bytes(&[b'"', after]);
    }

    #[cold]
    fn quoted_lossy(&mut self, text: &[u8], after: u8) {
        let mut fixed = String::with_capacity(text.len() + 16);
        for chunk in text.utf8_chunks() {
            fixed.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                fixed.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.quoted_rest(fixed.as_bytes(), 0, fixed.len(), after, true);
    }
}

/// The longest pair of [`Sink::short_pair`]: headers, 31 bytes of key and 255 of value, and a block.
const PAIR: usize = 3 + 31 + 255 + scan::WIDTH;

/// Copies `len` bytes in blocks; gives the place behind them. None: one of them must be looked at.
///
/// # Safety
/// From both pointers on there are `len` bytes and a block behind them.
#[inline(always)]
unsafe fn copy_clean(from: *const u8, to: *mut u8, len: usize) -> Option<*mut u8> {
    let mut at = 0;
    loop {
        // SAFETY: the caller's: `at <= len`
        let clean = unsafe { scan::copy_ascii(from.add(at), to.add(at)) };
        if clean < scan::WIDTH {
            // SAFETY: as above
            return (at + clean >= len).then(|| unsafe { to.add(len) });
        }
        at += scan::WIDTH;
        if at >= len {
            // SAFETY: as above
            return Some(unsafe { to.add(len) });
        }
    }
}

/// byte -> the letter behind the backslash; `u`: `\u00XX`; 0: as it is.
static ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

#[cfg(test)]
mod tests;

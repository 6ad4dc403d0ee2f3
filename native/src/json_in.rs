//! JSON to MessagePack in one pass, without a tree in between.
//!
//! RFC 8259, with what Fluentd's default library (Oj) takes beyond it: comments before the end of the value, raw
//! control characters and unknown escapes (`\x` is `x`) within strings, NaN, Infinity, anything behind a zero
//! byte; and, as there, without escapes for half a surrogate pair. What JSON can say and MessagePack cannot is kept,
//! never changed silently:
//! - a number beyond 64 bits (or beyond a double's range) becomes a string of its digits;
//! - a string that is not UTF-8 becomes `bin`;
//! - of a key that stands twice in an object the last value counts, at the place of the first.

mod duplicates;

use memchr::{memchr, memchr2, memmem};

use crate::msgpack::{
    write_array_header, write_bool, write_float, write_int, write_map_header, write_nil, write_str,
    write_text, write_uint,
};
use crate::parser::Mismatch;
use duplicates::{fingerprint, last_value_counts};

/// How deep arrays and objects may nest; below what MessagePack readers take.
pub const MAX_DEPTH: u32 = 256;
/// Containers deeper than this get a header that need not be moved to grow, so that deeply nested text
/// costs linear time.
const MOVABLE_DEPTH: u32 = 8;
/// Objects with more keys than this look for duplicates once, at their end.
const FEW_KEYS: usize = 64;

/// Appends the one JSON value in `text` as MessagePack.
///
/// # Errors
/// `NoMatch` for what is no JSON, `Limit` for too deep nesting.
pub fn transcode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Mismatch> {
    let mut scratch = Scratch::default();
    let mut reader = Reader::new(text, &mut scratch)?;
    reader.value(out, 1)?;
    reader.end()
}

/// Memory that readers reuse.
#[derive(Debug, Default)]
pub struct Scratch {
    unescaped: Vec<u8>,
    /// Fingerprints of the keys of all objects that are open.
    keys: Vec<u64>,
}

/// What is done with a pair that was just appended: called with the start of the key and of the value.
pub trait PairHook {
    /// May change what is in `out` from `key` on; returns how many pairs stand there now (0 or 1).
    fn pair(&mut self, out: &mut Vec<u8>, key: usize, value: usize) -> usize;
}

/// Leaves pairs as they are.
pub struct NoHook;

impl PairHook for NoHook {
    #[inline]
    fn pair(&mut self, _out: &mut Vec<u8>, _key: usize, _value: usize) -> usize {
        1
    }
}

/// Reads one text.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    valid: bool,
    scratch: &'a mut Scratch,
}

const INVALID: Mismatch = Mismatch::NoMatch;

impl<'a> Reader<'a> {
    /// At the start of `text`.
    ///
    /// # Errors
    /// `Limit` for a text that MessagePack's 32-bit lengths cannot hold.
    pub fn new(text: &'a [u8], scratch: &'a mut Scratch) -> Result<Self, Mismatch> {
        if u32::try_from(text.len()).is_err() {
            return Err(Mismatch::Limit);
        }
        scratch.keys.clear();
        Ok(Reader { text, at: 0, valid: simdutf8::basic::from_utf8(text).is_ok(), scratch })
    }

    /// The next byte that is no white space, without taking it.
    ///
    /// # Errors
    /// `NoMatch` at the end.
    #[inline]
    pub fn peek(&mut self) -> Result<u8, Mismatch> {
        match self.text.get(self.at) {
            Some(byte) if *byte > b' ' && *byte != b'/' => Ok(*byte),
            _ => self.skip_space()?.ok_or(INVALID),
        }
    }

    fn skip_space(&mut self) -> Result<Option<u8>, Mismatch> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\x0c' | b'\r') => self.at += 1,
                Some(b'/') => {
                    let rest = &self.text[self.at + 1..];
                    self.at += match rest.first() {
                        Some(b'*') => memmem::find(&rest[1..], b"*/").ok_or(INVALID)? + 4,
                        Some(b'/') => memchr(b'\n', rest).unwrap_or(rest.len()) + 1,
                        _ => return Err(INVALID),
                    };
                }
                other => return Ok(other.copied()),
            }
        }
    }

    /// Takes the byte that `peek` gave.
    #[inline]
    pub fn take(&mut self) {
        self.at += 1;
    }

    /// Whether nothing but white space follows, or a zero byte.
    ///
    /// # Errors
    /// `NoMatch` where something does.
    pub fn end(&mut self) -> Result<(), Mismatch> {
        let rest = self.text[self.at..].iter().find(|byte| !b" \t\n\x0c\r".contains(byte));
        if matches!(rest, None | Some(0)) { Ok(()) } else { Err(INVALID) }
    }

    /// Appends the next value.
    ///
    /// # Errors
    /// As [`transcode`].
    pub fn value(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<(), Mismatch> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string(out, false)
            }
            b'-' | b'0'..=b'9' => self.number(out),
            b'{' => {
                self.at += 1;
                let header = open(out, depth)?;
                let pairs = self.pairs(out, depth, &mut NoHook)?;
                close(out, header, depth, pairs, true);
                Ok(())
            }
            b'[' => {
                self.at += 1;
                let header = open(out, depth)?;
                let len = self.elements(out, depth)?;
                close(out, header, depth, len, false);
                Ok(())
            }
            b't' => self.word(b"true", out, |out| write_bool(out, true)),
            b'f' => self.word(b"false", out, |out| write_bool(out, false)),
            b'n' => self.word(b"null", out, write_nil),
            b'N' => self.word(b"NaN", out, |out| write_float(out, f64::NAN)),
            b'I' => self.word(b"Infinity", out, |out| write_float(out, f64::INFINITY)),
            _ => Err(INVALID),
        }
    }

    #[inline]
    fn word(&mut self, word: &[u8], out: &mut Vec<u8>, write: impl Fn(&mut Vec<u8>)) -> Result<(), Mismatch> {
        if !self.text[self.at..].starts_with(word) {
            return Err(INVALID);
        }
        self.at += word.len();
        write(out);
        Ok(())
    }

    fn elements(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<usize, Mismatch> {
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(0);
        }
        let mut len = 0;
        loop {
            self.value(out, depth + 1)?;
            len += 1;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(len);
                }
                _ => return Err(INVALID),
            }
        }
    }

    /// Appends the pairs of an object whose `{` was taken, up to and with its `}`; gives their number.
    ///
    /// # Errors
    /// As [`transcode`].
    #[inline]
    pub fn pairs(
        &mut self,
        out: &mut Vec<u8>,
        depth: u32,
        hook: &mut impl PairHook,
    ) -> Result<usize, Mismatch> {
        let start = out.len();
        let first_key = self.scratch.keys.len();
        let mut count = 0;
        let mut twice = false;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(0);
        }
        loop {
            if self.peek()? != b'"' {
                return Err(INVALID);
            }
            self.at += 1;
            let key = out.len();
            self.string(out, true)?;
            let print = fingerprint(&out[key..]);
            let known = &self.scratch.keys[first_key..];
            twice |= known.len() <= FEW_KEYS && known.contains(&print);
            self.scratch.keys.push(print);
            if self.peek()? != b':' {
                return Err(INVALID);
            }
            self.at += 1;
            let value = out.len();
            self.value(out, depth + 1)?;
            count += hook.pair(out, key, value);
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(INVALID),
            }
        }
        self.at += 1;
        let known = &mut self.scratch.keys[first_key..];
        if known.len() > FEW_KEYS && !twice {
            known.sort_unstable();
            twice = known.windows(2).any(|pair| pair[0] == pair[1]);
        }
        self.scratch.keys.truncate(first_key);
        if twice { last_value_counts(out, start, count) } else { Ok(count) }
    }

    /// Appends the string whose opening quote was taken. A key is always `str`: no peer takes another.
    #[inline]
    fn string(&mut self, out: &mut Vec<u8>, key: bool) -> Result<(), Mismatch> {
        let start = self.at;
        let end = quote_or_backslash(self.text, start).ok_or(INVALID)?;
        if self.text[end] == b'"' {
            self.at = end + 1;
            write_text(out, &self.text[start..end], key || self.valid);
            return Ok(());
        }
        self.escaped(end)?;
        write_text(out, &self.scratch.unescaped, key || self.valid);
        Ok(())
    }

    /// Unescapes a string from its start `self.at`; its first backslash is at `next`.
    #[cold]
    fn escaped(&mut self, mut next: usize) -> Result<(), Mismatch> {
        let unescaped = &mut self.scratch.unescaped;
        unescaped.clear();
        loop {
            unescaped.extend_from_slice(&self.text[self.at..next]);
            if self.text[next] == b'"' {
                self.at = next + 1;
                return Ok(());
            }
            self.at = next + 2;
            match self.text.get(next + 1).ok_or(INVALID)? {
                b'b' => unescaped.push(8),
                b'f' => unescaped.push(12),
                b'n' => unescaped.push(b'\n'),
                b'r' => unescaped.push(b'\r'),
                b't' => unescaped.push(b'\t'),
                b'u' => {
                    let mut code = hex4(self.text, self.at)?;
                    self.at += 4;
                    if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with(b"\\u") {
                        // Oj takes any escape for the second half
                        let low = hex4(self.text, self.at + 2)?;
                        code = 0x10000 + ((code - 0xd800) << 10) + (low & 0x3ff);
                        self.at += 6;
                    }
                    let char = char::from_u32(code).ok_or(INVALID)?;
                    unescaped.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                // the character itself, which also goes for `"`, `\` and `/`; it may have several bytes
                _ => self.at = next + 1,
            }
            // a quote or backslash that was escaped is no end
            let from = if self.at == next + 1 { next + 2 } else { self.at };
            next = quote_or_backslash(self.text, from).ok_or(INVALID)?;
        }
    }

    #[inline]
    fn number(&mut self, out: &mut Vec<u8>) -> Result<(), Mismatch> {
        let text = self.text;
        let start = self.at;
        let negative = text[start] == b'-';
        let first = start + usize::from(negative);
        let mut at = first;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            // wraps only beyond 19 digits, which are looked at again
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        let digits = at - first;
        if digits == 0 && negative && text.get(at) == Some(&b'I') {
            self.at = at;
            return self.word(b"Infinity", out, |out| write_float(out, f64::NEG_INFINITY));
        }
        if digits == 0 || (digits > 1 && text[first] == b'0') {
            return Err(INVALID);
        }
        if matches!(text.get(at), Some(b'.' | b'e' | b'E')) {
            return self.float(start, at, out);
        }
        self.at = at;
        if digits > 19 {
            // 20 digits may still fit: 18446744073709551615
            match std::str::from_utf8(&text[first..at]).ok().and_then(|digits| digits.parse().ok()) {
                Some(exact) => value = exact,
                None => {
                    write_str(out, &text[start..at]);
                    return Ok(());
                }
            }
        }
        match (negative, 0i64.checked_sub_unsigned(value)) {
            (false, _) => write_uint(out, value),
            (true, Some(value)) => write_int(out, value),
            (true, None) => write_str(out, &text[start..at]),
        }
        Ok(())
    }

    /// A number with a fraction or an exponent, which starts at `at`.
    fn float(&mut self, start: usize, mut at: usize, out: &mut Vec<u8>) -> Result<(), Mismatch> {
        let text = self.text;
        let digits = |mut at: usize| {
            let start = at;
            while text.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            if at == start { Err(INVALID) } else { Ok(at) }
        };
        if text.get(at) == Some(&b'.') {
            at = digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = text.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = text.get(at) {
                at += 1;
            }
            at = digits(at)?;
        }
        self.at = at;
        let number = &text[start..at];
        match fast_float2::parse::<f64, _>(number) {
            Ok(value) if value.is_finite() => write_float(out, value),
            _ => write_str(out, number),
        }
        Ok(())
    }
}

fn hex4(text: &[u8], at: usize) -> Result<u32, Mismatch> {
    let digits = text.get(at..at + 4).ok_or(INVALID)?;
    digits.iter().try_fold(0, |value, byte| {
        (*byte as char).to_digit(16).map(|digit| value << 4 | digit).ok_or(INVALID)
    })
}

/// The first `"` or `\` from `from` on. Most strings of a log are short, so eight bytes at a time
/// without a call, then the vector search.
#[inline]
fn quote_or_backslash(text: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = from;
    for _ in 0..4 {
        let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
        let word = u64::from_le_bytes(*chunk);
        let quotes = word ^ (ONES * b'"' as u64);
        let slashes = word ^ (ONES * b'\\' as u64);
        // the lowest marked byte is exact; marks above it may be false
        let marks = ((quotes.wrapping_sub(ONES) & !quotes) | (slashes.wrapping_sub(ONES) & !slashes)) & HIGHS;
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    Some(at + memchr2(b'"', b'\\', text.get(at..)?)?)
}

/// Makes room for a container's header.
fn open(out: &mut Vec<u8>, depth: u32) -> Result<usize, Mismatch> {
    if depth > MAX_DEPTH {
        return Err(Mismatch::Limit);
    }
    let header = out.len();
    out.extend_from_slice(if depth > MOVABLE_DEPTH { &[0; 5] } else { &[0] });
    Ok(header)
}

/// Writes a container's header now that its length is known.
#[inline]
fn close(out: &mut Vec<u8>, header: usize, depth: u32, len: usize, map: bool) {
    if depth > MOVABLE_DEPTH {
        out[header] = if map { 0xdf } else { 0xdd };
        out[header + 1..header + 5].copy_from_slice(&(len as u32).to_be_bytes());
    } else if len < 16 {
        out[header] = if map { 0x80 } else { 0x90 } | len as u8;
    } else {
        let mut bytes = Vec::with_capacity(5);
        if map {
            write_map_header(&mut bytes, len);
        } else {
            write_array_header(&mut bytes, len);
        }
        out.splice(header..=header, bytes);
    }
}

/// The bytes of a key as [`Reader::pairs`] wrote it, without its header.
#[inline]
#[must_use]
pub fn key_bytes(key: &[u8]) -> &[u8] {
    match key.first() {
        Some(0xa0..=0xbf) => &key[1..],
        Some(0xd9) => &key[2..],
        Some(0xda) => &key[3..],
        _ => key.get(5..).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;

//! Methods of texts that need nothing but the text.

use std::borrow::Cow;

use super::eval::Given;
use super::node::Method;
use super::{Raised, Value, data, limited};
use crate::convert::text_to_float;
use crate::msgpack;

/// Bytes of the character at the start: 1 for what is no UTF-8.
pub fn char_len(text: &[u8]) -> usize {
    let len = match text.first() {
        None => return 0,
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) => return 1,
    };
    if text.get(..len).is_some_and(|part| std::str::from_utf8(part).is_ok()) { len } else { 1 }
}

/// How many characters a text has.
pub fn count_chars(text: &[u8]) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        at += char_len(&text[at..]);
        count += 1;
    }
    count
}

/// Where the character of that number starts; the end where there are not so many.
pub fn char_end(text: &[u8], chars: usize) -> usize {
    let mut at = 0;
    for _ in 0..chars {
        if at >= text.len() {
            break;
        }
        at += char_len(&text[at..]);
    }
    at
}

/// `text` with every character changed.
fn mapped(text: &[u8], mut change: impl FnMut(char, &mut String)) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut made = String::new();
    for chunk in text.utf8_chunks() {
        made.clear();
        for letter in chunk.valid().chars() {
            change(letter, &mut made);
        }
        out.extend_from_slice(made.as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

fn is_space_or_null(byte: &u8) -> bool {
    is_space(*byte) || *byte == 0
}

fn strip_start(text: &[u8]) -> &[u8] {
    let from = text.iter().position(|byte| !is_space_or_null(byte)).unwrap_or(text.len());
    &text[from..]
}

fn strip_end(text: &[u8]) -> &[u8] {
    let to = text.iter().rposition(|byte| !is_space_or_null(byte)).map_or(0, |at| at + 1);
    &text[..to]
}

/// Methods that need the text alone. None: it is none of them.
pub fn call<'a>(text: &[u8], method: Method, arguments: &[Given<'a>]) -> Result<Option<Value<'a>>, Raised> {
    Ok(Some(match (method, arguments) {
        (Method::ToI, []) => integer(text, 10),
        (Method::ToI, [base]) => {
            let base = base.int()?;
            if !(2..=36).contains(&base) {
                return Err(Raised(format!("ArgumentError: invalid radix {base}")));
            }
            integer(text, base as u32)
        }
        (Method::Hex, _) => integer(text, 16),
        (Method::ToF, _) => Value::Float(text_to_float(text)),
        (Method::Downcase, _) => Value::text(mapped(text, |letter, out| out.extend(letter.to_lowercase()))),
        (Method::Upcase, _) => Value::text(mapped(text, |letter, out| out.extend(letter.to_uppercase()))),
        (Method::Capitalize, _) => {
            let mut first = true;
            Value::text(mapped(text, |letter, out| {
                if std::mem::take(&mut first) {
                    title(letter, out)
                } else {
                    out.extend(letter.to_lowercase())
                }
            }))
        }
        (Method::Swapcase, _) => Value::text(mapped(text, |letter, out| {
            if letter.is_uppercase() {
                out.extend(letter.to_lowercase())
            } else {
                out.extend(letter.to_uppercase())
            }
        })),
        (Method::Strip, _) => Value::text(strip_end(strip_start(text))),
        (Method::Lstrip, _) => Value::text(strip_start(text)),
        (Method::Rstrip, _) => Value::text(strip_end(text)),
        (Method::Chomp, []) => {
            let cut = text.strip_suffix(b"\r\n").or(text.strip_suffix(b"\n")).or(text.strip_suffix(b"\r"));
            Value::text(cut.unwrap_or(text))
        }
        (Method::Chomp, [end]) => match end.value()? {
            Value::Nil => Value::text(text),
            _ => Value::text(chomped(text, end.text()?)),
        },
        (Method::Chop, _) => {
            let cut = text.strip_suffix(b"\r\n").unwrap_or_else(|| &text[..last_char(text)]);
            Value::text(cut)
        }
        (Method::Chars, _) => {
            let mut out = Vec::new();
            msgpack::write_array_header(&mut out, count_chars(text));
            letters(text).for_each(|letter| msgpack::write_text(&mut out, letter, false));
            Value::Data(Cow::Owned(out))
        }
        (Method::Lines, _) => {
            let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(Some).collect();
            data::texts(lines.into_iter())
        }
        (Method::Ord, _) => match text.utf8_chunks().next().map(|chunk| chunk.valid().chars().next()) {
            Some(Some(letter)) => Value::Int(i128::from(u32::from(letter))),
            Some(None) => return Err(Raised("ArgumentError: invalid byte sequence in UTF-8".to_owned())),
            None => return Err(Raised("ArgumentError: empty string".to_owned())),
        },
        (Method::IsCasecmp, [other]) => {
            let other = other.text()?;
            let lower = |text: &[u8]| mapped(text, |letter, out| out.extend(letter.to_lowercase()));
            Value::Bool(lower(text) == lower(other))
        }
        (Method::Squeeze, []) => {
            let mut out: Vec<u8> = Vec::with_capacity(text.len());
            let (mut at, mut last) = (0, &b""[..]);
            while at < text.len() {
                let letter = &text[at..at + char_len(&text[at..])];
                if letter != last {
                    out.extend_from_slice(letter);
                }
                last = letter;
                at += letter.len();
            }
            Value::text(out)
        }
        (Method::EndsWith, _) => {
            let mut found = false;
            for end in arguments {
                found |= text.ends_with(end.text()?);
            }
            Value::Bool(found)
        }
        (Method::DeletePrefix, [start]) => Value::text(text.strip_prefix(start.text()?).unwrap_or(text)),
        (Method::DeleteSuffix, [end]) => Value::text(text.strip_suffix(end.text()?).unwrap_or(text)),
        (Method::Ljust | Method::Rjust | Method::Center, [width, fill @ ..]) => {
            let fill = match fill {
                [fill, ..] => fill.text()?,
                [] => b" ",
            };
            justified(text, method, width.int()?, fill)?
        }
        (Method::Length, _) => Value::Int(data::length(text)),
        (Method::Bytesize, _) => Value::Int(text.len() as i128),
        (Method::IsEmpty, _) => Value::Bool(text.is_empty()),
        (Method::Includes, [part]) => Value::Bool(memchr::memmem::find(text, part.text()?).is_some()),
        (Method::Reverse, _) => {
            let mut out = Vec::with_capacity(text.len());
            let mut end = text.len();
            while end > 0 {
                let start = last_char(&text[..end]);
                out.extend_from_slice(&text[start..end]);
                end = start;
            }
            Value::text(out)
        }
        (Method::Scrub, _) => {
            let mark = match arguments {
                [mark, ..] => mark.text()?,
                [] => "\u{fffd}".as_bytes(),
            };
            let mut out = Vec::with_capacity(text.len());
            for chunk in text.utf8_chunks() {
                out.extend_from_slice(chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice(mark);
                }
            }
            limited(out.len())?;
            Value::text(out)
        }
        (Method::ForceEncoding, [name]) => {
            let known = [&b"utf-8"[..], b"ascii-8bit", b"binary", b"us-ascii"];
            let name = name.text()?.to_ascii_lowercase();
            if !known.contains(&name.as_slice()) {
                let shown = String::from_utf8_lossy(&name).into_owned();
                return Err(Raised(format!("ArgumentError: unknown encoding name - {shown}")));
            }
            Value::text(text)
        }
        _ => return Ok(None),
    }))
}

/// The letters.
pub fn letters(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (letter, behind) = rest.split_at(char_len(rest));
        rest = behind;
        (!letter.is_empty()).then_some(letter)
    })
}

/// A letter at the start of a word.
fn title(letter: char, out: &mut String) {
    match letter {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        'ა'..='ჿ' => out.push(letter), // Georgian has no title case
        _ => {
            for (number, part) in letter.to_uppercase().enumerate() {
                if number == 0 { out.push(part) } else { out.extend(part.to_lowercase()) }
            }
        }
    }
}

/// Where the last character starts.
fn last_char(text: &[u8]) -> usize {
    (1..=4.min(text.len()))
        .rev()
        .map(|len| text.len() - len)
        .find(|at| char_len(&text[*at..]) == text.len() - at)
        .unwrap_or(text.len().saturating_sub(1))
}

fn chomped<'t>(text: &'t [u8], end: &[u8]) -> &'t [u8] {
    if end == b"\n" {
        return text
            .strip_suffix(b"\r\n")
            .or(text.strip_suffix(b"\n"))
            .or(text.strip_suffix(b"\r"))
            .unwrap_or(text);
    }
    if !end.is_empty() {
        return text.strip_suffix(end).unwrap_or(text);
    }
    let mut rest = text;
    while let Some(cut) = rest.strip_suffix(b"\r\n").or(rest.strip_suffix(b"\n")) {
        rest = cut;
    }
    rest
}

fn justified<'a>(text: &[u8], method: Method, width: i64, fill: &[u8]) -> Result<Value<'a>, Raised> {
    if fill.is_empty() {
        return Err(Raised("ArgumentError: zero width padding".to_owned()));
    }
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(count_chars(text));
    limited(missing.saturating_mul(fill.len()))?;
    let (before, after) = match method {
        Method::Ljust => (0, missing),
        Method::Rjust => (missing, 0),
        _ => (missing / 2, missing - missing / 2),
    };
    let mut out = Vec::new();
    let padding = |count: usize, out: &mut Vec<u8>| {
        let chars = count_chars(fill);
        out.extend_from_slice(&fill.repeat(count / chars));
        out.extend_from_slice(&fill[..char_end(fill, count % chars)]);
    };
    padding(before, &mut out);
    out.extend_from_slice(text);
    padding(after, &mut out);
    Ok(Value::text(out))
}

/// Ruby's `String#to_i(base)`: white space, a sign, a prefix of the base, digits with single underscores.
fn integer<'a>(text: &[u8], base: u32) -> Value<'a> {
    let mut rest = &text[text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len())..];
    let negative = rest.first() == Some(&b'-');
    if matches!(rest.first(), Some(b'-' | b'+')) {
        rest = &rest[1..];
    }
    let prefix: &[u8] = match base {
        16 => b"xX",
        8 => b"oO",
        2 => b"bB",
        10 => b"dD",
        _ => b"",
    };
    if let [b'0', letter, ..] = rest
        && prefix.contains(letter)
    {
        rest = &rest[2..];
        if rest.first() == Some(&b'_') {
            return Value::Int(0);
        }
    }
    let (mut value, mut after_digit) = (0i128, false);
    for byte in rest {
        match char::from(*byte).to_digit(base) {
            Some(digit) => {
                value = value.saturating_mul(i128::from(base)).saturating_add(i128::from(digit));
                after_digit = true;
            }
            None if *byte == b'_' && after_digit => after_digit = false,
            None => break,
        }
    }
    Value::Int(if negative { -value } else { value })
}

//! `types`: what becomes of one field's value, as Ruby's to_i, to_f and so on make it.

use crate::msgpack::{self, Token, write_text};
use crate::options::Invalid;
use crate::ruby_inspect::write_to_s;
use crate::time::{TimeCache, TimeParser, TimeSpec, Zone};

/// The names of the types.
pub const TYPES: [&str; 6] = ["string", "integer", "float", "bool", "time", "array"];

/// One type of `types`, compiled.
pub enum Convert {
    /// As text.
    String,
    /// Leading digits; 0 without any.
    Integer,
    /// Leading decimal number; 0.0 without any.
    Float,
    /// `true`, `yes`, `1` in any case; all else is false.
    Bool,
    /// A time; nil where it does not fit.
    Time(Box<TimeParser>),
    /// Texts between delimiters.
    Array(Vec<u8>),
}

impl Convert {
    /// `kind` as written: `integer`, `time:%Y`, `time:+09:00:%Y`, `array:;`...
    ///
    /// # Errors
    /// Names field and type.
    pub fn new(field: &str, kind: &str, _zone: Option<&str>) -> Result<Self, Invalid> {
        let (name, option) = match kind.split_once(':') {
            Some((name, option)) => (name, Some(option)),
            None => (kind, None),
        };
        Ok(match name {
            "string" => Convert::String,
            "integer" => Convert::Integer,
            "float" => Convert::Float,
            "bool" => Convert::Bool,
            "array" => Convert::Array(option.unwrap_or(",").as_bytes().to_vec()),
            "time" => {
                let mut spec = TimeSpec { kind: "string".to_owned(), ..TimeSpec::default() };
                if let Some(option) = option {
                    let (zone, format) = split_zone(option);
                    match format {
                        "unixtime" | "float" => spec.kind = format.to_owned(),
                        "string" | "mixed" | "" => {}
                        _ => spec.format = Some(format.to_owned()),
                    }
                    spec.zone = zone.filter(|_| spec.format.is_some()).map(str::to_owned);
                }
                let parser = TimeParser::new(&spec)
                    .map_err(|why| Invalid::new("types", format!("field \"{field}\": {why}")))?;
                Convert::Time(Box::new(parser))
            }
            _ => {
                return Err(Invalid::new(
                    "types",
                    format!("unknown type \"{name}\" for field \"{field}\": expected {}", TYPES.join(", ")),
                ));
            }
        })
    }

    /// Appends the converted `text`.
    #[inline]
    pub fn write_text(&self, text: &[u8], valid: bool, cache: &mut TimeCache, out: &mut Vec<u8>) {
        match self {
            Convert::String => write_text(out, text, valid),
            Convert::Integer => write_integer(out, text),
            Convert::Float => msgpack::write_float(out, text_to_float(text)),
            Convert::Bool => msgpack::write_bool(out, is_truthy(text)),
            Convert::Time(parser) => match parser.parse(text, cache) {
                Some(time) => msgpack::write_event_time(out, time),
                None => msgpack::write_nil(out),
            },
            Convert::Array(delimiter) => write_array(out, text, delimiter, valid),
        }
    }

    /// Appends a converted value that is no text; `text` is what Ruby's to_s makes of it.
    pub fn write_typed(&self, token: &Token<'_>, text: &str, cache: &mut TimeCache, out: &mut Vec<u8>) {
        match (self, token) {
            (Convert::Integer, Token::Uint(value)) => msgpack::write_uint(out, *value),
            (Convert::Integer, Token::Int(value)) => msgpack::write_int(out, *value),
            (Convert::Integer, Token::Float(value)) if value.is_finite() && value.abs() < 9.2e18 => {
                msgpack::write_int(out, value.trunc() as i64);
            }
            (Convert::Integer, Token::Float(value)) if value.is_finite() => {
                write_unusual_integer(out, format!("{value:.0}").as_bytes());
            }
            (Convert::Float, Token::Uint(value)) => msgpack::write_float(out, *value as f64),
            (Convert::Float, Token::Int(value)) => msgpack::write_float(out, *value as f64),
            (Convert::Float, Token::Float(value)) => msgpack::write_float(out, *value),
            (Convert::Time(parser), Token::Uint(_) | Token::Int(_) | Token::Float(_)) => {
                let time = match *token {
                    Token::Uint(value) => {
                        i64::try_from(value).ok().and_then(|value| parser.from_integer(value))
                    }
                    Token::Int(value) => parser.from_integer(value),
                    Token::Float(value) => parser.from_number(value),
                    _ => None,
                };
                match time {
                    Some(time) => msgpack::write_event_time(out, time),
                    None => msgpack::write_nil(out),
                }
            }
            (Convert::Time(_), _) => msgpack::write_nil(out),
            _ => self.write_text(text.as_bytes(), true, cache, out),
        }
    }
}

/// `[timezone:]format`, where a numeric zone may have a colon of its own.
fn split_zone(option: &str) -> (Option<&str>, &str) {
    let colons = option.match_indices(':').map(|(at, _)| at);
    for at in colons.take(2) {
        let (zone, format) = (&option[..at], &option[at + 1..]);
        let zone_like = zone.starts_with(['+', '-']) || zone.contains('/');
        if zone_like
            && Zone::new(Some(zone)).is_ok()
            && !format.as_bytes().first().is_some_and(u8::is_ascii_digit)
        {
            return (Some(zone), format);
        }
    }
    (None, option)
}

fn is_truthy(text: &[u8]) -> bool {
    text == b"1" || text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"yes")
}

/// Leading digits as an integer. What no 64-bit integer can hold stays the text that it was.
#[inline]
fn write_integer(out: &mut Vec<u8>, text: &[u8]) {
    let mut value = 0u64;
    let short = text.len() < 19;
    for (index, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || !short {
            if index > 0 && short && *byte != b'_' {
                break;
            }
            return write_unusual_integer(out, text);
        }
        value = value * 10 + u64::from(digit);
    }
    msgpack::write_uint(out, value);
}

#[cold]
fn write_unusual_integer(out: &mut Vec<u8>, text: &[u8]) {
    let rest = text.trim_ascii_start();
    let negative = rest.first() == Some(&b'-');
    let rest = if matches!(rest.first(), Some(b'-' | b'+')) { &rest[1..] } else { rest };
    let mut value = 0i128;
    let mut after_digit = false;
    for byte in rest {
        match byte {
            b'0'..=b'9' => {
                value = value.saturating_mul(10).saturating_add(i128::from(byte - b'0'));
                after_digit = true;
            }
            b'_' if after_digit => after_digit = false,
            _ => break,
        }
    }
    let value = if negative { -value } else { value };
    if let Ok(value) = u64::try_from(value) {
        msgpack::write_uint(out, value);
    } else if let Ok(value) = i64::try_from(value) {
        msgpack::write_int(out, value);
    } else {
        write_text(out, text, false);
    }
}

/// Ruby's `String#to_f`.
#[must_use]
pub fn text_to_float(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let mut clean = Vec::with_capacity(text.len().min(64));
    let mut at = 0;
    if matches!(text.first(), Some(b'-' | b'+')) {
        clean.push(text[0]);
        at = 1;
    }
    // digits with single underscores between them
    let run = |at: &mut usize, clean: &mut Vec<u8>| -> bool {
        let start = *at;
        while let Some(byte) = text.get(*at) {
            let joins = *byte == b'_' && *at > start && text.get(*at + 1).is_some_and(u8::is_ascii_digit);
            if byte.is_ascii_digit() {
                clean.push(*byte);
            } else if !joins {
                break;
            }
            *at += 1;
        }
        *at > start
    };
    let whole = run(&mut at, &mut clean);
    let mut any = whole;
    if text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at += 1;
        if !whole {
            clean.push(b'0');
        }
        clean.push(b'.');
        any |= run(&mut at, &mut clean);
    }
    if !any {
        return 0.0;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let mut behind = at + 1;
        let mut exponent = vec![b'e'];
        if let Some(sign @ (b'-' | b'+')) = text.get(behind) {
            exponent.push(*sign);
            behind += 1;
        }
        if run(&mut behind, &mut exponent) {
            clean.extend_from_slice(&exponent);
        }
    }
    fast_float2::parse(&clean).unwrap_or(0.0)
}

/// Ruby's `String#split(delimiter)`: trailing empty texts fall away; a single space splits at runs of
/// white space; an empty delimiter splits into characters.
fn write_array(out: &mut Vec<u8>, text: &[u8], delimiter: &[u8], valid: bool) {
    let mut parts: Vec<&[u8]> = if delimiter == b" " {
        text.split(|byte| byte.is_ascii_whitespace()).filter(|part| !part.is_empty()).collect()
    } else if delimiter.is_empty() {
        match std::str::from_utf8(text) {
            Ok(text) => text.split("").filter(|part| !part.is_empty()).map(str::as_bytes).collect(),
            Err(_) => text.chunks(1).collect(),
        }
    } else {
        let mut parts = Vec::new();
        let mut start = 0;
        for at in memchr::memmem::find_iter(text, delimiter) {
            parts.push(&text[start..at]);
            start = at + delimiter.len();
        }
        parts.push(&text[start..]);
        parts
    };
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    msgpack::write_array_header(out, parts.len());
    for part in parts {
        write_text(out, part, valid);
    }
}

/// What Ruby's `to_s` makes of one MessagePack value.
#[must_use]
pub fn token_text(value: &[u8]) -> String {
    let mut text = Vec::new();
    // malformed bytes give what came before them
    let _ = write_to_s(&mut text, value, &mut 0);
    String::from_utf8_lossy(&text).into_owned()
}

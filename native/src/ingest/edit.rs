//! Editing a parsed record's pairs, as MessagePack bytes.

use crate::msgpack::{self, Token};

/// Appends a field, where there is a key for it.
pub fn write_pair(out: &mut Vec<u8>, key: &Option<String>, value: &[u8]) {
    if let Some(key) = key {
        msgpack::write_str(out, key.as_bytes());
        out.extend_from_slice(value);
    }
}

/// Up to four fields to set: key and MessagePack value.
#[derive(Default)]
pub struct Sets<'a> {
    list: [(&'a [u8], &'a [u8]); 4],
    used: usize,
}

impl<'a> Sets<'a> {
    /// A later field of the same name wins. A value that is not known (empty) is not set.
    pub fn set(&mut self, key: &'a Option<String>, value: &'a [u8]) {
        let Some(key) = key else { return };
        if value.is_empty() {
            return;
        }
        let key = key.as_bytes();
        let known = self.list[..self.used].iter().position(|(name, _)| *name == key);
        let at = known.unwrap_or(self.used);
        self.list[at] = (key, value);
        self.used = self.used.max(at + 1);
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        self.list[..self.used].iter().position(|(name, _)| *name == key)
    }
}

/// Calls `each` with key (empty where it is no string), key start, value start and value end of all pairs.
pub fn walk<'a>(body: &'a [u8], mut each: impl FnMut(&'a [u8], usize, usize, usize) -> bool) {
    let mut pos = 0;
    while pos < body.len() {
        let start = pos;
        let key = match msgpack::read_short_key(body, &mut pos) {
            Some(key) => key,
            None => match long_key(body, &mut pos) {
                Some(key) => key,
                None => return,
            },
        };
        let value = pos;
        if msgpack::skip_value(body, &mut pos).is_err() || !each(key, start, value, pos) {
            return;
        }
    }
}

/// A key that is long, or no text (empty then); None: broken bytes.
#[cold]
fn long_key<'a>(body: &'a [u8], pos: &mut usize) -> Option<&'a [u8]> {
    let start = *pos;
    msgpack::skip_value(body, pos).ok()?;
    match msgpack::read_token(body, &mut { start }) {
        Ok(Token::Str(key) | Token::Bin(key)) => Some(key),
        _ => Some(&[]),
    }
}

pub fn write_edited(
    out: &mut Vec<u8>,
    parts: [&[u8]; 2],
    pairs: usize,
    sets: Sets<'_>,
    removed: Option<&[u8]>,
) {
    let mut replaced = [false; 4];
    let mut touched = false;
    let mut left = pairs;
    for part in parts {
        walk(part, |key, _, _, _| {
            if removed == Some(key) {
                left -= 1;
                touched = true;
            } else if let Some(at) = sets.position(key) {
                replaced[at] = true;
                touched = true;
            }
            true
        });
    }
    let added = replaced[..sets.used].iter().filter(|done| !**done).count();
    msgpack::write_map_header(out, left + added);
    for part in parts {
        if !touched {
            out.extend_from_slice(part);
            continue;
        }
        walk(part, |key, start, value, end| {
            if removed == Some(key) {
                return true;
            }
            match sets.position(key) {
                Some(at) => {
                    out.extend_from_slice(&part[start..value]);
                    out.extend_from_slice(sets.list[at].1);
                }
                None => out.extend_from_slice(&part[start..end]),
            }
            true
        });
    }
    for (at, (key, value)) in sets.list[..sets.used].iter().enumerate() {
        if !replaced[at] {
            msgpack::write_str(out, key);
            out.extend_from_slice(value);
        }
    }
}

/// Appends `fields` with another value of one key, in its place.
pub fn write_replaced(out: &mut Vec<u8>, fields: &[u8], wanted: &[u8], value: &[u8]) {
    walk(fields, |key, start, old, end| {
        if key == wanted {
            out.extend_from_slice(&fields[start..old]);
            out.extend_from_slice(value);
        } else {
            out.extend_from_slice(&fields[start..end]);
        }
        true
    });
}

pub fn find_value<'a>(before: &'a [u8], after: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    for part in [before, after] {
        walk(part, |key, _, value, end| {
            if key == wanted {
                found = Some(&part[value..end]);
            }
            found.is_none()
        });
    }
    found
}

/// The pair `pri` of a record: where it starts and ends, and its number. Usually the first or second pair.
pub fn find_priority(fields: &[u8], pairs: usize) -> Option<(usize, usize, Option<u64>)> {
    if pairs == 0 {
        return None;
    }
    let mut found = None;
    walk(fields, |key, start, value, end| {
        if key != b"pri" {
            return true;
        }
        let number = match msgpack::read_token(&fields[value..end], &mut 0) {
            Ok(Token::Uint(number)) => Some(number),
            _ => None,
        };
        found = Some((start, end, number));
        false
    });
    found
}

/// A value as Ruby's `to_s` writes it, for a tag.
pub fn tag_text(value: &[u8]) -> String {
    match msgpack::read_token(value, &mut 0) {
        Ok(Token::Str(text) | Token::Bin(text)) => String::from_utf8_lossy(text).into_owned(),
        Ok(Token::Uint(number)) => number.to_string(),
        Ok(Token::Int(number)) => number.to_string(),
        Ok(Token::Bool(flag)) => flag.to_string(),
        Ok(Token::Float(number)) => format!("{number:?}"),
        _ => String::new(),
    }
}

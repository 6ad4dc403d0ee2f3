//! Putting parsed fields into a record, as bytes.

use std::collections::HashMap;

use crate::msgpack::{Malformed, Token, read_token, skip_value, write_str_header};

/// From so many parsed fields on, they are found by hash.
const MANY_FIELDS: usize = 16;

/// Where one parsed field is within the pairs; memory that [`merge`] reuses.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    start: usize,
    key: (usize, usize),
    value: usize,
    end: usize,
    used: bool,
}

/// The bytes of a text key, as a range.
fn read_key(data: &[u8], pos: &mut usize) -> Result<(usize, usize), Malformed> {
    let start = *pos;
    match read_token(data, pos)? {
        Token::Str(raw) | Token::Bin(raw) => Ok((*pos - raw.len(), *pos)),
        _ => {
            *pos = start;
            skip_value(data, pos)?;
            Ok((start, *pos))
        }
    }
}

/// Appends the pairs with `prefix` before every key.
///
/// # Errors
/// [`Malformed`] for broken bytes.
pub fn prefix_keys(prefix: &[u8], fields: &[u8], pairs: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut pos = 0;
    for _ in 0..pairs {
        let key = read_key(fields, &mut pos)?;
        let value = pos;
        skip_value(fields, &mut pos)?;
        write_str_header(out, prefix.len() + key.1 - key.0);
        out.extend_from_slice(prefix);
        out.extend_from_slice(&fields[key.0..key.1]);
        out.extend_from_slice(&fields[value..pos]);
    }
    Ok(())
}

/// Ruby's `Hash#merge`: a key of both keeps its place and gets the parsed value, new keys follow. Gives
/// the number of pairs.
///
/// # Errors
/// [`Malformed`] for broken bytes.
pub fn merge(
    (body, body_pairs): (&[u8], usize),
    parsed: &[u8],
    pairs: usize,
    index: &mut Vec<Field>,
    out: &mut Vec<u8>,
) -> Result<usize, Malformed> {
    index.clear();
    let mut pos = 0;
    for _ in 0..pairs {
        let start = pos;
        let key = read_key(parsed, &mut pos)?;
        let value = pos;
        skip_value(parsed, &mut pos)?;
        index.push(Field { start, key, value, end: pos, used: false });
    }
    let places: Option<HashMap<&[u8], usize>> = (pairs > MANY_FIELDS).then(|| {
        index.iter().enumerate().map(|(at, field)| (&parsed[field.key.0..field.key.1], at)).collect()
    });
    let mut count = body_pairs;
    pos = 0;
    for _ in 0..body_pairs {
        let start = pos;
        let key = read_key(body, &mut pos)?;
        let value = pos;
        skip_value(body, &mut pos)?;
        let key = &body[key.0..key.1];
        let place = match &places {
            Some(places) => places.get(key).copied(),
            None => index.iter().position(|field| &parsed[field.key.0..field.key.1] == key),
        };
        match place {
            Some(place) => {
                let field = &mut index[place];
                field.used = true;
                out.extend_from_slice(&body[start..value]);
                out.extend_from_slice(&parsed[field.value..field.end]);
            }
            None => out.extend_from_slice(&body[start..pos]),
        }
    }
    for field in index.iter().filter(|field| !field.used) {
        out.extend_from_slice(&parsed[field.start..field.end]);
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack::{write_str, write_uint};

    fn pairs(pairs: &[(&str, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            write_str(&mut out, key.as_bytes());
            write_uint(&mut out, *value);
        }
        out
    }

    #[test]
    fn a_key_of_both_keeps_its_place_and_new_keys_follow() {
        for more in [0u64, 40] {
            let names: Vec<String> = (0..more).map(|n| format!("k{n}")).collect();
            let rest = |value: u64| names.iter().map(move |name| (name.as_str(), value));
            let old: Vec<_> = [("a", 1), ("b", 2)].into_iter().chain(rest(3)).collect();
            let new: Vec<_> = rest(4).chain([("c", 5), ("a", 6)]).collect();
            let merged: Vec<_> = [("a", 6), ("b", 2)].into_iter().chain(rest(4)).chain([("c", 5)]).collect();
            let mut out = Vec::new();
            let count =
                merge((&pairs(&old), old.len()), &pairs(&new), new.len(), &mut Vec::new(), &mut out).unwrap();
            assert_eq!(count, merged.len());
            assert_eq!(out, pairs(&merged));
        }
    }

    #[test]
    fn a_prefix_goes_before_every_key() {
        let mut out = Vec::new();
        prefix_keys(b"p.", &pairs(&[("a", 1), ("", 2)]), 2, &mut out).unwrap();
        assert_eq!(out, pairs(&[("p.a", 1), ("p.", 2)]));
    }

    #[test]
    fn broken_bytes_are_refused() {
        let good = pairs(&[("a", 1), ("b", 300)]);
        for len in 0..good.len() {
            let mut out = Vec::new();
            assert!(prefix_keys(b"p", &good[..len], 2, &mut out).is_err());
            assert!(merge((&good[..len], 2), &good, 2, &mut Vec::new(), &mut out).is_err());
            assert!(merge((&good, 2), &good[..len], 2, &mut Vec::new(), &mut out).is_err());
        }
    }
}

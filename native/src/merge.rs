//! Putting parsed fields into a record, as bytes.

use std::collections::HashMap;

use crate::msgpack::{Malformed, Token, read_short_key, read_token, skip_value, write_str_header};

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
    if let Some(key) = read_short_key(data, pos) {
        return Ok((*pos - key.len(), *pos));
    }
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

/// Records with more pairs than this are merged key by key.
const FEW_PAIRS: usize = 32;

/// 32 bits of a key: equal keys have equal ones, others nearly never.
#[inline(always)]
fn digest(key: &[u8]) -> u32 {
    let len = key.len();
    let (head, tail) = if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
        (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
    } else if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
        (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
    } else if len > 0 {
        (u64::from(key[0]) << 8 | u64::from(key[len / 2]), u64::from(key[len - 1]))
    } else {
        (0, 0)
    };
    ((head ^ tail.rotate_left(29) ^ len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Whether no key of `parsed` is in the record whose pairs are in `parts`, so that merging is appending.
/// False also where it is not found out cheaply.
#[inline]
#[must_use]
pub fn disjoint(parts: [&[u8]; 2], parsed: &[u8]) -> bool {
    let mut digests = [0; FEW_PAIRS];
    let mut count = 0;
    for part in parts {
        let mut pos = 0;
        while pos < part.len() {
            let Some(key) = read_short_key(part, &mut pos) else { return false };
            if count == FEW_PAIRS || skip_value(part, &mut pos).is_err() {
                return false;
            }
            digests[count] = digest(key);
            count += 1;
        }
    }
    let digests = &digests[..count];
    let mut pos = 0;
    while pos < parsed.len() {
        let Some(key) = read_short_key(parsed, &mut pos) else { return false };
        let own = digest(key);
        // no early end: the compiler makes a few wide comparisons of it
        if skip_value(parsed, &mut pos).is_err()
            || digests.iter().fold(false, |hit, known| hit | (*known == own))
        {
            return false;
        }
    }
    true
}

/// The keys of a record, as [`KeySet`] looks at them; memory that is used again from record to record.
#[derive(Clone, Copy)]
pub struct Shape {
    digests: [u32; FEW_PAIRS],
    count: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { digests: [0; FEW_PAIRS], count: 0 }
    }
}

impl Shape {
    /// A record begins.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// The record has this key.
    #[inline(always)]
    pub fn add(&mut self, key: &[u8]) {
        if let Some(place) = self.digests.get_mut(self.count) {
            *place = digest(key);
        }
        self.count += 1;
    }

    /// The record has a key that cannot be looked at cheaply.
    pub fn give_up(&mut self) {
        self.count = usize::MAX / 2;
    }

    fn digests(&self) -> Option<&[u32]> {
        self.digests.get(..self.count)
    }
}

/// A fixed set of keys, and the last record of which it is known that it has none of them.
pub struct KeySet {
    digests: Vec<u32>,
    apart: Shape,
}

impl KeySet {
    /// Of these keys.
    #[must_use]
    pub fn new(keys: &[Vec<u8>]) -> Self {
        KeySet { digests: keys.iter().map(|key| digest(key)).collect(), apart: Shape::default() }
    }

    /// Whether the record has none of the keys. False also where it is not found out cheaply.
    #[inline]
    #[must_use]
    pub fn is_apart(&mut self, shape: &Shape) -> bool {
        let Some(own) = shape.digests() else { return false };
        // records of one source mostly have the same keys
        if !own.is_empty() && self.apart.digests() == Some(own) {
            return true;
        }
        let apart = own.iter().all(|digest| !self.digests.contains(digest));
        if apart {
            self.apart = *shape;
        }
        apart
    }
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
    fn disjoint_sees_every_common_key() {
        let names = ["", "a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "a-long-key-of-more-than-sixteen"];
        for (at, name) in names.iter().enumerate() {
            let others: Vec<_> =
                names.iter().filter(|other| *other != name).map(|other| (*other, 7)).collect();
            let (left, right) = (pairs(&others[..3]), pairs(&others[3..]));
            let own = pairs(&[(name, 1)]);
            assert!(disjoint([&left, &right], &own), "{at}");
            assert!(!disjoint([&left, &pairs(&[(name, 1)])], &own), "{at}");
            assert!(!disjoint([&own, &right], &pairs(&[("x", 1), (name, 1)])), "{at}");
        }
        assert!(disjoint([&[], &[]], &pairs(&[("a", 1)])));
        assert!(!disjoint([&[0xa1], &[]], &pairs(&[("a", 1)])), "broken bytes are left to merge");
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

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

/// Where a pair, its value and its end are.
#[derive(Clone, Copy, Default)]
struct Pair {
    start: usize,
    value: usize,
    end: usize,
}

/// The pairs of a record with few short keys; memory that is used again from record to record.
#[derive(Clone, Copy)]
pub struct Shape {
    digests: [u32; FEW_PAIRS],
    pairs: [Pair; FEW_PAIRS],
    count: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { digests: [0; FEW_PAIRS], pairs: [Pair::default(); FEW_PAIRS], count: 0 }
    }
}

impl Shape {
    /// A record begins.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// The record has this key, in the pair from `start` to `end`.
    #[inline(always)]
    pub fn add(&mut self, key: &[u8], start: usize, value: usize, end: usize) {
        if let (Some(known), Some(pair)) = (self.digests.get_mut(self.count), self.pairs.get_mut(self.count))
        {
            *known = digest(key);
            *pair = Pair { start, value, end };
        }
        self.count += 1;
    }

    /// The record has a key that cannot be looked at cheaply.
    pub fn give_up(&mut self) {
        self.count = usize::MAX / 2;
    }

    fn read(&mut self, pairs: &[u8]) -> Option<()> {
        self.clear();
        let mut pos = 0;
        while pos < pairs.len() {
            let start = pos;
            let key = read_short_key(pairs, &mut pos)?;
            let value = pos;
            skip_value(pairs, &mut pos).ok()?;
            self.add(key, start, value, pos);
        }
        Some(())
    }

    fn digests(&self) -> Option<&[u32]> {
        self.digests.get(..self.count)
    }

    fn pairs(&self) -> &[Pair] {
        &self.pairs[..self.count.min(FEW_PAIRS)]
    }
}

/// Where equal digests stand; no early end, so that the compiler makes a few wide comparisons of it.
#[inline(always)]
fn place_of(digests: &[u32; FEW_PAIRS], count: usize, wanted: u32) -> Option<usize> {
    let hits = digests
        .iter()
        .enumerate()
        .fold(0_u32, |hits, (at, digest)| hits | u32::from(*digest == wanted) << at);
    let first = hits.trailing_zeros() as usize;
    (first < count).then_some(first)
}

/// Copies pairs, those side by side in one go.
#[inline(always)]
fn copy_runs<'p>(from: &[u8], pairs: impl Iterator<Item = &'p Pair>, out: &mut Vec<u8>) {
    let mut run = (0, 0);
    for pair in pairs {
        if pair.start != run.1 {
            out.extend_from_slice(&from[run.0..run.1]);
            run.0 = pair.start;
        }
        run.1 = pair.end;
    }
    out.extend_from_slice(&from[run.0..run.1]);
}

/// [`merge`] for a record with few short keys whose pairs, within `body`, are known: calls `head` with the number
/// of pairs and appends them. `index` is working memory. False, and nothing is written, where [`merge`] is
/// needed.
pub fn weave(
    (body, record): (&[u8], &Shape),
    parsed: &[u8],
    index: &mut Shape,
    out: &mut Vec<u8>,
    head: impl FnOnce(&mut Vec<u8>, usize),
) -> bool {
    let Some(own) = record.digests() else { return false };
    if index.read(parsed).is_none() || index.count > FEW_PAIRS {
        return false;
    }
    // per pair of the record, the parsed pair with the same key, counted from 1
    let mut places = [0_u8; FEW_PAIRS];
    let mut used = 0_u32;
    for (at, digest) in own.iter().enumerate() {
        let Some(place) = place_of(&index.digests, index.count, *digest) else { continue };
        let (left, right) = (&record.pairs[at], &index.pairs[place]);
        if body[left.start..left.value] != parsed[right.start..right.value] {
            return false;
        }
        places[at] = place as u8 + 1;
        used |= 1 << place;
    }
    head(out, own.len() + index.count - used.count_ones() as usize);
    if used == 0 {
        copy_runs(body, record.pairs().iter(), out);
        out.extend_from_slice(parsed);
        return true;
    }
    let mut from = 0;
    for (at, place) in places[..own.len()].iter().enumerate() {
        if *place > 0 {
            copy_runs(body, record.pairs()[from..at].iter(), out);
            let pair = &record.pairs[at];
            let value = &index.pairs[usize::from(*place) - 1];
            out.extend_from_slice(&body[pair.start..pair.value]);
            out.extend_from_slice(&parsed[value.value..value.end]);
            from = at + 1;
        }
    }
    copy_runs(body, record.pairs()[from..].iter(), out);
    let new = index.pairs().iter().enumerate().filter(|(at, _)| used >> at & 1 == 0);
    copy_runs(parsed, new.map(|(_, pair)| pair), out);
    true
}

/// A fixed set of keys, and the last record of which it is known that it has none of them.
pub struct KeySet {
    digests: Vec<u32>,
    apart: [u32; FEW_PAIRS],
    apart_count: usize,
}

impl KeySet {
    /// Of these keys.
    #[must_use]
    pub fn new(keys: &[Vec<u8>]) -> Self {
        let digests = keys.iter().map(|key| digest(key)).collect();
        KeySet { digests, apart: [0; FEW_PAIRS], apart_count: 0 }
    }

    /// Whether the record has none of the keys. False also where it is not found out cheaply.
    #[inline]
    #[must_use]
    pub fn is_apart(&mut self, shape: &Shape) -> bool {
        let Some(own) = shape.digests() else { return false };
        // records of one source mostly have the same keys
        if !own.is_empty() && self.apart[..self.apart_count] == *own {
            return true;
        }
        let apart = own.iter().all(|digest| !self.digests.contains(digest));
        if apart {
            self.apart = shape.digests;
            self.apart_count = own.len();
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

    /// What `weave` makes of the pairs; None: it left them to `merge`.
    fn woven(body: &[u8], parsed: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut record = Shape::default();
        if record.read(body).is_none() {
            record.give_up();
        }
        let (mut count, mut out) = (0, Vec::new());
        weave((body, &record), parsed, &mut Shape::default(), &mut out, |_, pairs| count = pairs)
            .then_some((count, out))
    }

    #[test]
    fn weaving_is_merging() {
        let names = ["", "a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "a-long-key-of-more-than-sixteen"];
        for left in 0..256_u64 {
            for right in [0, 1, 2, 0x55, 0xaa, 0x18, 0xff, left, !left & 0xff] {
                let pick = |bits: u64, value: u64| -> Vec<u8> {
                    let chosen = names.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
                    pairs(&chosen.map(|(_, name)| (*name, value)).collect::<Vec<_>>())
                };
                let (body, parsed) = (pick(left, 1), pick(right, 300));
                let mut out = Vec::new();
                let counts = (left.count_ones() as usize, right.count_ones() as usize);
                let merged = merge((&body, counts.0), &parsed, counts.1, &mut Vec::new(), &mut out).unwrap();
                assert_eq!(woven(&body, &parsed), Some((merged, out)), "{left:b} {right:b}");
            }
        }
        assert_eq!(woven(&[0xa1], &pairs(&[("a", 1)])), None, "broken bytes are left to merge");
        let many: Vec<String> = (0..33).map(|number| format!("k{number}")).collect();
        let many = pairs(&many.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
        assert_eq!(woven(&many, &[]), None);
        assert_eq!(woven(&[], &many), None);
    }

    #[test]
    fn a_key_set_knows_which_records_have_none_of_its_keys() {
        let mut keys = KeySet::new(&[b"a".to_vec(), b"a-long-key-of-more-than-sixteen".to_vec()]);
        let mut shape = Shape::default();
        for _ in 0..2 {
            for (names, apart) in [
                (&["b", "c"][..], true),
                (&["b", "a"], false),
                (&["a-long-key-of-more-than-sixteen"], false),
                (&["a-long-key-of-more-than-seventeen", "c"], true),
                (&[], true),
            ] {
                let body = pairs(&names.iter().map(|name| (*name, 1)).collect::<Vec<_>>());
                assert!(shape.read(&body).is_some());
                assert_eq!(keys.is_apart(&shape), apart, "{names:?}");
            }
        }
        shape.give_up();
        assert!(!keys.is_apart(&shape));
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

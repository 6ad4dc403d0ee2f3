//! Keys that stand twice in an object.

use std::collections::HashMap;

use crate::msgpack::{read_token, skip_value};
use crate::parser::Mismatch;

/// What is the same for equal keys and seldom the same for others. `key` has its MessagePack header.
#[inline]
pub fn fingerprint(key: &[u8]) -> u64 {
    let len = key.len();
    if let (Some(first), Some(last)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return first ^ last.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(len as u32);
    }
    let mut word = [0; 8];
    word[..len].copy_from_slice(key);
    u64::from_le_bytes(word)
}

/// Of each key's pairs, which start at `start`, keeps the last value, at the place of the first.
#[cold]
pub fn last_value_counts(out: &mut Vec<u8>, start: usize, pairs: usize) -> Result<usize, Mismatch> {
    let data = &out[start..];
    let mut kept: Vec<(&[u8], &[u8])> = Vec::with_capacity(pairs);
    let mut places = HashMap::with_capacity(pairs);
    let mut pos = 0;
    for _ in 0..pairs {
        let key_start = pos;
        read_token(data, &mut pos).map_err(|_| Mismatch::Limit)?;
        let key = &data[key_start..pos];
        let value_start = pos;
        skip_value(data, &mut pos).map_err(|_| Mismatch::Limit)?;
        let value = &data[value_start..pos];
        let place = *places.entry(key).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(pair) => pair.1 = value,
            None => kept.push((key, value)),
        }
    }
    let count = kept.len();
    let mut all = Vec::with_capacity(data.len());
    for (key, value) in kept {
        all.extend_from_slice(key);
        all.extend_from_slice(value);
    }
    out.truncate(start);
    out.extend_from_slice(&all);
    Ok(count)
}

//! Finding a few fields of a record in the walk that has to be made anyway.

use crate::msgpack::{Entry, Malformed, Token, read_entry_head, read_short_key, read_token, skip_value};

/// Where a pair and its value stand within a record's pairs. `end` 0: there is no such pair.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The key.
    pub start: usize,
    /// The value.
    pub value: usize,
    /// Behind the value.
    pub end: usize,
}

/// Where the wanted fields of one record stand; memory that is used again from record to record.
#[derive(Debug, Default)]
pub struct Found {
    /// By number of the field; the first pair counts.
    pub places: Vec<Place>,
    /// Further pairs with the same key, which a well-made record has not.
    pub again: Vec<(usize, Place)>,
}

impl Found {
    /// A field's value in `body`. Of several with one key the last one counts, as where a hash is made of them.
    #[inline]
    #[must_use]
    pub fn value<'a>(&self, body: &'a [u8], field: usize) -> Option<&'a [u8]> {
        let first = self.places[field];
        let place = match self.again.iter().rev().find(|(other, _)| *other == field) {
            Some((_, place)) => *place,
            None if first.end == 0 => return None,
            None => first,
        };
        Some(&body[place.value..place.end])
    }
}

/// Top-level keys that are wanted, by number.
#[derive(Debug, Default)]
pub struct Fields {
    keys: Vec<Vec<u8>>,
    /// One bit for each mix of length and last byte that a key here has: most keys of records meet none.
    mask: u64,
}

#[inline(always)]
fn bit(key: &[u8]) -> u64 {
    let last = key.last().map_or(0, |last| u32::from(*last));
    1 << ((key.len() as u32).wrapping_mul(7).wrapping_add(last) & 63)
}

impl Fields {
    /// The number of a key, added where it is new.
    pub fn add(&mut self, key: &[u8]) -> usize {
        self.mask |= bit(key);
        self.find(key).unwrap_or_else(|| {
            self.keys.push(key.to_vec());
            self.keys.len() - 1
        })
    }

    /// The key of that number.
    #[must_use]
    pub fn key(&self, field: usize) -> &[u8] {
        &self.keys[field]
    }

    #[inline(always)]
    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.mask & bit(key) == 0 {
            return None;
        }
        self.keys.iter().position(|known| known == key)
    }

    /// Reads the entry at `pos` and moves `pos` behind it; `found` is then where its fields stand.
    ///
    /// # Errors
    /// As [`read_entry_head`].
    #[inline]
    pub fn read<'a>(
        &self,
        data: &'a [u8],
        pos: &mut usize,
        found: &mut Found,
    ) -> Result<Entry<'a>, Malformed> {
        found.places.clear();
        found.places.resize(self.keys.len(), Place::default());
        found.again.clear();
        let start = *pos;
        let (time_ns, time, pairs) = read_entry_head(data, pos)?;
        let body = *pos;
        for _ in 0..pairs {
            let key_start = *pos;
            let key = match read_short_key(data, pos) {
                Some(key) => Some(key),
                None => long_key(data, pos)?,
            };
            let value = *pos;
            skip_value(data, pos)?;
            if let Some(key) = key
                && let Some(field) = self.find(key)
            {
                let place = Place { start: key_start - body, value: value - body, end: *pos - body };
                if found.places[field].end == 0 {
                    found.places[field] = place;
                } else {
                    found.again.push((field, place));
                }
            }
        }
        Ok(Entry {
            time_ns,
            time_bytes: &data[time.0..time.1],
            pairs,
            body: &data[body..*pos],
            bytes: &data[start..*pos],
        })
    }
}

#[cold]
fn long_key<'a>(data: &'a [u8], pos: &mut usize) -> Result<Option<&'a [u8]>, Malformed> {
    let start = *pos;
    match read_token(data, pos)? {
        Token::Str(key) | Token::Bin(key) => Ok(Some(key)),
        _ => {
            *pos = start;
            skip_value(data, pos)?;
            Ok(None)
        }
    }
}

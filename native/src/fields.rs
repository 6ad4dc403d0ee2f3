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
    /// The keys of the last record, in order: the next one mostly has the same.
    shape: Vec<Known>,
}

/// A key of up to [`BLOCK`] bytes, its head included, as it stands in a record.
#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u128,
    /// Which of the bytes are its own; none: it is longer.
    mask: u128,
    len: usize,
    field: Option<usize>,
}

const BLOCK: usize = 16;

impl Known {
    fn of(key: &[u8], field: Option<usize>) -> Self {
        let mut bytes = [0; BLOCK];
        if key.len() > BLOCK {
            // matches nothing
            return Known { bytes: u128::MAX, mask: 0, len: 0, field: None };
        }
        bytes[..key.len()].copy_from_slice(key);
        let mask = u128::MAX >> (8 * (BLOCK - key.len()));
        Known { bytes: u128::from_le_bytes(bytes), mask, len: key.len(), field }
    }

    #[inline(always)]
    fn is_at(&self, data: &[u8], pos: usize) -> bool {
        data.get(pos..)
            .and_then(|rest| rest.first_chunk::<BLOCK>())
            .is_some_and(|block| u128::from_le_bytes(*block) & self.mask == self.bytes)
    }
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
    /// Of each key its length and first bytes, which tell short keys apart without a call.
    heads: Vec<(usize, u64)>,
    /// One bit for each mix of length and last byte that a key here has: most keys of records meet none.
    mask: u64,
}

#[inline(always)]
fn bit(key: &[u8]) -> u64 {
    let last = key.last().map_or(0, |last| u32::from(*last));
    1 << ((key.len() as u32).wrapping_mul(7).wrapping_add(last) & 63)
}

/// The first eight bytes of a key, with zeros where it is shorter.
#[inline(always)]
fn head(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk() {
        return u64::from_le_bytes(*first);
    }
    // overlapping halves: no loop, no call
    let len = key.len();
    let part = |from: usize, size: usize| -> u64 {
        key[from..from + size].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    match len {
        4.. => part(0, 4) | part(len - 4, 4) << (8 * (len - 4)),
        2 | 3 => part(0, 2) | part(len - 1, 1) << (8 * (len - 1)),
        1 => part(0, 1),
        _ => 0,
    }
}

impl Fields {
    /// The number of a key, added where it is new.
    pub fn add(&mut self, key: &[u8]) -> usize {
        self.mask |= bit(key);
        self.find(key).unwrap_or_else(|| {
            self.keys.push(key.to_vec());
            self.heads.push((key.len(), head(key)));
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
        let wanted = (key.len(), head(key));
        let known = self.heads.iter().position(|known| *known == wanted)?;
        if key.len() <= 8 || self.keys[known] == key {
            return Some(known);
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
        for number in 0..pairs {
            let key_start = *pos;
            let known = found.shape.get(number).filter(|known| known.is_at(data, key_start));
            let field = match known.map(|known| (known.len, known.field)) {
                // where the value starts does not wait for what is read here
                Some((len, field)) => {
                    *pos += len;
                    field
                }
                None => self.learn(data, pos, number, found)?,
            };
            let value = *pos;
            skip_value(data, pos)?;
            if let Some(field) = field {
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

impl Fields {
    /// Reads a key that is another one than the last record had there.
    #[inline(never)]
    fn learn(
        &self,
        data: &[u8],
        pos: &mut usize,
        number: usize,
        found: &mut Found,
    ) -> Result<Option<usize>, Malformed> {
        let start = *pos;
        let key = match read_short_key(data, pos) {
            Some(key) => Some(key),
            None => long_key(data, pos)?,
        };
        let field = key.and_then(|key| self.find(key));
        let known = Known::of(&data[start..*pos], field);
        if let Some(old) = found.shape.get_mut(number) {
            *old = known;
        } else if number == found.shape.len() && number < 256 {
            found.shape.push(known); // the keys of huge records are not worth the memory
        }
        Ok(field)
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

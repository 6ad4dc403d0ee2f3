//! A record whose fields are added, replaced and taken out, before it is written.

use std::collections::HashMap;
use std::ops::Range;

use crate::msgpack::{self, Malformed, Token, read_token, skip_value};
use crate::ruby_inspect;

/// More fields than this are looked up by a map while a record is flattened.
const FEW: usize = 32;

#[derive(Debug, Clone)]
struct Field {
    /// The key as it stands in MessagePack.
    key: Range<usize>,
    /// Its text; None for a key that is no string.
    name: Option<Range<usize>>,
    value: Range<usize>,
}

/// The top level of one record; reused from event to event.
#[derive(Debug, Default)]
pub struct Record {
    /// The record's pairs, and behind them what was added.
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Record {
    /// Takes a record's pairs.
    ///
    /// # Errors
    /// [`Malformed`] for broken bytes.
    pub fn load(&mut self, body: &[u8], pairs: usize) -> Result<(), Malformed> {
        self.bytes.clear();
        self.fields.clear();
        self.bytes.extend_from_slice(body);
        let mut pos = 0;
        for _ in 0..pairs {
            let key = pos;
            let name = match read_token(body, &mut pos)? {
                Token::Str(name) | Token::Bin(name) => Some(pos - name.len()..pos),
                _ => {
                    pos = key;
                    skip_value(body, &mut pos)?;
                    None
                }
            };
            let value = pos;
            skip_value(body, &mut pos)?;
            self.fields.push(Field { key: key..value, name, value: value..pos });
        }
        Ok(())
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| field.name.clone().is_some_and(|name| self.bytes[name] == *key))
    }

    /// The value of a field, as MessagePack.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.position(key).map(|at| &self.bytes[self.fields[at].value.clone()])
    }

    /// Replaces a field where it stands, or adds it at the end. `write` appends the value.
    pub fn set(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let value = start..self.bytes.len();
        match self.position(key) {
            Some(at) => self.fields[at].value = value,
            None => self.push(key, value),
        }
    }

    fn push(&mut self, key: &[u8], value: Range<usize>) {
        let start = self.bytes.len();
        msgpack::write_text(&mut self.bytes, key, false);
        let end = self.bytes.len();
        self.fields.push(Field { key: start..end, name: Some(end - key.len()..end), value });
    }

    /// Takes a field out; whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let mut found = false;
        while let Some(at) = self.position(key) {
            self.fields.remove(at);
            found = true;
        }
        found
    }

    /// Appends the pairs; gives their number.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        // most fields stand one behind the other, as they came
        let mut run = 0..0;
        for part in self.fields.iter().flat_map(|field| [&field.key, &field.value]) {
            if part.start != run.end {
                out.extend_from_slice(&self.bytes[run]);
                run = part.clone();
            }
            run.end = part.end;
        }
        out.extend_from_slice(&self.bytes[run]);
        self.fields.len()
    }

    /// Brings fields of maps up to the top: `{"a":{"b":1}}` becomes `{"a_b":1}`. Arrays stay as they are, empty
    /// maps vanish; of equal keys the last value counts, at the place of the first.
    ///
    /// # Errors
    /// [`Malformed`] for broken bytes.
    pub fn flatten(&mut self, separator: &str) -> Result<(), Malformed> {
        let fields = std::mem::take(&mut self.fields);
        let mut known = HashMap::new();
        let mut path = Vec::new();
        for field in fields {
            self.lift(&mut known, &mut path, field.key.start, separator.as_bytes())?;
        }
        Ok(())
    }

    /// Lifts the pair at `pos`, whose key has `path` before it; gives the position behind it.
    fn lift(
        &mut self,
        known: &mut HashMap<Vec<u8>, usize>,
        path: &mut Vec<u8>,
        mut pos: usize,
        separator: &[u8],
    ) -> Result<usize, Malformed> {
        let before = path.len();
        ruby_inspect::write_to_s(path, &self.bytes, &mut pos)?;
        let start = pos;
        let mut inside = pos;
        if let Token::Map(pairs) = read_token(&self.bytes, &mut inside)? {
            pos = inside;
            path.extend_from_slice(separator);
            for _ in 0..pairs {
                pos = self.lift(known, path, pos, separator)?;
            }
        } else {
            skip_value(&self.bytes, &mut pos)?;
            self.put(known, path, start..pos);
        }
        path.truncate(before);
        Ok(pos)
    }

    fn put(&mut self, known: &mut HashMap<Vec<u8>, usize>, key: &[u8], value: Range<usize>) {
        if self.fields.len() == FEW && known.is_empty() {
            for (at, field) in self.fields.iter().enumerate() {
                if let Some(name) = field.name.clone() {
                    known.insert(self.bytes[name].to_vec(), at);
                }
            }
        }
        let at = if self.fields.len() < FEW { self.position(key) } else { known.get(key).copied() };
        if let Some(at) = at {
            self.fields[at].value = value;
            return;
        }
        if self.fields.len() >= FEW {
            known.insert(key.to_vec(), self.fields.len());
        }
        self.push(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_out;

    fn json(record: &Record) -> String {
        let mut body = Vec::new();
        let pairs = record.write(&mut body);
        let mut out = Vec::new();
        json_out::write_record(&mut out, &body, pairs).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn load(text: &str) -> Record {
        let mut body = Vec::new();
        crate::json_in::transcode(text.as_bytes(), &mut body).unwrap();
        let mut pos = 0;
        let Ok(Token::Map(pairs)) = read_token(&body, &mut pos) else { panic!("{text}") };
        let mut record = Record::default();
        record.load(&body[pos..], pairs).unwrap();
        record
    }

    #[test]
    fn fields_are_set_and_removed() {
        let mut record = load(r#"{"a":1,"b":2,"c":3}"#);
        record.set(b"b", |out| msgpack::write_str(out, b"x"));
        record.set(b"d", |out| msgpack::write_uint(out, 4));
        assert!(record.remove(b"a"));
        assert!(!record.remove(b"a"));
        assert_eq!(record.get(b"d"), Some(&[4u8][..]));
        assert_eq!(json(&record), r#"{"b":"x","c":3,"d":4}"#);
    }

    #[test]
    fn maps_are_flattened() {
        for (text, expected) in [
            (r#"{"a":{"b":{"c":1},"d":2},"e":3}"#, r#"{"a_b_c":1,"a_d":2,"e":3}"#),
            (r#"{"a":{},"l":[{"x":{"y":1}}]}"#, r#"{"l":[{"x":{"y":1}}]}"#),
            (r#"{"a":{"b":1},"a_b":2,"c":0}"#, r#"{"a_b":2,"c":0}"#),
            ("{}", "{}"),
        ] {
            let mut record = load(text);
            record.flatten("_").unwrap();
            assert_eq!(json(&record), expected, "{text}");
        }
        let wide: Vec<String> = (0..100).map(|n| format!(r#""k{n}":{{"v":{n}}}"#)).collect();
        let mut record = load(&format!("{{{},\"k99_v\":\"last\",\"k0_v\":\"first\"}}", wide.join(",")));
        record.flatten("_").unwrap();
        let flat = json(&record);
        assert!(flat.starts_with(r#"{"k0_v":"first","k1_v":1,"#) && flat.ends_with(r#""k99_v":"last"}"#));
    }
}

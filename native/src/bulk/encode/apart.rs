//! Events that have to be taken apart, and where their documents go.

use std::mem;

use super::{Failure, ID_PLACE, Part, Run, TIMESTAMP, hex, name, refused, truthy, write_id};
use crate::accessor::Accessor;
use crate::bulk::config::Operation;
use crate::bulk::expression::Scope;
use crate::bulk::record::Record;
use crate::json_out::{self, Floats};
use crate::msgpack::{self, Entry, Token, read_token};

impl Run<'_> {
    /// Makes the next event look for its index: no time is within an empty span.
    pub(super) fn leave_date(&mut self) {
        (self.from, self.until) = (i64::MAX, i64::MIN);
    }

    /// Goes on with the index of this time.
    #[cold]
    pub(super) fn turn_to_date(&mut self, time_ns: i64) {
        if !self.config.logstash_format {
            self.turn_to(self.target.index.to_lowercase());
            (self.from, self.until) = (i64::MIN, i64::MAX);
            return;
        }
        let mut index = self.target.index.as_bytes().to_vec();
        self.date.write(&mut index, time_ns);
        self.turn_to(String::from_utf8_lossy(&index).to_lowercase());
        self.from = time_ns.div_euclid(self.step).saturating_mul(self.step);
        self.until = self.from.saturating_add(self.step);
    }

    /// Goes on with this index.
    fn turn_to(&mut self, index: String) {
        if !self.head.is_empty() && self.index == index {
            return;
        }
        if !self.named.contains(index.as_str()) {
            self.named.insert(index.as_str().into());
            self.outcome.indices.push(index.as_str().into());
        }
        if self.config.include_index_in_url {
            self.turn_to_part(&index);
        }
        let head = &mut self.head;
        head.clear();
        head.extend_from_slice(b"{\"");
        head.extend_from_slice(self.config.operation.action().as_bytes());
        head.extend_from_slice(b"\":{");
        if !self.config.include_index_in_url {
            name(head, b"_index");
            json_out::write_string(head, index.as_bytes());
        }
        if self.config.with_type {
            name(head, b"_type");
            match self.target.type_name {
                Some(name) => json_out::write_string(head, name.as_bytes()),
                None => head.extend_from_slice(b"null"),
            }
        }
        if let Some(pipeline) = self.target.pipeline {
            name(head, b"pipeline");
            json_out::write_string(head, pipeline.as_bytes());
        }
        if !self.encoder.own_meta {
            if self.config.deterministic_id {
                name(head, b"_id");
                self.id_at = Some(head.len());
                head.extend_from_slice(ID_PLACE);
            }
            self.encoder.open_document(head);
        }
        self.index = index;
    }

    /// Goes on with the body for this index.
    fn turn_to_part(&mut self, index: &str) {
        if self.part.index.as_deref() == Some(index) {
            return;
        }
        let mut body = Vec::new();
        if self.part.index.is_some() {
            self.open[self.place] = mem::take(&mut self.part);
        } else {
            body = mem::take(&mut self.part.body); // the first one
        }
        self.place = match self.places.get(index) {
            Some(place) => *place,
            None => {
                let place = self.open.len();
                self.places.insert(index.into(), place);
                self.open.push(Part { index: Some(index.into()), body, items: Vec::new() });
                place
            }
        };
        self.part = mem::take(&mut self.open[self.place]);
    }

    /// Writes an event that may have one of the fields in question; gives the start of its lines.
    pub(super) fn taken_apart(&mut self, entry: &Entry<'_>) -> Result<usize, Failure> {
        let mut record = mem::take(&mut self.record);
        let mut scratch = mem::take(&mut self.scratch);
        let written = self.edited(entry, &mut record, &mut scratch);
        (self.record, self.scratch) = (record, scratch);
        written.map_err(refused)
    }

    fn edited(
        &mut self,
        entry: &Entry<'_>,
        record: &mut Record,
        [body, update]: &mut [Vec<u8>; 2],
    ) -> Result<usize, Failure> {
        record.load(entry.body, entry.pairs)?;
        if let Some(key) = &self.config.chunk_id_key {
            record.set(key.as_bytes(), |out| msgpack::write_str(out, hex(self.target.chunk_id).as_bytes()));
        }
        if let Some(separator) = &self.config.flatten {
            record.flatten(separator)?;
        }
        let chosen = self.chosen(entry, record, body)?;
        let (time_ns, offset) =
            if self.encoder.stamps { self.timestamp(entry, record) } else { (entry.time_ns, None) };
        let encoder = self.encoder;
        let index = match extract(record, &encoder.index_path, body, update)? {
            Some(value) => match read_token(&value, &mut 0)? {
                Token::Str(text) | Token::Bin(text) if !text.is_empty() => {
                    Some(String::from_utf8_lossy(text).to_lowercase())
                }
                _ => return Err(Failure::Refused("bad_index")),
            },
            None => chosen.map(|start| self.with_date(start, time_ns, offset)),
        };
        if let Some(key) = &self.config.tag_key {
            record.set(key.as_bytes(), |out| match self.target.tag {
                Some(tag) => msgpack::write_str(out, tag.as_bytes()),
                None => msgpack::write_nil(out),
            });
        }
        extract(record, &encoder.type_path, body, update)?;
        let known = self.target.known.and_then(|known| {
            body.clear();
            let pairs = record.write(body);
            known.get(&encoder.id_text(body, pairs)?)
        });
        match (known.cloned().or(index), offset) {
            (Some(index), _) => {
                self.turn_to(index);
                self.leave_date();
            }
            (None, Some(offset)) if self.config.logstash_format && !self.config.utc_index => {
                let mut index = self.target.index.as_bytes().to_vec();
                self.date.write_at(&mut index, time_ns, offset);
                self.turn_to(String::from_utf8_lossy(&index).to_lowercase());
                self.leave_date();
            }
            _ => {
                if !(self.from..self.until).contains(&time_ns) {
                    self.turn_to_date(time_ns);
                }
            }
        }
        let start = self.part.body.len();
        self.part.body.extend_from_slice(&self.head);
        let mut written = Ok(());
        if self.encoder.own_meta {
            body.clear();
            let pairs = record.write(body);
            written = self.meta(entry.bytes, body, pairs);
        }
        if let Err(failure) = written.and_then(|()| self.document(record, body, update)) {
            self.part.body.truncate(start);
            return Err(failure);
        }
        if let Some(at) = self.id_at {
            let id = self.id(entry.bytes);
            write_id(&mut self.part.body[start + at..], id);
        }
        Ok(start)
    }

    /// What `index_template` gives for an event; None without one.
    fn chosen(
        &mut self,
        entry: &Entry<'_>,
        record: &Record,
        body: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let Some((template, clocks)) = &mut self.template else { return Ok(None) };
        let mut scope =
            Scope { tag: self.target.tag, time_ns: entry.time_ns, body: entry.body, pairs: entry.pairs };
        if self.config.flatten.is_some() {
            body.clear();
            scope.pairs = record.write(body);
            scope.body = body;
        }
        let mut text = Vec::new();
        if template.write(&scope, clocks, &mut text) && !text.is_empty() {
            return Ok(Some(text));
        }
        Err(Failure::Refused("bad_index"))
    }

    /// The name of an index that starts with `start`.
    fn with_date(&mut self, mut start: Vec<u8>, time_ns: i64, offset: Option<i32>) -> String {
        if self.config.logstash_format {
            start.extend_from_slice(self.target.index.as_bytes());
            match offset {
                Some(offset) if !self.config.utc_index => self.date.write_at(&mut start, time_ns, offset),
                _ => self.date.write(&mut start, time_ns),
            }
        }
        String::from_utf8_lossy(&start).to_lowercase()
    }

    /// The document's line, without what opens it. `body` and `update` are working memory.
    fn document(
        &mut self,
        record: &mut Record,
        body: &mut Vec<u8>,
        update: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let config = self.config;
        for key in &config.remove_keys {
            record.remove(key.as_bytes());
        }
        let on_update = match config.operation {
            Operation::Update | Operation::Upsert => self.keys_on_update(record)?,
            Operation::Index | Operation::Create => Vec::new(),
        };
        let pairs = write_padded(record, body);
        let out = &mut self.part.body;
        let mut removed = false;
        for key in &on_update {
            removed |= record.remove(key);
        }
        if !removed {
            json_out::write_record_at(out, body, &mut 0, pairs, Floats::Oj)?;
            out.extend_from_slice(self.tail);
            return Ok(());
        }
        let left = write_padded(record, update);
        json_out::write_record_at(out, update, &mut 0, left, Floats::Oj)?;
        if self.encoder.doc_wrap {
            if config.operation == Operation::Upsert {
                out.extend_from_slice(b",\"upsert\":");
                json_out::write_record_at(out, body, &mut 0, pairs, Floats::Oj)?;
            }
            out.push(b'}');
        }
        out.push(b'\n');
        Ok(())
    }

    /// The keys that updates leave out; the field that may list them is taken out.
    fn keys_on_update(&self, record: &mut Record) -> Result<Vec<Vec<u8>>, Failure> {
        let configured =
            || self.config.remove_keys_on_update.iter().map(|key| key.clone().into_bytes()).collect();
        let Some(key) = &self.config.remove_keys_on_update_key else { return Ok(configured()) };
        let Some(value) = record.get(key.as_bytes()).filter(|value| truthy(value)) else {
            record.remove(key.as_bytes());
            return Ok(configured());
        };
        let mut pos = 0;
        let Token::Array(len) = read_token(value, &mut pos)? else {
            return Err(Failure::Refused("bad_remove_keys"));
        };
        let mut keys = Vec::new();
        for _ in 0..len {
            let start = pos;
            msgpack::skip_value(value, &mut pos)?;
            if let Token::Str(key) | Token::Bin(key) = read_token(value, &mut start.clone())? {
                keys.push(key.to_vec());
            }
        }
        record.remove(key.as_bytes());
        Ok(keys)
    }

    /// Sees to the field `@timestamp`. Gives the time that counts for the index, with its offset where it came
    /// from a field.
    fn timestamp(&mut self, entry: &Entry<'_>, record: &mut Record) -> (i64, Option<i32>) {
        let given = record.get(TIMESTAMP);
        let by_key = match (&given, &self.config.time_key) {
            (None, Some(key)) => record.get(key.as_bytes()),
            _ => None,
        };
        let time = match given.or(by_key) {
            Some(value) => match self.encoder.field_time.read(value, &mut self.times) {
                Some((time_ns, offset)) => (time_ns, Some(offset)),
                None => {
                    self.no_time(entry, value);
                    (entry.time_ns, None)
                }
            },
            None => (entry.time_ns, None),
        };
        let wanted = given.is_none() && !(by_key.is_some() && self.config.time_key_exclude_timestamp);
        if wanted {
            let mut text = Vec::with_capacity(40);
            match time {
                (time_ns, Some(offset)) => self.iso.write_at(&mut text, time_ns, offset),
                (time_ns, None) => self.iso.write(&mut text, time_ns),
            }
            record.set(TIMESTAMP, |out| msgpack::write_str(out, &text));
        }
        time
    }

    /// Notes a field that is no time, in Fluentd's words.
    fn no_time(&mut self, entry: &Entry<'_>, value: &[u8]) {
        let outcome = &mut self.outcome;
        outcome.time_error_count += 1;
        let out = &mut outcome.time_errors;
        msgpack::write_entry_start(out, self.target.now_ns);
        msgpack::write_map_header(out, 4);
        msgpack::write_str(out, b"tag");
        match self.target.tag {
            Some(tag) => msgpack::write_str(out, tag.as_bytes()),
            None => msgpack::write_nil(out),
        }
        msgpack::write_str(out, b"time");
        out.extend_from_slice(entry.time_bytes);
        msgpack::write_str(out, b"format");
        match &self.config.time_key_format {
            Some(format) => msgpack::write_str(out, format.as_bytes()),
            None => msgpack::write_nil(out),
        }
        msgpack::write_str(out, b"value");
        out.extend_from_slice(value);
    }
}

/// Puts the record's pairs into `out`, with some bytes behind them, for the JSON writer reads whole blocks
/// where there are any.
fn write_padded(record: &Record, out: &mut Vec<u8>) -> usize {
    out.clear();
    let pairs = record.write(out);
    out.extend_from_slice(&[0; 16]);
    pairs
}

/// Takes a field out of the record where it is neither nil nor false; gives its value.
fn extract(
    record: &mut Record,
    path: &Accessor,
    body: &mut Vec<u8>,
    rest: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, Failure> {
    if path.steps().is_empty() {
        return Ok(None);
    }
    body.clear();
    let pairs = record.write(body);
    let Some(value) = path.get(body, pairs).filter(|value| truthy(value)) else { return Ok(None) };
    rest.clear();
    let left = path.write_without(body, pairs, rest)?;
    let value = value.to_vec();
    record.load(rest, left)?;
    Ok(Some(value))
}

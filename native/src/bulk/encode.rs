//! Event-stream entries to the body of a bulk request.
//!
//! Two lines an event, the action and the document (Elasticsearch reference, "Bulk API"). Most events take a
//! short way: the action line is copied, the record is written as JSON in one pass, and what is added to it
//! follows. Only an event that may hold one of the fields in question is taken apart first.

mod apart;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128, xxh3_128_with_seed};

use super::config::{Config, Operation};
use super::dates::{Dated, FieldTime, FieldTimeCache};
use super::expression::{Clocks, Template};
use super::keys::Keys;
use super::record::Record;
use crate::accessor::{Accessor, Step};
use crate::formatters::read_event;
use crate::json_out::{self, Floats};
use crate::msgpack::{Entries, Malformed, Token, read_entry, read_token};
use crate::ruby_inspect::write_to_s;

/// The field that Elasticsearch's tools take the time from.
const TIMESTAMP: &[u8] = b"@timestamp";
/// Elasticsearch's limit; beyond it the whole request would be refused.
const ID_MAX_BYTES: usize = 512;
/// 64 values for 6 bits each (RFC 4648, section 5).
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An id's quotes and the room between them.
const ID_PLACE: &[u8; 24] = b"\"                      \"";

/// What holds for one chunk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// The events' tag.
    pub tag: Option<&'a str>,
    /// The index; with `logstash_format` what stands before the date.
    pub index: &'a str,
    /// `logstash_dateformat`
    pub date_format: &'a str,
    /// `_type`; None is written as null.
    pub type_name: Option<&'a str>,
    /// The ingest pipeline.
    pub pipeline: Option<&'a str>,
    /// The same at every retry, different for every chunk.
    pub chunk_id: &'a [u8],
    /// Longest body in bytes, but for one event that is longer alone. None: no limit.
    pub limit: Option<usize>,
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
    /// Indices of documents that are there already, by the text of their ids: those stay where they are.
    pub known: Option<&'a HashMap<Vec<u8>, String>>,
}

/// Where one item of a body comes from and stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Where its entry starts, counted over all blocks.
    pub entry: usize,
    /// Where its action line starts in the body.
    pub start: usize,
}

/// One request.
#[derive(Debug, Default)]
pub struct Part {
    /// The index that goes into the URL (`include_index_in_url`).
    pub index: Option<Box<str>>,
    /// The request's body.
    pub body: Vec<u8>,
    /// Its items, in order.
    pub items: Vec<Item>,
}

/// What became of the entries of a chunk.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The requests, in order.
    pub parts: Vec<Part>,
    /// The indices that they are for.
    pub indices: Vec<Box<str>>,
    /// Events that cannot be sent, by reason: where their entries start.
    pub refused: Vec<(&'static str, Vec<usize>)>,
    /// Entries for `time_parse_error_tag`: fields that are no time.
    pub time_errors: Vec<u8>,
    /// Their number.
    pub time_error_count: usize,
    /// Bytes behind entries that are no MessagePack.
    pub unreadable: usize,
}

/// Why an event is not in a body.
enum Failure {
    Malformed,
    Refused(&'static str),
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Failure::Malformed
    }
}

/// A compiled [`Config`].
pub struct Encoder {
    config: Config,
    field_time: FieldTime,
    stamp_format: String,
    index_path: Accessor,
    type_path: Accessor,
    keys: Keys,
    /// Every event is taken apart.
    always: bool,
    stamps: bool,
    /// The action line differs from event to event.
    own_meta: bool,
    doc_wrap: bool,
}

fn path(keys: &[String]) -> Accessor {
    Accessor::from_steps(keys.iter().map(|key| Step::Key(key.as_bytes().to_vec())).collect())
}

impl Encoder {
    /// Compiles.
    ///
    /// # Errors
    /// A message that names the time format that is wrong.
    pub fn new(config: Config) -> Result<Self, String> {
        let stamps = config.logstash_format || config.include_timestamp;
        let updates = matches!(config.operation, Operation::Update | Operation::Upsert);
        let fraction = match config.time_precision {
            0 => String::new(),
            digits => format!(".%{digits}N"),
        };
        let mut keys = Keys::default();
        let mut added: Vec<&[u8]> = Vec::new();
        if stamps {
            added.push(TIMESTAMP);
            config.time_key.iter().for_each(|key| keys.add(key.as_bytes()));
        }
        added.extend(config.tag_key.iter().chain(&config.chunk_id_key).map(String::as_bytes));
        // where two added fields have one name the later one counts
        let mut always = config.flatten.is_some()
            || config.index_template.is_some()
            || (1..added.len()).any(|at| added[..at].contains(&added[at]));
        added.iter().for_each(|key| keys.add(key));
        config.remove_keys.iter().for_each(|key| keys.add(key.as_bytes()));
        if updates {
            config.remove_keys_on_update.iter().for_each(|key| keys.add(key.as_bytes()));
            config.remove_keys_on_update_key.iter().for_each(|key| keys.add(key.as_bytes()));
        }
        for keys_of_path in [&config.target_index_key, &config.target_type_key] {
            keys_of_path.last().iter().for_each(|key| keys.add(key.as_bytes()));
        }
        // an accessor may point at what is added, and never at what was removed with such a field
        for accessor in [&config.id_key, &config.parent_key, &config.routing_key].into_iter().flatten() {
            always |= matches!(accessor.steps(), [Step::Key(key), ..] if added.contains(&key.as_slice()));
        }
        // removing an added field
        always |= added.iter().any(|key| {
            let mut removed = config.remove_keys.iter().map(String::as_bytes);
            let mut on_update = config.remove_keys_on_update.iter().map(String::as_bytes);
            removed.any(|other| other == *key)
                || (updates && on_update.any(|other| other == *key))
                || config.remove_keys_on_update_key.as_ref().is_some_and(|other| other.as_bytes() == *key)
                || [&config.target_index_key, &config.target_type_key]
                    .into_iter()
                    .any(|path| path.first().is_some_and(|first| first.as_bytes() == *key))
        });
        Ok(Encoder {
            field_time: FieldTime::new(config.time_key_format.as_deref())?,
            stamp_format: format!("%Y-%m-%dT%H:%M:%S{fraction}%:z"),
            index_path: path(&config.target_index_key),
            type_path: path(&config.target_type_key),
            keys,
            always,
            stamps,
            own_meta: (config.operation != Operation::Index && !config.deterministic_id)
                || config.id_key.is_some()
                || config.parent_key.is_some()
                || config.routing_key.is_some(),
            doc_wrap: updates && !config.suppress_doc_wrap,
            config,
        })
    }

    /// Ends the action line.
    #[inline]
    fn open_document(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"}}\n");
        if self.doc_wrap {
            out.extend_from_slice(b"{\"doc\":");
        }
    }

    /// The ids that `id_key` gives, as texts, each once.
    #[must_use]
    pub fn ids(&self, blocks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut found = HashSet::new();
        for entry in blocks.iter().flat_map(|block| Entries::new(block).map_while(Result::ok)) {
            found.extend(self.id_text(entry.body, entry.pairs));
        }
        found.into_iter().collect()
    }

    /// A record's id as text.
    fn id_text(&self, body: &[u8], pairs: usize) -> Option<Vec<u8>> {
        let value = self.config.id_key.as_ref()?.get(body, pairs).filter(|value| truthy(value))?;
        let mut text = Vec::new();
        write_to_s(&mut text, value, &mut 0).ok()?;
        Some(text)
    }

    /// Encodes the entries of all blocks; an entry never spans two.
    ///
    /// # Errors
    /// A message that names the zone; none for the machine's or UTC.
    pub fn encode(&self, blocks: &[&[u8]], target: &Target<'_>, capacity: usize) -> Result<Outcome, String> {
        let mut run = Run::new(self, target, capacity)?;
        let mut base = 0;
        for block in blocks {
            run.block(block, base);
            base += block.len();
        }
        Ok(run.finish())
    }
}

/// The state of one call of [`Encoder::encode`].
struct Run<'a> {
    encoder: &'a Encoder,
    config: &'a Config,
    target: &'a Target<'a>,
    part: Part,
    capacity: usize,
    /// With the index in the URL: the bodies that are not being written, and the place of the present one.
    open: Vec<Part>,
    /// What `head` names.
    index: String,
    places: HashMap<Box<str>, usize>,
    place: usize,
    /// `index_template`, with its clocks.
    template: Option<(&'a Template, Clocks)>,
    named: HashSet<Box<str>>,
    outcome: Outcome,
    /// The action line up to what an event adds; with nothing to add, up to the document's record.
    head: Vec<u8>,
    /// `logstash_format`: the date of the index, and how long `head` holds.
    date: Dated,
    step: i64,
    from: i64,
    until: i64,
    /// Fields that every record gets, `,"a":1` each: before and behind the timestamp.
    before: Vec<u8>,
    stamp: Dated,
    behind: Vec<u8>,
    tail: &'static [u8],
    iso: Dated,
    seed: u64,
    /// Where `head` has room for an id, if its hash is all that an event adds to it.
    id_at: Option<usize>,
    /// How often the same entry has come, by hash.
    seen: HashMap<u64, u64, BuildHasherDefault<AlreadyHash>>,
    times: FieldTimeCache,
    record: Record,
    scratch: [Vec<u8>; 2],
}

impl<'a> Run<'a> {
    fn new(encoder: &'a Encoder, target: &'a Target<'a>, capacity: usize) -> Result<Self, String> {
        let config = &encoder.config;
        let mut before = Vec::new();
        let mut behind = Vec::new();
        if let Some(key) = &config.chunk_id_key {
            name(&mut before, key.as_bytes());
            json_out::write_string(&mut before, hex(target.chunk_id).as_bytes());
        }
        if let Some(key) = &config.tag_key {
            name(&mut behind, key.as_bytes());
            match target.tag {
                Some(tag) => json_out::write_string(&mut behind, tag.as_bytes()),
                None => behind.extend_from_slice(b"null"),
            }
        }
        let zone = config.utc_index.then_some("UTC");
        let date = Dated::new(target.date_format, zone)?;
        let seed = xxh3_64(&[target.chunk_id, b"\0", target.tag.unwrap_or_default().as_bytes()].concat());
        let mut run = Run {
            encoder,
            config,
            target,
            part: Part::default(),
            capacity: target.limit.map_or(capacity, |limit| capacity.min(limit.saturating_add(4096))),
            open: Vec::new(),
            index: String::new(),
            places: HashMap::new(),
            place: 0,
            template: match &config.index_template {
                Some(template) => Some((template, template.clocks()?)),
                None => None,
            },
            named: HashSet::new(),
            outcome: Outcome::default(),
            head: Vec::new(),
            step: date.granularity(),
            date,
            from: 0,
            until: 0,
            before,
            stamp: Dated::new(&format!(",\"@timestamp\":\"{}\"", encoder.stamp_format), None)?,
            behind,
            tail: match (encoder.doc_wrap, config.operation) {
                (false, _) => b"\n",
                (true, Operation::Upsert) => b",\"doc_as_upsert\":true}\n",
                (true, _) => b"}\n",
            },
            iso: Dated::new(&encoder.stamp_format, None)?,
            seed,
            id_at: None,
            seen: HashMap::default(),
            times: FieldTimeCache::default(),
            record: Record::default(),
            scratch: [Vec::new(), Vec::new()],
        };
        run.part.body.reserve(run.capacity);
        run.leave_date();
        Ok(run)
    }

    fn finish(mut self) -> Outcome {
        if self.config.include_index_in_url {
            if self.place < self.open.len() {
                self.open[self.place] = mem::take(&mut self.part);
            }
            self.outcome.parts.extend(self.open.into_iter().filter(|part| !part.items.is_empty()));
        } else if !self.part.items.is_empty() {
            self.outcome.parts.push(self.part);
        }
        self.outcome
    }

    /// Encodes one block, which starts at `base` of the whole.
    fn block(&mut self, data: &[u8], base: usize) {
        let look = self.encoder.always || self.target.known.is_some() || self.encoder.keys.may_be_in(data);
        let mut pos = 0;
        while pos < data.len() {
            let entry = base + pos;
            let result = if look { self.one_by_one(data, &mut pos) } else { self.straight(data, &mut pos) };
            match result {
                Ok(start) => self.book(entry, start),
                Err(Failure::Refused(reason)) => {
                    let known = self.outcome.refused.iter_mut().find(|(known, _)| *known == reason);
                    match known {
                        Some((_, entries)) => entries.push(entry),
                        None => self.outcome.refused.push((reason, vec![entry])),
                    }
                }
                Err(Failure::Malformed) => {
                    // where the next entry would start cannot be known
                    self.outcome.unreadable += base + data.len() - entry;
                    return;
                }
            }
        }
    }

    /// Books an item that was just written; gives it a new body where the limit is passed.
    #[inline]
    fn book(&mut self, entry: usize, start: usize) {
        if let Some(limit) = self.target.limit
            && self.part.body.len() > limit
            && !self.part.items.is_empty()
        {
            let mut body = Vec::with_capacity(self.capacity);
            body.extend_from_slice(&self.part.body[start..]);
            self.part.body.truncate(start);
            let next = Part { index: self.part.index.clone(), body, items: vec![Item { entry, start: 0 }] };
            self.outcome.parts.push(mem::replace(&mut self.part, next));
            return;
        }
        self.part.items.push(Item { entry, start });
    }

    /// Looks at the event first.
    fn one_by_one(&mut self, data: &[u8], pos: &mut usize) -> Result<usize, Failure> {
        let mut end = *pos;
        let entry = read_entry(data, &mut end)?;
        if self.encoder.always || self.target.known.is_some() || self.encoder.keys.may_be_in(entry.bytes) {
            *pos = end;
            return self.taken_apart(&entry);
        }
        self.straight(data, pos)
    }

    /// The common case: the record is written as it is. Gives the start of its lines.
    #[inline]
    fn straight(&mut self, data: &[u8], pos: &mut usize) -> Result<usize, Failure> {
        let event = read_event(data, *pos)?;
        if !(self.from..self.until).contains(&event.time_ns) {
            self.turn_to_date(event.time_ns);
        }
        let start = self.part.body.len();
        self.part.body.extend_from_slice(&self.head);
        let mut end = event.pos;
        let mut written = Ok(());
        if self.encoder.own_meta {
            written = self.meta(&data[*pos..], &data[event.pos..], event.pairs);
        }
        if written.is_ok() {
            let out = &mut self.part.body;
            written = json_out::write_record_at(out, data, &mut end, event.pairs, Floats::Oj)
                .map_err(Failure::from);
        }
        if let Err(failure) = written {
            self.part.body.truncate(start);
            read_entry(data, pos)?;
            return Err(refused(failure));
        }
        if let Some(at) = self.id_at {
            let id = self.id(&data[*pos..end]);
            write_id(&mut self.part.body[start + at..], id);
        }
        self.add(event.time_ns, event.pairs);
        *pos = end;
        Ok(start)
    }

    /// Writes what is added to every record, in place of the closing brace, and ends the event.
    #[inline]
    fn add(&mut self, time_ns: i64, pairs: usize) {
        let out = &mut self.part.body;
        if self.encoder.stamps || !self.before.is_empty() || !self.behind.is_empty() {
            out.truncate(out.len() - 1 - usize::from(pairs == 0));
            let first = out.len();
            out.extend_from_slice(&self.before);
            if self.encoder.stamps {
                self.stamp.write(out, time_ns);
            }
            out.extend_from_slice(&self.behind);
            if pairs == 0 {
                out[first] = b'{'; // where the first comma was
            }
            out.push(b'}');
        }
        out.extend_from_slice(self.tail);
    }

    /// A hash of the chunk, the tag, the entry, and how many equal ones came before it.
    #[inline]
    fn id(&mut self, entry: &[u8]) -> u128 {
        let hash = xxh3_128_with_seed(entry, self.seed);
        let count = self.seen.entry(hash as u64).or_insert(0);
        *count += 1;
        match *count {
            1 => hash,
            count => xxh3_128(&[&hash.to_be_bytes()[..], &count.to_be_bytes()].concat()),
        }
    }

    /// Writes the event's own part of the action line, and opens the document. `entry` may go on behind the
    /// entry, `body` behind the record's pairs.
    fn meta(&mut self, entry: &[u8], body: &[u8], pairs: usize) -> Result<(), Failure> {
        let config = self.config;
        let value =
            |accessor: &Option<Accessor>| accessor.as_ref()?.get(body, pairs).filter(|value| truthy(value));
        if let Some(value) = value(&config.id_key) {
            scalar(value, ID_MAX_BYTES, "bad_id")?;
            name(&mut self.part.body, b"_id");
            json_out::write_value(&mut self.part.body, value, &mut 0, json_out::Floats::Oj)?;
        } else if config.deterministic_id {
            let id = self.id(read_entry(entry, &mut 0)?.bytes);
            name(&mut self.part.body, b"_id");
            let at = self.part.body.len();
            self.part.body.extend_from_slice(ID_PLACE);
            write_id(&mut self.part.body[at..], id);
        } else if config.operation != Operation::Index {
            return Err(Failure::Refused("missing_id"));
        }
        let out = &mut self.part.body;
        if let Some(value) = value(&config.parent_key) {
            scalar(value, usize::MAX, "bad_parent")?;
            name(out, b"_parent");
            json_out::write_value(out, value, &mut 0, json_out::Floats::Oj)?;
        }
        if let Some(value) = value(&config.routing_key) {
            scalar(value, usize::MAX, "bad_routing")?;
            name(out, config.routing_name.as_bytes());
            json_out::write_value(out, value, &mut 0, json_out::Floats::Oj)?;
        }
        self.encoder.open_document(out);
        Ok(())
    }
}

/// What does not fit a document is refused alone: the entry itself was whole.
fn refused(failure: Failure) -> Failure {
    match failure {
        Failure::Malformed => Failure::Refused("malformed"),
        other => other,
    }
}

/// Ruby's truth: all but nil and false.
fn truthy(value: &[u8]) -> bool {
    !matches!(value, [0xc0 | 0xc2, ..])
}

/// Refuses what the server would answer with an error for the whole request.
fn scalar(value: &[u8], max_bytes: usize, reason: &'static str) -> Result<(), Failure> {
    let fits = match read_token(value, &mut 0)? {
        // one byte that is no UTF-8 becomes three
        Token::Str(text) | Token::Bin(text) => {
            let grows = if simdutf8::basic::from_utf8(text).is_ok() { 1 } else { 3 };
            !text.is_empty() && text.len() <= max_bytes / grows
        }
        Token::Float(value) => value.is_finite(),
        Token::Uint(_) | Token::Int(_) | Token::Bool(_) => true,
        Token::Nil | Token::Ext(..) | Token::Array(_) | Token::Map(_) => false,
    };
    if fits { Ok(()) } else { Err(Failure::Refused(reason)) }
}

/// Appends `"name":`, with a comma unless it is the first of its object.
fn name(out: &mut Vec<u8>, name: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json_out::write_string(out, name);
    out.push(b':');
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes 128 bits as 22 characters into the start of `place`, behind its quote.
#[inline]
fn write_id(place: &mut [u8], id: u128) {
    // eleven letters of the upper 62 bits, one across the words, ten of the lower 60 bits
    let (mut high, mut low) = ((id >> 66) as u64, id as u64);
    let middle = URL_SAFE[(id >> 60 & 63) as usize];
    for letter in place[1..12].iter_mut().rev() {
        *letter = URL_SAFE[(high & 63) as usize];
        high >>= 6;
    }
    place[12] = middle;
    for letter in place[13..23].iter_mut().rev() {
        *letter = URL_SAFE[(low & 63) as usize];
        low >>= 6;
    }
}

/// For keys that are hashes.
#[derive(Default)]
struct AlreadyHash(u64);

impl Hasher for AlreadyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests;

//! Bodies of requests and outputs of commands: a text, lines, JSON or MessagePack, from their bytes to a batch.
//!
//! Semantics: Fluentd's in_http and in_exec. What is no record is booked and harms nobody. A time field that is
//! no time has the whole body of a request refused, so that the sender is told ([`Rule::read`]); in the output
//! of a command ([`Rule::feed`]) it is booked too.

mod python;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memchr_iter;

pub use stream::Sequence;

pub use python::{BodyReader, form_fields, inflate_bytes};

use crate::event::Batch;
use crate::ingest::edit::{tag_text, walk};
use crate::ingest::{Taken, tally};
use crate::merge::{Field, merge};
use crate::msgpack::{Malformed, Token, read_token, skip_value, write_entry_start, write_map_header};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::time::{TimeCache, TimeParser, exact_nanos};

const NANOS: i64 = 1_000_000_000;

/// How the records stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As one text for the parser.
    Text,
    /// As one text a line; empty lines are none.
    Lines,
    /// As MessagePack maps, or arrays of them, one after the other.
    MsgPack,
}

/// The field with a record's time, for parsers that give none.
pub struct TimeField {
    /// Its name.
    pub key: Vec<u8>,
    /// Leave it in the record.
    pub keep: bool,
    /// How it is written; None: a number of seconds.
    pub parser: Option<TimeParser>,
}

/// The field that becomes an event's tag.
pub struct TagField {
    /// Its name.
    pub key: Vec<u8>,
    /// Leave it in the record.
    pub keep: bool,
    /// Stands before the tag.
    pub prefix: String,
}

/// Why a body is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The ledger's word.
    pub reason: &'static str,
    /// For the sender.
    pub detail: String,
}

impl From<Malformed> for Refused {
    fn from(why: Malformed) -> Self {
        Refused { reason: "malformed", detail: why.to_string() }
    }
}

/// What is the same for all bodies of one input.
pub struct Rule {
    /// For texts and lines.
    pub parser: Arc<dyn Parser>,
    /// Where a record's time is.
    pub time: Option<TimeField>,
    /// Where a record's tag is.
    pub tag: Option<TagField>,
}

/// What is known of one body.
pub struct Given<'a> {
    /// The tag of its events that have none of their own.
    pub tag: Option<&'a str>,
    /// The time of all its events; None: each has its own, or `now_ns`.
    pub time_ns: Option<i64>,
    /// The present time.
    pub now_ns: i64,
    /// MessagePack pairs that every record gets, in place of its own of the same name, and their number.
    pub added: (&'a [u8], usize),
}

impl Rule {
    /// The events of `body`.
    ///
    /// # Errors
    /// [`Refused`]: none of it is taken.
    pub fn read(&self, form: Form, body: &[u8], given: &Given<'_>) -> Result<Taken, Refused> {
        let mut reading = Reading::new(self, given, body.len());
        match form {
            Form::Text => {
                let mut session = self.parser.session();
                reading.text(body, &mut *session, &mut Events::default())?;
            }
            Form::Lines => {
                let mut session = self.parser.session();
                let mut events = Events::default();
                let mut start = 0;
                for end in memchr_iter(b'\n', body).chain([body.len()]) {
                    let line = &body[start..end];
                    start = end + 1;
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    if !line.is_empty() {
                        reading.text(line, &mut *session, &mut events)?;
                    }
                }
            }
            Form::MsgPack => reading.msgpack(body)?,
        }
        Ok(reading.taken)
    }
}

struct Reading<'a> {
    rule: &'a Rule,
    given: &'a Given<'a>,
    taken: Taken,
    tags: HashMap<Arc<str>, u32>,
    cache: TimeCache,
    index: Vec<Field>,
    merged: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn new(rule: &'a Rule, given: &'a Given<'a>, len: usize) -> Self {
        let batch = Batch { data: Vec::with_capacity(len + 64), ..Batch::default() };
        let taken = Taken { batch, ..Taken::default() };
        Reading {
            rule,
            given,
            taken,
            tags: HashMap::new(),
            cache: TimeCache::default(),
            index: Vec::new(),
            merged: Vec::new(),
        }
    }

    fn text(&mut self, text: &[u8], session: &mut dyn Session, events: &mut Events) -> Result<(), Refused> {
        events.clear();
        match session.parse(text, events) {
            Ok(()) => {
                for item in &events.items {
                    let record = &events.fields[item.start..item.end];
                    self.record(record, item.pairs as usize, item.time_ns)?;
                }
                for _ in 0..events.unmatched {
                    tally(&mut self.taken.failures, Mismatch::NoMatch.reason(), text);
                }
                Ok(())
            }
            Err(why @ (Mismatch::InvalidTime | Mismatch::Malformed | Mismatch::Failed)) => {
                Err(Refused { reason: why.reason(), detail: format!("the parser says: {}", why.reason()) })
            }
            Err(why) => {
                tally(&mut self.taken.failures, why.reason(), text);
                Ok(())
            }
        }
    }

    fn msgpack(&mut self, body: &[u8]) -> Result<(), Refused> {
        let mut pos = 0;
        while pos < body.len() {
            let start = pos;
            skip_value(body, &mut pos)?;
            let mut at = start;
            let records = match read_token(body, &mut at)? {
                Token::Array(count) => count,
                _ => {
                    at = start;
                    1
                }
            };
            for _ in 0..records {
                let start = at;
                skip_value(body, &mut at)?;
                let mut fields = start;
                match read_token(body, &mut fields)? {
                    Token::Map(pairs) => self.record(&body[fields..at], pairs, None)?,
                    _ => tally(&mut self.taken.failures, Mismatch::NoMatch.reason(), &body[start..at]),
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &[u8], pairs: usize, parsed_ns: Option<i64>) -> Result<(), Refused> {
        let (mut record, mut pairs) = (record, pairs);
        let (added, count) = self.given.added;
        if count > 0 {
            self.merged.clear();
            pairs = merge((record, pairs), added, count, &mut self.index, &mut self.merged)?;
            record = &self.merged;
        }
        let mut cut = [(0, 0); 2];
        let mut own_tag = None;
        if let Some(field) = &self.rule.tag
            && let Some((start, value, end)) = find(record, &field.key)
        {
            own_tag = Some(format!("{}{}", field.prefix, tag_text(&record[value..end])));
            if !field.keep {
                pairs -= 1;
                cut[0] = (start, end);
            }
        }
        let mut time_ns = self.given.time_ns.or(parsed_ns);
        if time_ns.is_none()
            && let Some(field) = &self.rule.time
            && let Some((start, value, end)) = find(record, &field.key)
            && cut[0] != (start, end)
        {
            time_ns = field.read(&record[value..end], &mut self.cache)?;
            if !field.keep {
                pairs -= 1;
                cut[1] = (start, end);
            }
        }
        cut.sort_unstable();
        let Some(tag) = own_tag.as_deref().or(self.given.tag) else {
            tally(&mut self.taken.failures, "no_tag", record);
            return Ok(());
        };
        let batch = &mut self.taken.batch;
        let number = match self.tags.get(tag) {
            Some(number) => *number,
            None => {
                let tag: Arc<str> = Arc::from(tag);
                let number = batch.tags.len() as u32;
                batch.tags.push(Arc::clone(&tag));
                self.tags.insert(tag, number);
                number
            }
        };
        let start = batch.data.len();
        write_entry_start(&mut batch.data, time_ns.unwrap_or(self.given.now_ns));
        write_map_header(&mut batch.data, pairs);
        let mut from = 0;
        for (start, end) in cut {
            batch.data.extend_from_slice(&record[from..start.max(from)]);
            from = end.max(from);
        }
        batch.data.extend_from_slice(&record[from..]);
        let len = batch.data.len() - start;
        batch.book(number, len);
        Ok(())
    }
}

/// Start of a pair, its value and its end.
fn find(record: &[u8], wanted: &[u8]) -> Option<(usize, usize, usize)> {
    let mut found = None;
    walk(record, |key, start, value, end| {
        if key == wanted {
            found = Some((start, value, end));
        }
        found.is_none()
    });
    found
}

impl TimeField {
    /// None for null and false, which stand for no time.
    fn read(&self, value: &[u8], cache: &mut TimeCache) -> Result<Option<i64>, Refused> {
        let token = read_token(value, &mut 0)?;
        if matches!(token, Token::Nil | Token::Bool(false)) {
            return Ok(None);
        }
        let time_ns = match (&self.parser, token) {
            (Some(parser), Token::Str(text) | Token::Bin(text)) => parser.parse(text, cache),
            (Some(parser), Token::Uint(seconds)) => {
                i64::try_from(seconds).ok().and_then(|seconds| parser.from_integer(seconds))
            }
            (Some(parser), Token::Int(seconds)) => parser.from_integer(seconds),
            (Some(parser), Token::Float(seconds)) => parser.from_number(seconds),
            (None, Token::Uint(seconds)) => {
                i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(NANOS))
            }
            (None, Token::Int(seconds)) => seconds.checked_mul(NANOS),
            (None, Token::Float(seconds)) => exact_nanos(seconds),
            _ => None,
        };
        match time_ns {
            Some(time_ns) => Ok(Some(time_ns)),
            None => {
                let key = String::from_utf8_lossy(&self.key).into_owned();
                Err(Refused { reason: "invalid_time", detail: format!("the field {key} is no time") })
            }
        }
    }
}

/// Name and value.
pub type FormField = (Vec<u8>, Vec<u8>);

/// `application/x-www-form-urlencoded` fields, in order, decoded: `+` is a space, `%XX` a byte; what follows
/// a `%` and is no number stays.
///
/// # Errors
/// More than `most` fields.
pub fn decode_form(text: &[u8], most: usize) -> Result<Vec<FormField>, Refused> {
    let mut fields = Vec::new();
    for part in text.split(|byte| *byte == b'&') {
        if part.is_empty() && text.is_empty() {
            continue;
        }
        if fields.len() == most {
            let detail = format!("more than {most} form fields");
            return Err(Refused { reason: "limit", detail });
        }
        let equals = memchr::memchr(b'=', part);
        let (key, value) = equals.map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
        fields.push((unescape(key), unescape(value)));
    }
    Ok(fields)
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (digit(at), digit(at + 1)) {
                (Some(high), Some(low)) => {
                    out.push((high << 4 | low) as u8);
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            other => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests;

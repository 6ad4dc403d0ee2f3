//! The parser filter: runs a parser over one field of each event.
//!
//! Semantics: Fluentd's filter_parser. Failures are of two kinds there. A text that the parser does not
//! match leaves the event in the stream where `reserve_data` is set; a text that makes the parser fail
//! (a time that does not fit, a field that is no text, an exception) takes it out in any case.

mod python;

use std::time::{SystemTime, UNIX_EPOCH};

pub use python::{ParserFilter, ParserFilterResult};

use crate::accessor::{Accessor, is_key};
use crate::event::Batch;
use crate::merge::{Field, KeySet, Shape, merge, prefix_keys, weave};
use crate::msgpack::{
    self, Malformed, Token, read_entry, read_short_key, read_token, skip_value, write_entry_start,
    write_map_header, write_str,
};
use crate::parser::{Events, Item, Mismatch, OtherValues, Parser};

/// How much of a text that failed is kept as a sample.
const SAMPLE_BYTES: usize = 256;

/// The filter's parameters.
#[derive(Debug, Clone)]
pub struct FilterOptions {
    /// `key_name`
    pub key: Accessor,
    /// `reserve_data`
    pub reserve_data: bool,
    /// `reserve_time`
    pub reserve_time: bool,
    /// `remove_key_name_field`
    pub remove_key: bool,
    /// `inject_key_prefix`
    pub prefix: Option<String>,
    /// `replace_invalid_sequence`
    pub replace_invalid: bool,
    /// `hash_value_field`
    pub hash_field: Option<String>,
    /// `emit_invalid_record_to_error`: failed events are wanted, not only their number.
    pub keep_failed: bool,
}

/// Events that failed for one reason.
#[derive(Debug)]
pub struct Failure {
    /// The ledger's word.
    pub reason: &'static str,
    /// Number of events; `events` has as many or none.
    pub count: usize,
    /// The events as they came in.
    pub events: Batch,
    /// The start of the first text that failed.
    pub sample: Vec<u8>,
}

/// What a batch became.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The events that go on.
    pub good: Batch,
    /// The events that failed, by reason.
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Goes on all the same where `reserve_data` is set.
    Reserved,
    /// Does not go on.
    Out,
}

#[derive(Debug, Clone, Copy)]
enum Time<'a> {
    /// As it stands in the stream.
    Original(&'a [u8]),
    /// Nanoseconds since the epoch.
    New(i64),
}

/// Memory for building records.
#[derive(Default)]
struct Buffers {
    /// The parsed pairs with prefix.
    prefixed: Vec<u8>,
    /// The parsed pairs as the value of one field.
    wrapped: Vec<u8>,
    /// The original pairs without the parsed field.
    without: Vec<u8>,
    /// The merged pairs.
    merged: Vec<u8>,
    fields: Vec<Field>,
    scrubbed: Vec<u8>,
}

/// Runs `parser` over the field of every event of `batch`.
#[must_use]
pub fn apply(parser: &dyn Parser, options: &FilterOptions, batch: &Batch) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.good.tags.clone_from(&batch.tags);
    outcome.good.data.reserve(batch.data.len() + batch.data.len() / 2);
    let mut session = parser.session();
    let mut events = Events::default();
    let mut run = Run {
        options,
        batch,
        outcome,
        buffers: Buffers::default(),
        parsed_keys: parser.keys().map(|keys| KeySet::new(&keys)),
        shape: Shape::default(),
        index: Shape::default(),
        estimate: parser.estimate_current_event(),
        other_values: parser.other_values(),
        now_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64),
    };
    let top_level = options.key.top_level_key();
    for (tag_run, data) in batch.iter_runs() {
        let mut pos = 0;
        while pos < data.len() {
            let read =
                read_event(data, &mut pos, &options.key, top_level, options.remove_key, &mut run.shape);
            let Ok((entry, found)) = read else { break };
            run.event(tag_run.tag, &entry, found, &mut *session, &mut events);
        }
    }
    let mut outcome = run.outcome;
    outcome.good = outcome.good.without_unused_tags();
    for failure in &mut outcome.failures {
        failure.events = std::mem::take(&mut failure.events).without_unused_tags();
    }
    outcome
}

/// The field that is parsed.
#[derive(Clone, Copy)]
struct Found<'a> {
    value: &'a [u8],
    /// Where key and value stand in the record's pairs; None where the field is nested.
    pair: Option<(usize, usize)>,
}

/// An entry and the value of its field, in one walk where the field is at the top level; then `shape` is
/// what keys the record has besides the one that is taken out (`remove_key`).
#[inline]
fn read_event<'a>(
    data: &'a [u8],
    pos: &mut usize,
    key: &Accessor,
    top_level: Option<&[u8]>,
    remove_key: bool,
    shape: &mut Shape,
) -> Result<(msgpack::Entry<'a>, Option<Found<'a>>), Malformed> {
    let Some(top_level) = top_level else {
        shape.give_up();
        let entry = read_entry(data, pos)?;
        let found = key.get(entry.body, entry.pairs).map(|value| Found { value, pair: None });
        return Ok((entry, found));
    };
    let start = *pos;
    let Token::Array(2) = read_token(data, pos)? else { return Err(Malformed::NotAnEntry) };
    let time_start = *pos;
    skip_value(data, pos)?;
    let time_end = *pos;
    let Token::Map(pairs) = read_token(data, pos)? else { return Err(Malformed::NotAnEntry) };
    let body_start = *pos;
    let mut found = None;
    shape.clear();
    for _ in 0..pairs {
        let key_start = *pos;
        let short = read_short_key(data, pos);
        let wanted = match short {
            Some(key) => key == top_level,
            None => {
                skip_value(data, pos)?;
                is_key(&read_token(data, &mut { key_start })?, top_level)
            }
        };
        let value_start = *pos;
        skip_value(data, pos)?;
        if wanted && found.is_none() {
            let pair = Some((key_start - body_start, *pos - body_start));
            found = Some(Found { value: &data[value_start..*pos], pair });
            if remove_key {
                continue;
            }
        }
        match short {
            Some(key) => shape.add(key, key_start - body_start, value_start - body_start, *pos - body_start),
            None => shape.give_up(),
        }
    }
    let entry = msgpack::Entry {
        time_ns: 0,
        time_bytes: &data[time_start..time_end],
        pairs,
        body: &data[body_start..*pos],
        bytes: &data[start..*pos],
    };
    Ok((entry, found))
}

struct Run<'a> {
    options: &'a FilterOptions,
    batch: &'a Batch,
    outcome: Outcome,
    buffers: Buffers,
    /// The keys that the parser may write, where they are known.
    parsed_keys: Option<KeySet>,
    shape: Shape,
    index: Shape,
    estimate: bool,
    other_values: OtherValues,
    now_ns: i64,
}

impl Run<'_> {
    #[inline]
    fn event(
        &mut self,
        tag: u32,
        entry: &msgpack::Entry<'_>,
        found: Option<Found<'_>>,
        session: &mut dyn crate::parser::Session,
        events: &mut Events,
    ) {
        let pair = found.and_then(|found| found.pair);
        let mut text = match found.map(|found| read_token(found.value, &mut 0)) {
            None | Some(Ok(Token::Nil)) => {
                return self.failed(tag, entry, "missing_key", b"", Kept::Reserved);
            }
            Some(Ok(Token::Str(text) | Token::Bin(text))) => text,
            Some(_) => return self.other(tag, entry, found, events),
        };
        let mut scrubbed = std::mem::take(&mut self.buffers.scrubbed);
        if self.options.replace_invalid && simdutf8::basic::from_utf8(text).is_err() {
            scrubbed.clear();
            for chunk in text.utf8_chunks() {
                scrubbed.extend_from_slice(chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    scrubbed.push(b'?');
                }
            }
            text = &scrubbed;
        }
        events.clear();
        match session.parse(text, events) {
            Ok(()) if events.unmatched > 0 => {
                self.parsed(tag, entry, pair, events);
                self.failed(tag, entry, Mismatch::NoMatch.reason(), text, Kept::Reserved);
            }
            Ok(()) if events.items.is_empty() => {
                self.count("no_events", text);
            }
            Ok(()) => self.parsed(tag, entry, pair, events),
            Err(why @ (Mismatch::InvalidTime | Mismatch::Malformed | Mismatch::Failed)) => {
                self.failed(tag, entry, why.reason(), text, Kept::Out);
            }
            Err(why) => self.failed(tag, entry, why.reason(), text, Kept::Reserved),
        }
        self.buffers.scrubbed = scrubbed;
    }

    /// A field that is no text.
    #[cold]
    fn other(&mut self, tag: u32, entry: &msgpack::Entry<'_>, found: Option<Found<'_>>, events: &mut Events) {
        match (&self.other_values, found) {
            (OtherValues::Field(key), Some(found)) => {
                events.clear();
                events.fields.extend_from_slice(key);
                events.fields.extend_from_slice(found.value);
                events.push(0, 1, None);
                self.parsed(tag, entry, found.pair, events);
            }
            (OtherValues::Unmatched, _) => self.failed(tag, entry, "not_text", b"", Kept::Reserved),
            _ => self.failed(tag, entry, "not_text", b"", Kept::Out),
        }
    }

    fn count(&mut self, reason: &'static str, text: &[u8]) -> usize {
        let failures = &mut self.outcome.failures;
        let index = failures.iter().position(|known| known.reason == reason).unwrap_or_else(|| {
            let sample = text[..text.len().min(SAMPLE_BYTES)].to_vec();
            let events = Batch { tags: self.batch.tags.clone(), ..Batch::default() };
            failures.push(Failure { reason, count: 0, events, sample });
            failures.len() - 1
        });
        failures[index].count += 1;
        index
    }

    #[cold]
    fn failed(
        &mut self,
        tag: u32,
        entry: &msgpack::Entry<'_>,
        reason: &'static str,
        text: &[u8],
        kept: Kept,
    ) {
        let index = self.count(reason, text);
        if self.options.keep_failed {
            let failed = &mut self.outcome.failures[index].events;
            failed.data.extend_from_slice(entry.bytes);
            failed.book(tag, entry.bytes.len());
        }
        if kept == Kept::Reserved && self.options.reserve_data {
            self.write(tag, Time::Original(entry.time_bytes), (entry.body, entry.pairs), &[], 0);
        }
    }

    #[inline]
    fn parsed(
        &mut self,
        tag: u32,
        entry: &msgpack::Entry<'_>,
        pair: Option<(usize, usize)>,
        events: &Events,
    ) {
        let undressed = self.options.prefix.is_none() && self.options.hash_field.is_none();
        let plain = undressed && !self.options.reserve_data;
        let apart = !plain && self.parsed_keys.as_mut().is_some_and(|keys| keys.is_apart(&self.shape));
        for item in &events.items {
            let time = self.time(entry, item);
            let fields = &events.fields[item.start..item.end];
            let pairs = item.pairs as usize;
            if plain {
                append(&mut self.outcome.good, tag, time, [fields, &[], &[]], pairs);
            } else if undressed
                && apart
                && let Some((parts, kept)) = self.kept(entry, pair)
            {
                append(&mut self.outcome.good, tag, time, [parts[0], parts[1], fields], kept + pairs);
            } else if undressed && self.woven(tag, entry, time, fields) {
            } else {
                self.dressed(tag, entry, time, fields, item.pairs as usize);
            }
        }
    }

    #[inline]
    fn time<'e>(&self, entry: &msgpack::Entry<'e>, item: &Item) -> Time<'e> {
        match item.time_ns {
            _ if self.options.reserve_time => Time::Original(entry.time_bytes),
            Some(time_ns) => Time::New(time_ns),
            None if self.estimate => Time::New(self.now_ns),
            None => Time::Original(entry.time_bytes),
        }
    }

    /// The original pairs that `reserve_data` keeps, without copying; None where that takes more work.
    #[inline]
    fn kept<'e>(
        &self,
        entry: &msgpack::Entry<'e>,
        pair: Option<(usize, usize)>,
    ) -> Option<([&'e [u8]; 2], usize)> {
        if !self.options.remove_key {
            return Some(([entry.body, &[]], entry.pairs));
        }
        let (start, end) = pair?;
        Some(([&entry.body[..start], &entry.body[end..]], entry.pairs - 1))
    }

    /// The record, without the parsed field where it is to go, and the parsed fields; false: that takes more work.
    #[inline]
    fn woven(&mut self, tag: u32, entry: &msgpack::Entry<'_>, time: Time<'_>, fields: &[u8]) -> bool {
        let good = &mut self.outcome.good;
        let start = good.data.len();
        let done = weave((entry.body, &self.shape), fields, &mut self.index, &mut good.data, |out, pairs| {
            write_time(out, time);
            write_map_header(out, pairs);
        });
        if done {
            let len = good.data.len() - start;
            good.book(tag, len);
        }
        done
    }

    /// An event whose parsed fields are prefixed, put into a hash, or merged into the original record.
    fn dressed(&mut self, tag: u32, entry: &msgpack::Entry<'_>, time: Time<'_>, fields: &[u8], pairs: usize) {
        let mut without = std::mem::take(&mut self.buffers.without);
        let mut original = (entry.body, entry.pairs);
        if self.options.remove_key && self.options.reserve_data {
            without.clear();
            if let Ok(left) = self.options.key.write_without(entry.body, entry.pairs, &mut without) {
                original = (&without, left);
            }
        }
        self.write(tag, time, original, fields, pairs);
        self.buffers.without = without;
    }

    /// Appends an event made of the original pairs (where they are reserved) and parsed ones.
    fn write(
        &mut self,
        tag: u32,
        time: Time<'_>,
        original: (&[u8], usize),
        parsed: &[u8],
        parsed_pairs: usize,
    ) {
        let Buffers { prefixed, wrapped, merged, fields: index, .. } = &mut self.buffers;
        let (mut fields, mut pairs) = (parsed, parsed_pairs);
        prefixed.clear();
        if let Some(prefix) = &self.options.prefix
            && prefix_keys(prefix.as_bytes(), fields, pairs, prefixed).is_ok()
        {
            fields = prefixed;
        }
        if let Some(field) = &self.options.hash_field {
            wrapped.clear();
            write_str(wrapped, field.as_bytes());
            write_map_header(wrapped, pairs);
            wrapped.extend_from_slice(fields);
            (fields, pairs) = (wrapped, 1);
        }
        if self.options.reserve_data {
            merged.clear();
            // the record was walked and the fields were written before: both are well-formed
            if let Ok(count) = merge(original, fields, pairs, index, merged) {
                (fields, pairs) = (merged, count);
            }
        }
        append(&mut self.outcome.good, tag, time, [fields, &[], &[]], pairs);
    }
}

#[inline]
fn append(out: &mut Batch, tag: u32, time: Time<'_>, parts: [&[u8]; 3], pairs: usize) {
    let start = out.data.len();
    write_time(&mut out.data, time);
    write_map_header(&mut out.data, pairs);
    for part in parts {
        out.data.extend_from_slice(part);
    }
    let len = out.data.len() - start;
    out.book(tag, len);
}

#[inline]
fn write_time(out: &mut Vec<u8>, time: Time<'_>) {
    match time {
        Time::Original(time) => {
            out.push(0x92);
            out.extend_from_slice(time);
        }
        Time::New(time_ns) => write_entry_start(out, time_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_path::tests::{APACHE, lines};
    use crate::ingest::{Ingest, Rule, Sink};
    use crate::options::ParseOptions;
    use crate::regexp::RegexpParser;
    use crate::syslog::{MessageFormat, SyslogOptions, SyslogParser};
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    #[ignore = "a measurement, not a test"]
    fn speed() {
        let syslog = SyslogParser::new(SyslogOptions {
            message_format: MessageFormat::Rfc3164,
            with_priority: true,
            time_format: None,
            rfc5424_time_format: "%Y-%m-%dT%H:%M:%S.%L%z".to_owned(),
            support_colonless_ident: true,
            string_engine: false,
            common: ParseOptions { keep_time_key: true, ..ParseOptions::default() },
        });
        let rule = Rule {
            tag: "syslog".to_owned(),
            syslog: true,
            with_priority: true,
            severity_key: Some("severity".to_owned()),
            facility_key: Some("facility".to_owned()),
            ..Rule::default()
        };
        let ingest = Ingest::new(Arc::new(syslog.ok().unwrap()), rule);
        let regexp = RegexpParser::new(APACHE, false, false, &ParseOptions::default()).unwrap();
        let options = FilterOptions {
            key: Accessor::new("message").unwrap(),
            reserve_data: true,
            reserve_time: false,
            remove_key: true,
            prefix: None,
            replace_invalid: false,
            hash_field: None,
            keep_failed: true,
        };
        let messages: Vec<String> = lines()[..2048]
            .iter()
            .map(|line| format!("<134>Nov 23 18:00:00 web-12.example nginx[4711]: {line}"))
            .collect();
        let mut sink = Sink::default();
        let (mut taking, mut filtering) = (u128::MAX, u128::MAX);
        for _ in 0..100 {
            let started = Instant::now();
            {
                let mut filling = ingest.open(&mut sink, 0);
                for message in &messages {
                    filling.message(message.as_bytes(), None);
                }
            }
            let batch = sink.take().batch;
            taking = taking.min(started.elapsed().as_nanos() / messages.len() as u128);
            assert_eq!(batch.count, messages.len());
            let started = Instant::now();
            let outcome = apply(&regexp, &options, &batch);
            filtering = filtering.min(started.elapsed().as_nanos() / messages.len() as u128);
            assert_eq!(outcome.good.count, messages.len());
        }
        println!("ingest {taking} ns, filter {filtering} ns");
    }
}

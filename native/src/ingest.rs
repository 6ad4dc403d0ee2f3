//! From received messages to a batch: parse, choose the tag, add the sender's fields, book what failed.
//!
//! An [`Ingest`] is the immutable rule of one input; a [`Sink`] is the batch that is being filled and all
//! working memory; a [`Filling`] is the two together with an open parser session. Nothing is allocated per
//! event. Events without a time get the time at which their batch was received (one clock read per batch).

pub(crate) mod edit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use self::edit::{Sets, find_priority, find_value, tag_text, write_edited};
use crate::event::Batch;
use crate::msgpack;
use crate::parser::{Events, Item, Parser, Session};
use crate::sockaddr::HostNames;

/// Facility names by number, as Fluentd's in_syslog writes them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "at", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
/// Severity names by number.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
/// Priorities with a facility; beyond them the facility is empty.
const PRIORITIES: usize = 192;
/// The slot of the tag for unmatched lines.
const UNMATCHED: usize = PRIORITIES + 8;
/// How much of a failed message is kept as its sample.
const SAMPLE: usize = 512;

/// What an input wants of its messages.
#[derive(Default)]
pub struct Rule {
    /// The tag, or for syslog the tag's prefix.
    pub tag: String,
    /// Tag by priority: `tag.facility.severity`.
    pub syslog: bool,
    /// The parser takes the priority off and leaves it as field `pri`; else `<PRI>` is taken off before it.
    pub with_priority: bool,
    /// Field for the severity's name.
    pub severity_key: Option<String>,
    /// Field for the facility's name.
    pub facility_key: Option<String>,
    /// Field for the sender's address.
    pub source_address_key: Option<String>,
    /// Field for the sender's host name.
    pub source_hostname_key: Option<String>,
    /// Take one line end off the message.
    pub chomp: bool,
    /// Lines that do not parse become events `tag.unmatched`.
    pub emit_unmatched_lines: bool,
    /// Field whose value becomes the tag.
    pub tag_key: Option<String>,
    /// Leave that field in the record.
    pub keep_tag_key: bool,
}

/// A compiled [`Rule`] with its parser.
pub struct Ingest {
    parser: Arc<dyn Parser>,
    rule: Rule,
    estimate: bool,
    tags: Vec<Arc<str>>,
    severities: Vec<Vec<u8>>,
    facilities: Vec<Vec<u8>>,
    adds_fields: bool,
    /// The pairs that the priority gives, by slot; they and the sender's are written behind the parser's.
    /// None: a key may be there already, or the tag comes from the record.
    appended: Option<Vec<Vec<u8>>>,
}

/// Messages of one kind that gave no event, or something else worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The ledger's word.
    pub reason: &'static str,
    /// How many.
    pub count: usize,
    /// The start of the first one.
    pub sample: Vec<u8>,
}

pub(crate) fn tally(list: &mut Vec<Tally>, reason: &'static str, sample: &[u8]) {
    match list.iter_mut().find(|known| known.reason == reason) {
        Some(known) => known.count += 1,
        None => list.push(Tally { reason, count: 1, sample: sample[..sample.len().min(SAMPLE)].to_vec() }),
    }
}

/// What has been taken in since the last [`Sink::take`].
#[derive(Default)]
pub struct Taken {
    /// The events.
    pub batch: Batch,
    /// Messages that gave none, by reason.
    pub failures: Vec<Tally>,
    /// What else happened (nothing of it is a lost event that is not in `failures`).
    pub notices: Vec<Tally>,
}

impl Taken {
    /// Events and failed messages.
    #[must_use]
    pub fn received(&self) -> usize {
        self.batch.count + self.failures.iter().map(|failure| failure.count).sum::<usize>()
    }
}

/// The batch that is being filled, and working memory.
#[derive(Default)]
pub struct Sink {
    taken: Taken,
    slots: Vec<u32>,
    dynamic: HashMap<Arc<str>, u32>,
    events: Events,
    source: Source,
    last_len: usize,
}

/// The sender's fields as MessagePack values; kept from message to message.
#[derive(Default)]
struct Source {
    ip: Option<IpAddr>,
    address: Vec<u8>,
    hostname: Vec<u8>,
    names: HostNames,
}

impl Sink {
    /// Gives what was filled in and starts anew.
    pub fn take(&mut self) -> Taken {
        self.slots.fill(u32::MAX);
        self.dynamic.clear();
        self.source.ip = None; // so that host names are asked for anew when they are old
        self.last_len = self.taken.batch.data.len();
        std::mem::take(&mut self.taken)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.batch.count == 0 && self.taken.failures.is_empty() && self.taken.notices.is_empty()
    }

    /// Events and failures so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.taken.received()
    }

    /// Bytes of the events so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.taken.batch.data.len()
    }

    /// Books something for the log that is no lost event.
    pub fn notice(&mut self, reason: &'static str, sample: &[u8]) {
        tally(&mut self.taken.notices, reason, sample);
    }

    /// Books a message that gives no event.
    pub fn fail(&mut self, reason: &'static str, sample: &[u8]) {
        tally(&mut self.taken.failures, reason, sample);
    }
}

fn text_value(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 3);
    msgpack::write_str(&mut out, text.as_bytes());
    out
}

impl Ingest {
    /// Compiles `rule`.
    #[must_use]
    pub fn new(parser: Arc<dyn Parser>, rule: Rule) -> Self {
        let mut tags: Vec<Arc<str>> = Vec::new();
        if rule.syslog {
            for priority in 0..UNMATCHED {
                let facility = FACILITIES.get(priority >> 3).unwrap_or(&"");
                tags.push(format!("{}.{facility}.{}", rule.tag, SEVERITIES[priority & 7]).into());
            }
            tags.push(format!("{}.unmatched", rule.tag).into());
        } else {
            tags.push(rule.tag.as_str().into());
        }
        let mut facilities: Vec<_> = FACILITIES.iter().map(|name| text_value(name)).collect();
        facilities.push(vec![0xc0]);
        let keys =
            [&rule.severity_key, &rule.facility_key, &rule.source_address_key, &rule.source_hostname_key];
        let severities: Vec<_> = SEVERITIES.iter().map(|name| text_value(name)).collect();
        let appends = rule.tag_key.is_none() && all_new(&*parser, &keys);
        let appended = appends.then(|| {
            (0..=UNMATCHED)
                .map(|slot| {
                    let (severity, facility) = parts(slot);
                    let mut pairs = Vec::new();
                    edit::write_pair(&mut pairs, &rule.severity_key, &severities[severity]);
                    edit::write_pair(&mut pairs, &rule.facility_key, &facilities[facility]);
                    pairs
                })
                .collect()
        });
        Ingest {
            adds_fields: keys.iter().any(|key| key.is_some()) || rule.tag_key.is_some(),
            estimate: parser.estimate_current_event(),
            parser,
            tags,
            severities,
            facilities,
            appended,
            rule,
        }
    }

    /// Whether messages must come with their sender's address.
    #[must_use]
    pub fn needs_source(&self) -> bool {
        self.rule.source_address_key.is_some() || self.rule.source_hostname_key.is_some()
    }

    /// Whether the parser is Python code: whoever calls it for many messages holds the interpreter meanwhile.
    #[must_use]
    pub fn needs_python(&self) -> bool {
        self.parser.needs_python()
    }

    /// Opens a parser session that fills `sink`. `now_ns` is given to events without a time.
    #[must_use]
    pub fn open<'a>(&'a self, sink: &'a mut Sink, now_ns: i64) -> Filling<'a> {
        if sink.slots.len() != self.tags.len() {
            sink.slots = vec![u32::MAX; self.tags.len()];
        }
        if sink.taken.batch.data.capacity() == 0 {
            sink.taken.batch.data.reserve(sink.last_len + sink.last_len / 8);
        }
        Filling { ingest: self, session: self.parser.session(), sink, now_ns }
    }
}

/// Severity and facility of a slot, as indices of their names.
fn parts(slot: usize) -> (usize, usize) {
    (slot & 7, (slot >> 3).min(FACILITIES.len()))
}

/// Whether none of `keys` is written by `parser` and no two are the same.
fn all_new(parser: &dyn Parser, keys: &[&Option<String>]) -> bool {
    let Some(parsed) = parser.keys() else { return false };
    let keys: Vec<_> = keys.iter().filter_map(|key| key.as_deref()).collect();
    keys.iter()
        .enumerate()
        .all(|(at, key)| !keys[..at].contains(key) && !parsed.iter().any(|known| known == key.as_bytes()))
}

/// An open session over a [`Sink`].
pub struct Filling<'a> {
    ingest: &'a Ingest,
    session: Box<dyn Session + 'a>,
    /// The batch.
    pub sink: &'a mut Sink,
    now_ns: i64,
}

impl Filling<'_> {
    /// Takes one message. `ip` is its sender, where [`Ingest::needs_source`].
    #[inline]
    pub fn message(&mut self, data: &[u8], ip: Option<IpAddr>) {
        let rule = &self.ingest.rule;
        let data = if rule.chomp { chomp(data) } else { data };
        if let Some(ip) = ip
            && self.sink.source.ip != Some(ip)
        {
            self.set_source(ip);
        }
        let mut priority = None;
        let mut text = data;
        if rule.syslog && !rule.with_priority {
            match strip_priority(data) {
                Some((number, rest)) => {
                    priority = Some(number);
                    text = rest;
                }
                None => return self.failed("no_priority", data),
            }
        }
        let mut events = std::mem::take(&mut self.sink.events);
        events.clear();
        match self.session.parse(text, &mut events) {
            Err(why) => self.failed(why.reason(), data),
            Ok(()) => {
                for item in &events.items {
                    self.item(&events.fields[item.start..item.end], item, priority, data);
                }
                for _ in 0..events.unmatched {
                    self.failed("unmatched", data);
                }
            }
        }
        self.sink.events = events;
    }

    #[inline]
    fn item(&mut self, fields: &[u8], item: &Item, stripped: Option<u64>, data: &[u8]) {
        let time_ns = match item.time_ns {
            Some(time_ns) => time_ns,
            None if self.ingest.estimate => self.now_ns,
            None => return self.failed("no_time", data),
        };
        if !self.ingest.rule.syslog {
            return self.event(fields, &[], item.pairs as usize, time_ns, 0);
        }
        // the parser's own `pri` is not part of the record
        let mut pairs = item.pairs as usize;
        let (mut before, mut after) = (fields, &[][..]);
        let mut priority = stripped.or(item.priority.map(u64::from));
        if self.ingest.rule.with_priority
            && let Some((start, end, number)) = find_priority(fields, pairs)
        {
            priority = priority.or(number);
            pairs -= 1;
            (before, after) = (&fields[..start], &fields[end..]);
        }
        let Some(priority) = priority else {
            return self.failed("no_priority", data);
        };
        let slot = if priority < PRIORITIES as u64 {
            priority as usize
        } else {
            PRIORITIES + (priority & 7) as usize
        };
        self.event(before, after, pairs, time_ns, slot);
    }

    #[inline]
    fn event(&mut self, before: &[u8], after: &[u8], pairs: usize, time_ns: i64, slot: usize) {
        if !self.ingest.adds_fields {
            self.plain(before, after, pairs, time_ns, slot);
        } else if let Some(appended) = &self.ingest.appended {
            self.appended(before, after, pairs, time_ns, slot, &appended[slot]);
        } else {
            self.edited(before, after, pairs, time_ns, slot);
        }
    }

    #[inline]
    fn slot(&mut self, slot: usize) -> u32 {
        let known = self.sink.slots[slot];
        if known != u32::MAX {
            return known;
        }
        let tags = &mut self.sink.taken.batch.tags;
        tags.push(Arc::clone(&self.ingest.tags[slot]));
        self.sink.slots[slot] = (tags.len() - 1) as u32;
        self.sink.slots[slot]
    }

    /// The record as parsed.
    #[inline]
    fn plain(&mut self, before: &[u8], after: &[u8], pairs: usize, time_ns: i64, slot: usize) {
        let tag = self.slot(slot);
        let batch = &mut self.sink.taken.batch;
        let start = batch.data.len();
        msgpack::write_entry_start(&mut batch.data, time_ns);
        msgpack::write_map_header(&mut batch.data, pairs);
        batch.data.extend_from_slice(before);
        batch.data.extend_from_slice(after);
        let len = batch.data.len() - start;
        batch.book(tag, len);
    }

    /// The record with fields of the input's own, none of which the parser knows.
    #[inline]
    fn appended(
        &mut self,
        before: &[u8],
        after: &[u8],
        pairs: usize,
        time_ns: i64,
        slot: usize,
        by_priority: &[u8],
    ) {
        let tag = self.slot(slot);
        let rule = &self.ingest.rule;
        let source = &self.sink.source;
        let added = usize::from(rule.severity_key.is_some()) + usize::from(rule.facility_key.is_some());
        let named = [
            (&rule.source_address_key, &source.address[..]),
            (&rule.source_hostname_key, &source.hostname[..]),
        ];
        let known = named.iter().filter(|(key, value)| key.is_some() && !value.is_empty()).count();
        let batch = &mut self.sink.taken.batch;
        let start = batch.data.len();
        msgpack::write_entry_start(&mut batch.data, time_ns);
        msgpack::write_map_header(&mut batch.data, pairs + added + known);
        for part in [before, after, by_priority] {
            batch.data.extend_from_slice(part);
        }
        for (key, value) in named {
            if !value.is_empty() {
                edit::write_pair(&mut batch.data, key, value);
            }
        }
        let len = batch.data.len() - start;
        batch.book(tag, len);
    }

    /// The record with fields of the input's own. A field that the record has already gets the new value
    /// in its place, as in a Ruby Hash.
    fn edited(&mut self, before: &[u8], after: &[u8], pairs: usize, time_ns: i64, slot: usize) {
        let rule = &self.ingest.rule;
        let (mut removed, mut dynamic) = (None, None);
        if let Some(key) = &rule.tag_key
            && let Some(value) = find_value(before, after, key.as_bytes())
        {
            dynamic = Some(tag_text(value));
            removed = (!rule.keep_tag_key).then_some(key.as_bytes());
        }
        let tag = match dynamic {
            None => self.slot(slot),
            Some(tag) => self.dynamic(&tag),
        };
        let (severity, facility) = parts(slot);
        let source = &self.sink.source;
        let mut sets = Sets::default();
        sets.set(&rule.severity_key, &self.ingest.severities[severity]);
        sets.set(&rule.facility_key, &self.ingest.facilities[facility]);
        sets.set(&rule.source_address_key, &source.address);
        sets.set(&rule.source_hostname_key, &source.hostname);

        let batch = &mut self.sink.taken.batch;
        let start = batch.data.len();
        msgpack::write_entry_start(&mut batch.data, time_ns);
        write_edited(&mut batch.data, [before, after], pairs, sets, removed);
        let len = batch.data.len() - start;
        batch.book(tag, len);
    }

    fn dynamic(&mut self, tag: &str) -> u32 {
        if let Some(index) = self.sink.dynamic.get(tag) {
            return *index;
        }
        let tag: Arc<str> = tag.into();
        let batch = &mut self.sink.taken.batch;
        let index = batch.tag_index(&tag);
        if *tag == *self.ingest.tags[0] {
            self.sink.slots[0] = index;
        }
        self.sink.dynamic.insert(tag, index);
        index
    }

    #[cold]
    fn set_source(&mut self, ip: IpAddr) {
        let source = &mut self.sink.source;
        source.ip = Some(ip);
        source.address.clear();
        source.hostname.clear();
        if self.ingest.rule.source_address_key.is_some() {
            msgpack::write_str(&mut source.address, ip.to_string().as_bytes());
        }
        if self.ingest.rule.source_hostname_key.is_some() {
            msgpack::write_str(&mut source.hostname, source.names.get(ip).as_bytes());
        }
    }

    #[cold]
    fn failed(&mut self, reason: &'static str, data: &[u8]) {
        if !(self.ingest.rule.emit_unmatched_lines && self.ingest.rule.syslog) {
            return self.sink.fail(reason, data);
        }
        self.sink.notice(reason, data);
        let tag = self.slot(UNMATCHED);
        let rule = &self.ingest.rule;
        let mut sets = Sets::default();
        sets.set(&rule.source_address_key, &self.sink.source.address);
        sets.set(&rule.source_hostname_key, &self.sink.source.hostname);
        let mut body = Vec::with_capacity(data.len() + 32);
        msgpack::write_str(&mut body, b"unmatched_line");
        msgpack::write_text(&mut body, data, false);
        let batch = &mut self.sink.taken.batch;
        let start = batch.data.len();
        msgpack::write_entry_start(&mut batch.data, self.now_ns);
        write_edited(&mut batch.data, [&body, &[]], 1, sets, None);
        let len = batch.data.len() - start;
        batch.book(tag, len);
    }
}

/// Takes one line end off, as Ruby's `chomp` does.
#[must_use]
pub fn chomp(data: &[u8]) -> &[u8] {
    match data {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n' | b'\r'] => rest,
        _ => data,
    }
}

/// `<PRI>` at the start of a line and the rest of that line, as Fluentd's in_syslog searches it:
/// `/^<([0-9]+)>(.*)/`. A number too large for what follows keeps its severity and has no facility.
#[must_use]
pub fn strip_priority(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut line = data;
    loop {
        let end = memchr::memchr(b'\n', line);
        let this = &line[..end.unwrap_or(line.len())];
        if this.first() == Some(&b'<') {
            let digits = this[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 0 && this.get(digits + 1) == Some(&b'>') {
                // 1000 is a multiple of 8: the last three digits say the severity
                let number = this[1..=digits].iter().fold(0_u64, |sum, digit| {
                    let sum = sum * 10 + u64::from(digit - b'0');
                    if sum >= 1_000_000 { 1000 + sum % 1000 } else { sum }
                });
                return Some((number, &this[digits + 2..]));
            }
        }
        line = &line[end? + 1..];
    }
}

#[cfg(test)]
mod tests;

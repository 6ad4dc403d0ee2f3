//! Archived lines back to events: what the outputs `s3` and `file` wrote becomes tag, time and record again.
//!
//! Two layouts, told apart per line: columns (`TIME<delimiter>TAG<delimiter>{record}`, what the formatter `out_file`
//! writes), and records whose fields hold time and tag (`json` with `<inject>`). Lines that give no event are
//! counted by reason with the first of them; nothing is guessed about a missing time or tag.

mod python;
#[cfg(test)]
mod tests;
mod times;

use std::collections::HashMap;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};

pub use self::python::ArchiveReader;
use self::times::Times;
use crate::event::Batch;
use crate::extract::compile;
use crate::json_in::{PairHook, Scratch, key_bytes};
use crate::msgpack::{self, Token, read_token};
use crate::parser::Mismatch;
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp::Flags;

/// A longer line is no event: it is counted, and read over.
const MAX_LINE: usize = 64 << 20;
/// How much of a line that gave no event is kept.
const SAMPLE: usize = 200;
const NANOS: i64 = 1_000_000_000;

/// What the reader must know.
#[derive(Default)]
pub struct Layout {
    /// Field with the time, of lines that are records.
    pub time_key: String,
    /// Field with the tag, of lines that are records.
    pub tag_key: String,
    /// Leave both in the record.
    pub keep_keys: bool,
    /// For lines without a tag.
    pub default_tag: Option<String>,
    /// From this time on, in nanoseconds since the epoch.
    pub from_ns: Option<i64>,
    /// Before this time.
    pub to_ns: Option<i64>,
}

/// Lines of one kind that gave no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: usize,
    /// Number of the first one, from 1.
    pub line: usize,
    /// Its start.
    pub sample: Vec<u8>,
}

/// Takes time and tag out of a record's pairs.
struct Fields<'a> {
    layout: &'a Layout,
    times: &'a mut Times,
    time: Option<Option<i64>>,
    tag: &'a mut Vec<u8>,
    has_tag: bool,
}

impl PairHook for Fields<'_> {
    fn pair(&mut self, out: &mut Vec<u8>, key: usize, value: usize) -> usize {
        let name = key_bytes(&out[key..value]);
        if name == self.layout.time_key.as_bytes() {
            self.time = Some(self.times.of_value(&out[value..]));
        } else if name == self.layout.tag_key.as_bytes() {
            let Ok(Token::Str(text)) = read_token(&out[value..], &mut 0) else { return 1 };
            self.tag.clear();
            self.tag.extend_from_slice(text);
            self.has_tag = true;
        } else {
            return 1;
        }
        if self.layout.keep_keys {
            return 1;
        }
        out.truncate(key);
        0
    }
}

/// Reads one object.
pub struct Reader {
    layout: Layout,
    times: Times,
    conditions: Vec<(Regexp, Matcher)>,
    scratch: Scratch,
    /// The start of a line whose end has not come yet.
    rest: Vec<u8>,
    /// Its end is read over.
    too_long: bool,
    pairs: Vec<u8>,
    tag: Vec<u8>,
    indexes: HashMap<Arc<str>, u32>,
    last: Option<(Vec<u8>, u32)>,
    /// Lines still to be read over: an earlier run has brought them back.
    skip: usize,
    batch: Batch,
    /// Lines so far.
    pub lines: usize,
    /// Events outside of the times that are asked for.
    pub outside: usize,
    /// Events that a pattern does not match.
    pub unmatched: usize,
    /// Events whose time is a whole second.
    pub whole_seconds: usize,
    /// Lines that gave no event.
    pub failures: Vec<Failure>,
}

enum Verdict {
    Event,
    Outside,
    Unmatched,
}

impl Reader {
    /// Reads from line `skip` on. `grep`: Ruby regexps, all of which must match the line. `zone`: of times by
    /// `time_format` without one; None: the machine's.
    ///
    /// # Errors
    /// Which format, zone or pattern cannot be used.
    pub fn new(
        layout: Layout,
        time_format: Option<&str>,
        zone: Option<&str>,
        grep: &[String],
        skip: usize,
    ) -> Result<Self, String> {
        let conditions = grep
            .iter()
            .map(|source| {
                let (regexp, _) = compile(source, Flags::default())?;
                let matcher = regexp.matcher();
                Ok((regexp, matcher))
            })
            .collect::<Result<_, String>>()?;
        Ok(Reader {
            layout,
            times: Times::new(time_format, zone)?,
            conditions,
            scratch: Scratch::default(),
            rest: Vec::new(),
            too_long: false,
            pairs: Vec::new(),
            tag: Vec::new(),
            indexes: HashMap::new(),
            last: None,
            skip,
            batch: Batch::default(),
            lines: 0,
            outside: 0,
            unmatched: 0,
            whole_seconds: 0,
            failures: Vec::new(),
        })
    }

    /// The events of the lines that `data` completes.
    pub fn feed(&mut self, data: &[u8]) -> Batch {
        let mut start = 0;
        for end in memchr_iter(b'\n', data) {
            if self.rest.is_empty() && !self.too_long {
                self.line(&data[start..end]);
            } else {
                self.keep(&data[start..end]);
                self.end();
            }
            start = end + 1;
        }
        self.keep(&data[start..]);
        self.take()
    }

    /// The event of a last line without an end.
    pub fn finish(&mut self) -> Batch {
        if !self.rest.is_empty() || self.too_long {
            self.end();
        }
        self.take()
    }

    fn take(&mut self) -> Batch {
        self.indexes.clear();
        self.last = None;
        std::mem::take(&mut self.batch)
    }

    fn keep(&mut self, data: &[u8]) {
        if self.rest.len() + data.len() > MAX_LINE {
            self.too_long = true;
            self.rest.truncate(SAMPLE);
        }
        if !self.too_long {
            self.rest.extend_from_slice(data);
        }
    }

    fn end(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if std::mem::take(&mut self.too_long) {
            self.lines += 1;
            if self.lines > self.skip {
                self.fail("limit", &rest);
            }
        } else {
            self.line(&rest);
        }
        self.rest = rest;
        self.rest.clear();
    }

    fn fail(&mut self, reason: &'static str, line: &[u8]) {
        match self.failures.iter_mut().find(|known| known.reason == reason) {
            Some(known) => known.count += 1,
            None => {
                let sample = line[..line.len().min(SAMPLE)].to_vec();
                self.failures.push(Failure { reason, count: 1, line: self.lines, sample });
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.lines <= self.skip || line.is_empty() {
            return;
        }
        match self.event(line) {
            Ok(Verdict::Event) => {}
            Ok(Verdict::Outside) => self.outside += 1,
            Ok(Verdict::Unmatched) => self.unmatched += 1,
            Err(reason) => self.fail(reason, line),
        }
    }

    fn event(&mut self, line: &[u8]) -> Result<Verdict, &'static str> {
        self.pairs.clear();
        self.tag.clear();
        let start = memchr(b'{', line).ok_or("unmatched")?;
        let columns = line[..start].iter().any(|byte| !byte.is_ascii_whitespace());
        let mut fields = Fields {
            layout: &self.layout,
            times: &mut self.times,
            time: None,
            tag: &mut self.tag,
            has_tag: false,
        };
        let mut count = 0;
        let read = if columns {
            let head = &line[..start];
            let (delimiter, head) = (head[head.len() - 1], &head[..head.len() - 1]);
            // a time may hold the delimiter (a space), a tag does not
            match memrchr(delimiter, head) {
                Some(at) => {
                    fields.time = Some(fields.times.of_text(&head[..at]));
                    fields.tag.extend_from_slice(&head[at + 1..]);
                    fields.has_tag = true;
                }
                None => {
                    let time = fields.times.of_text(head);
                    if time.is_some() {
                        fields.time = Some(time);
                    }
                }
            }
            let (time, has_tag) = (fields.time, fields.has_tag);
            object(
                &line[start..],
                &mut self.scratch,
                &mut self.pairs,
                &mut crate::json_in::NoHook,
                &mut count,
            )
            .map(|()| (time, has_tag))
        } else {
            object(&line[start..], &mut self.scratch, &mut self.pairs, &mut fields, &mut count)
                .map(|()| (fields.time, fields.has_tag))
        };
        let (time, has_tag) = read.map_err(Mismatch::reason)?;
        let time_ns = time.ok_or("no_time")?.ok_or("invalid_time")?;
        if !has_tag {
            let tag = self.layout.default_tag.as_deref().ok_or("no_tag")?;
            self.tag.extend_from_slice(tag.as_bytes());
        }
        if self.layout.from_ns.is_some_and(|from| time_ns < from)
            || self.layout.to_ns.is_some_and(|to| time_ns >= to)
        {
            return Ok(Verdict::Outside);
        }
        if !self.conditions.is_empty() {
            let script = Script::of(line);
            for (regexp, matcher) in &mut self.conditions {
                if !matcher.search(regexp, line, script).map_err(Mismatch::reason)? {
                    return Ok(Verdict::Unmatched);
                }
            }
        }
        let tag = self.tag_index()?;
        self.whole_seconds += usize::from(time_ns % NANOS == 0);
        let data = &mut self.batch.data;
        let from = data.len();
        msgpack::write_entry_start(data, time_ns);
        msgpack::write_map_header(data, count);
        data.extend_from_slice(&self.pairs);
        let len = data.len() - from;
        self.batch.book(tag, len);
        Ok(Verdict::Event)
    }

    fn tag_index(&mut self) -> Result<u32, &'static str> {
        if let Some((tag, index)) = &self.last
            && *tag == self.tag
        {
            return Ok(*index);
        }
        let text = std::str::from_utf8(&self.tag).ok().filter(|tag| !tag.is_empty()).ok_or("no_tag")?;
        let index = match self.indexes.get(text) {
            Some(index) => *index,
            None => {
                let tag: Arc<str> = text.into();
                let index = self.batch.tags.len() as u32;
                self.batch.tags.push(Arc::clone(&tag));
                self.indexes.insert(tag, index);
                index
            }
        };
        self.last = Some((self.tag.clone(), index));
        Ok(index)
    }
}

/// Appends the pairs of the one object in `text`.
fn object(
    text: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
    hook: &mut impl PairHook,
    count: &mut usize,
) -> Result<(), Mismatch> {
    let mut reader = crate::json_in::Reader::new(text, scratch)?;
    if reader.peek()? != b'{' {
        return Err(Mismatch::NoMatch);
    }
    reader.take();
    *count = reader.pairs(out, 1, hook)?;
    reader.end()
}

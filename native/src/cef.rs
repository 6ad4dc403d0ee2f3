//! CEF, ArcSight's Common Event Format: `CEF:0|vendor|product|version|id|name|severity|key=value key=value`, with
//! or without a syslog header before it.
//!
//! In the header `\|` and `\\` are escapes; in the extension `\=`, `\\`, `\n` and `\r`. A value of the extension goes
//! up to the white space before the next `key=`, so it may have spaces in it. A key is made of letters, digits and
//! `_.-[]`: the `=` in a URL that somebody did not escape mostly begins none.

use std::collections::HashSet;

use memchr::{memchr, memchr_iter, memmem};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::named::{Name, Named, NamedMemory, Value};
use crate::options::{FieldCache, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::time::{TimeCache, TimeParser};

const MARK: &[u8] = b"CEF:";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const HEADER: [&str; 7] = [
    "cef_version",
    "cef_device_vendor",
    "cef_device_product",
    "cef_device_version",
    "cef_device_event_class_id",
    "cef_name",
    "cef_severity",
];
/// From this number of digits on a time without a format is milliseconds: in seconds it would be the year 5138.
const MILLISECOND_DIGITS: usize = 12;

/// What stands before `CEF:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A syslog header, or nothing.
    Auto,
    /// A syslog header.
    Syslog,
    /// Nothing.
    Plain,
}

/// The parser's own parameters.
#[derive(Debug, Clone)]
pub struct CefOptions {
    /// What stands before `CEF:`.
    pub log_format: LogFormat,
    /// The one version that is taken; None: any.
    pub version: Option<String>,
    /// The keys that the extension can have; None: any.
    pub keys: Option<HashSet<Vec<u8>>>,
    /// Add the whole text.
    pub raw: bool,
}

/// The compiled parser.
pub struct CefParser {
    options: CefOptions,
    rules: FieldRules,
    /// For the header's time, and for a time field whose form is left open.
    common_forms: TimeParser,
    /// That field, and whether it stays in the record.
    open_time: Option<(Vec<u8>, bool)>,
    estimate: bool,
}

impl CefParser {
    /// Compiles.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: CefOptions, common: &ParseOptions) -> Result<Self, Invalid> {
        let mut common = common.clone();
        let zone = common.time.zone.as_deref();
        let common_forms = TimeParser::common_forms(zone).map_err(|why| Invalid::new("timezone", why))?;
        let mut open_time = None;
        if common.time.format.is_none() && matches!(common.time.kind.as_str(), "" | "string") {
            open_time = common.time_key.take().map(|key| (key.into_bytes(), common.keep_time_key));
            common.time.zone = None;
        }
        let estimate = common.estimate_current_event;
        Ok(CefParser { options, rules: FieldRules::new(&common)?, common_forms, open_time, estimate })
    }
}

impl Parser for CefParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(CefSession {
            parser: self,
            cache: self.rules.cache(),
            header_time: TimeCache::default(),
            field_time: TimeCache::default(),
            memory: NamedMemory::default(),
        })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }
}

struct CefSession<'a> {
    parser: &'a CefParser,
    cache: FieldCache,
    header_time: TimeCache,
    field_time: TimeCache,
    memory: NamedMemory,
}

type Range = (usize, usize);

impl Session for CefSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let options = &self.parser.options;
        let start = begin(text).ok_or(Mismatch::NoMatch)?;
        let mut fields = Named::new(text, &mut self.memory);
        let mut time = None;
        let before = text[..start].strip_suffix(BYTE_ORDER_MARK).unwrap_or(&text[..start]);
        if before.iter().all(u8::is_ascii_whitespace) {
            if options.log_format == LogFormat::Syslog {
                return Err(Mismatch::NoMatch);
            }
        } else if options.log_format == LogFormat::Plain {
            return Err(Mismatch::NoMatch);
        } else {
            let [stamp, host, tag] = syslog_header(before).ok_or(Mismatch::NoMatch)?;
            let forms = &self.parser.common_forms;
            let read = forms.parse(&text[stamp.0..stamp.1], &mut self.header_time);
            time = Some(read.ok_or(Mismatch::InvalidTime)?);
            for (name, (from, to)) in
                [("syslog_timestamp", stamp), ("syslog_hostname", host), ("syslog_tag", tag)]
            {
                fields.set(Name::Fixed(name), Value::Text(from, to));
            }
        }
        let mut at = start + MARK.len();
        for (number, name) in HEADER.into_iter().enumerate() {
            let end = header_end(text, at);
            // the bar behind the severity may be missing where there is no extension
            let end = end.or((number == HEADER.len() - 1).then_some(text.len())).ok_or(Mismatch::NoMatch)?;
            let value = unescaped(&mut fields, (at, end), |byte| (byte == b'|').then_some(b'|'));
            fields.set(Name::Fixed(name), value);
            if number == 0
                && options.version.as_ref().is_some_and(|wanted| wanted.as_bytes() != &text[at..end])
            {
                return Err(Mismatch::NoMatch);
            }
            at = (end + 1).min(text.len());
        }
        let open_time = self.parser.open_time.as_ref();
        let mut failed = false;
        extension(text, at, options.keys.as_ref(), |key, value| {
            if let Some((wanted, keep)) = open_time
                && wanted == &text[key.0..key.1]
            {
                let forms = &self.parser.common_forms;
                let read = open_form(&text[value.0..value.1], forms, &mut self.field_time);
                failed |= read.is_none();
                time = read.or(time);
                if !keep {
                    return;
                }
            }
            let value = unescaped(&mut fields, value, |byte| match byte {
                b'=' => Some(b'='),
                b'n' => Some(b'\n'),
                b'r' => Some(b'\r'),
                _ => None,
            });
            fields.set(Name::Text(key.0, key.1), value);
        });
        if failed {
            return Err(Mismatch::InvalidTime);
        }
        if options.raw {
            fields.set(Name::Fixed("raw"), Value::Text(0, text.len()));
        }
        fields.write(&self.parser.rules, time, &mut self.cache, out)
    }
}

/// Where `CEF:` stands: at the start of a word, a byte order mark may be before it.
fn begin(text: &[u8]) -> Option<usize> {
    memmem::find_iter(text, MARK).find(|at| {
        let before = &text[..*at];
        before.ends_with(BYTE_ORDER_MARK) || before.last().is_none_or(u8::is_ascii_whitespace)
    })
}

/// Time, host and what else there is of `<PRI>VERSION TIME HOST TAG`, without the ends of the text.
fn syslog_header(before: &[u8]) -> Option<[Range; 3]> {
    let word = |at: usize| -> Option<Range> {
        let start = at + before[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        let len = before[start..].iter().position(u8::is_ascii_whitespace);
        Some((start, len.map_or(before.len(), |len| start + len)))
    };
    let mut first = word(0)?;
    if before[first.0] == b'<' {
        first.0 += 1 + memchr(b'>', &before[first.0..first.1])?;
        let version = &before[first.0..first.1];
        if version.len() <= 2 && version.iter().all(u8::is_ascii_digit) {
            first = word(first.1)?;
        }
    }
    let mut stamp = first;
    if before[first.0].is_ascii_alphabetic() {
        stamp.1 = word(word(first.1)?.1)?.1; // month, day, clock
    }
    let host = word(stamp.1)?;
    let tag = word(host.1).map_or((before.len(), before.len()), |(start, _)| {
        (start, start + before[start..].trim_ascii_end().len())
    });
    Some([stamp, host, tag])
}

/// The next bar that is not escaped.
fn header_end(text: &[u8], at: usize) -> Option<usize> {
    memchr_iter(b'|', &text[at..]).map(|found| at + found).find(|found| !escaped(text, at, *found))
}

/// Whether an odd number of backslashes stands before `at`.
fn escaped(text: &[u8], start: usize, at: usize) -> bool {
    text[start..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']')
}

/// Calls `pair` with the place of every key and its value, as they are written.
fn extension(
    text: &[u8],
    start: usize,
    known: Option<&HashSet<Vec<u8>>>,
    mut pair: impl FnMut(Range, Range),
) {
    let mut last: Option<(Range, usize)> = None;
    let mut from = start;
    for equals in memchr_iter(b'=', &text[start..]).map(|found| start + found) {
        let len = text[from..equals].iter().rev().take_while(|byte| is_key(**byte)).count();
        let key = (equals - len, equals);
        from = equals + 1;
        let begins_word = key.0 == start || text[key.0 - 1].is_ascii_whitespace();
        if len == 0 || !begins_word || known.is_some_and(|known| !known.contains(&text[key.0..key.1])) {
            continue;
        }
        if let Some((before, value)) = last {
            pair(before, (value, value + text[value..key.0].trim_ascii_end().len()));
        }
        last = Some((key, from));
    }
    if let Some((key, value)) = last {
        pair(key, (value, value + text[value..].trim_ascii_end().len()));
    }
}

/// A part of the text whose escapes are resolved: a backslash, and what `letter` knows.
fn unescaped(fields: &mut Named<'_>, (start, end): Range, letter: impl Fn(u8) -> Option<u8>) -> Value {
    if memchr(b'\\', fields.part(start, end)).is_none() {
        return Value::Text(start, end);
    }
    fields.scratch(|text, out| {
        let mut rest = &text[start..end];
        while let Some(at) = memchr(b'\\', rest) {
            out.extend_from_slice(&rest[..at]);
            let next = rest.get(at + 1).copied();
            match next.and_then(|next| if next == b'\\' { Some(next) } else { letter(next) }) {
                Some(byte) => {
                    out.push(byte);
                    rest = &rest[at + 2..];
                }
                None => {
                    out.push(b'\\');
                    rest = &rest[at + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
    })
}

/// CEF's own forms of a time: milliseconds since the epoch, or a text.
fn open_form(text: &[u8], forms: &TimeParser, cache: &mut TimeCache) -> Option<i64> {
    if text.len() >= MILLISECOND_DIGITS && text.iter().all(u8::is_ascii_digit) {
        let milliseconds: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        return milliseconds.checked_mul(1_000_000);
    }
    forms.parse(text, cache)
}

/// `cef_parser(log_format, cef_version, keys, output_raw_field, options) -> CompiledParser`
#[pyfunction]
#[pyo3(signature = (log_format, cef_version, keys, output_raw_field, options))]
pub fn cef_parser(
    log_format: &str,
    cef_version: Option<i64>,
    keys: Option<Vec<String>>,
    output_raw_field: bool,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let log_format = match log_format {
        "auto" => LogFormat::Auto,
        "syslog" => LogFormat::Syslog,
        "plain" => LogFormat::Plain,
        other => {
            let why = format!("expected auto, syslog or plain, not {other}");
            return Err(Invalid::new("log_format", why).into());
        }
    };
    let own = CefOptions {
        log_format,
        version: cef_version.map(|version| version.to_string()),
        keys: keys.map(|keys| keys.into_iter().map(String::into_bytes).collect()),
        raw: output_raw_field,
    };
    Ok(CompiledParser::new(CefParser::new(own, &ParseOptions::from_dict(options)?)?))
}

//! The apache2 parser: Apache's combined log format with typed fields.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::extract;
use crate::msgpack::{write_int, write_nil, write_str, write_text};
use crate::options::{Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp::Flags;
use crate::time::{TimeCache, TimeParser, TimeSpec, text_to_integer};

/// A text in quotes may hold escaped quotes; referrer and agent may be missing.
const PATTERN: &str = concat!(
    r"^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] ",
    r#""(?<method>\S+)(?: +(?<path>(?:[^\"]|\\")*?)(?: +\S*)?)?" (?<code>[^ ]*) (?<size>[^ ]*)"#,
    r#"(?: "(?<referer>(?:[^\"]|\\")*)" "(?<agent>(?:[^\"]|\\")*)")?$"#,
);
const TIME_FORMAT: &str = "%d/%b/%Y:%H:%M:%S %z";
const TIME: &str = "time";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text; nil where it is missing.
    Text,
    /// Text; nil where it is missing or `-`.
    Dash,
    /// A number; nil where it is 0.
    Code,
    /// A number; nil for `-`.
    Size,
}

const FIELDS: [(&str, Kind); 8] = [
    ("host", Kind::Dash),
    ("user", Kind::Dash),
    ("method", Kind::Text),
    ("path", Kind::Text),
    ("code", Kind::Code),
    ("size", Kind::Size),
    ("referer", Kind::Dash),
    ("agent", Kind::Dash),
];

/// The compiled parser.
pub struct Apache2 {
    regexp: Regexp,
    /// Group, key with its MessagePack header, and kind.
    fields: Vec<(usize, Vec<u8>, Kind)>,
    time_group: usize,
    time: TimeParser,
    keep_time: bool,
}

impl Apache2 {
    fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        let (regexp, names) =
            extract::compile(PATTERN, Flags::default()).map_err(|why| Invalid::new("@type", why))?;
        let group = |wanted: &str| {
            names.iter().find(|(name, _)| name == wanted).and_then(|(_, groups)| groups.first()).copied()
        };
        let fields = FIELDS.iter().filter_map(|(name, kind)| {
            let mut key = Vec::new();
            write_str(&mut key, name.as_bytes());
            Some((group(name)?, key, *kind))
        });
        let spec = TimeSpec { format: Some(TIME_FORMAT.into()), ..options.time.clone() };
        Ok(Apache2 {
            fields: fields.collect(),
            time_group: group(TIME).unwrap_or_default(),
            time: TimeParser::new(&spec).map_err(|why| Invalid::new("@type", why))?,
            keep_time: options.keep_time_key,
            regexp,
        })
    }
}

impl Parser for Apache2 {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(Apache2Session { parser: self, matcher: self.regexp.matcher(), cache: TimeCache::default() })
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        Some(FIELDS.iter().map(|(name, _)| *name).chain([TIME]).map(|name| name.into()).collect())
    }
}

struct Apache2Session<'a> {
    parser: &'a Apache2,
    matcher: Matcher,
    cache: TimeCache,
}

impl Session for Apache2Session<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let parser = self.parser;
        let script = Script::of(text);
        if !self.matcher.search(&parser.regexp, text, script)? {
            return Err(Mismatch::NoMatch);
        }
        let time_text = self.matcher.capture(text, parser.time_group).unwrap_or_default();
        let time_ns = parser.time.parse(time_text, &mut self.cache).ok_or(Mismatch::InvalidTime)?;
        let start = out.fields.len();
        let valid = script.is_text();
        for (group, key, kind) in &parser.fields {
            out.fields.extend_from_slice(key);
            let value = self.matcher.capture(text, *group);
            match (kind, value) {
                (_, None) | (Kind::Dash | Kind::Size, Some(b"-")) => write_nil(&mut out.fields),
                (Kind::Text | Kind::Dash, Some(value)) => write_text(&mut out.fields, value, valid),
                (Kind::Code | Kind::Size, Some(value)) => match (kind, text_to_integer(value)) {
                    (Kind::Code, 0) => write_nil(&mut out.fields),
                    (_, number) => write_int(&mut out.fields, number),
                },
            }
        }
        let mut pairs = parser.fields.len() as u32;
        if parser.keep_time {
            write_str(&mut out.fields, TIME.as_bytes());
            write_text(&mut out.fields, time_text, valid);
            pairs += 1;
        }
        out.push(start, pairs, Some(time_ns));
        Ok(())
    }
}

/// `apache2_parser(options) -> CompiledParser`; only `keep_time_key` means something.
#[pyfunction]
pub fn apache2_parser(options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(Apache2::new(&ParseOptions::from_dict(options)?)?))
}

//! The syslog parser: RFC 3164 and RFC 5424 messages as Fluentd's parser_syslog reads them.
//!
//! Fluentd has two engines that differ on odd messages: `regexp` (the default; [`crate::syslog_regexp`])
//! and `string` ([`crate::syslog_string`]). Both are scanners here, neither uses regular expressions.
//!
//! With `with_priority` the event has the pair `pri` and `Item::priority` is set.

use memchr::{memchr, memchr_iter};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::msgpack::{PART_ROOM, put_part, write_int, write_nil, write_text};
use crate::options::{Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::syslog_time::{HeaderFormat, HeaderTime, RFC3164_FORMAT};
use crate::{syslog_regexp, syslog_string};

/// Which of the two messages formats are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// RFC 3164 only.
    Rfc3164,
    /// RFC 5424 only.
    Rfc5424,
    /// RFC 5424 where the message starts with a priority and a version, otherwise RFC 3164.
    Auto,
}

/// The parser's parameters.
#[derive(Debug, Clone)]
pub struct SyslogOptions {
    /// `message_format`
    pub message_format: MessageFormat,
    /// `with_priority`
    pub with_priority: bool,
    /// `time_format`; None: each format's default.
    pub time_format: Option<String>,
    /// `rfc5424_time_format`
    pub rfc5424_time_format: String,
    /// `support_colonless_ident`, of the string engine
    pub support_colonless_ident: bool,
    /// `parser_engine string`
    pub string_engine: bool,
    /// The common parameters; only the time's and `keep_time_key` mean something here, as in Fluentd.
    pub common: ParseOptions,
}

/// A compiled syslog parser.
pub struct SyslogParser {
    pub(crate) options: SyslogOptions,
    pub(crate) rfc3164: HeaderFormat,
    pub(crate) rfc5424: HeaderFormat,
}

impl SyslogParser {
    /// Compiles.
    ///
    /// # Errors
    /// A message about the time format or zone.
    pub fn new(options: SyslogOptions) -> Result<Self, Invalid> {
        let given = options.time_format.as_deref();
        let rfc5424 = match options.message_format {
            MessageFormat::Rfc5424 => given.unwrap_or(&options.rfc5424_time_format),
            _ => &options.rfc5424_time_format,
        };
        let time = &options.common.time;
        let invalid = |param: &'static str| move |why: String| Invalid::new(param, why);
        Ok(SyslogParser {
            rfc3164: HeaderFormat::rfc3164(given.unwrap_or(RFC3164_FORMAT), time)
                .map_err(invalid("time_format"))?,
            rfc5424: HeaderFormat::rfc5424(rfc5424, time).map_err(invalid("rfc5424_time_format"))?,
            options,
        })
    }
}

impl Parser for SyslogParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(SyslogSession {
            parser: self,
            rfc3164: HeaderTime::default(),
            rfc5424: HeaderTime::default(),
        })
    }

    fn estimate_current_event(&self) -> bool {
        self.options.common.estimate_current_event
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        let keys = [HOST, IDENT, PID, MSGID, EXTRADATA, MESSAGE, TIME, PRI];
        Some(keys.iter().map(|key| key.name().to_vec()).collect())
    }
}

struct SyslogSession<'a> {
    parser: &'a SyslogParser,
    rfc3164: HeaderTime,
    rfc5424: HeaderTime,
}

impl Session for SyslogSession<'_> {
    #[inline]
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let parser = self.parser;
        let rfc5424 = match parser.options.message_format {
            MessageFormat::Rfc3164 => false,
            MessageFormat::Rfc5424 => true,
            MessageFormat::Auto => is_rfc5424(text),
        };
        let start = out.fields.len();
        out.fields.reserve(text.len() + 128);
        let mut event = Event {
            fields: &mut out.fields,
            whole: text,
            pairs: 0,
            valid: simdutf8::basic::from_utf8(text).is_ok(),
            priority: None,
        };
        let time = match (rfc5424, parser.options.string_engine) {
            (false, false) => {
                syslog_regexp::parse_rfc3164(parser, &mut self.rfc3164, text, &mut event)?;
                &self.rfc3164
            }
            (true, false) => {
                syslog_regexp::parse_rfc5424(parser, &mut self.rfc5424, text, &mut event)?;
                &self.rfc5424
            }
            (false, true) => {
                syslog_string::parse_rfc3164(parser, &mut self.rfc3164, text, &mut event)?;
                &self.rfc3164
            }
            (true, true) => {
                syslog_string::parse_rfc5424(parser, &mut self.rfc5424, text, &mut event)?;
                &self.rfc5424
            }
        };
        let (pairs, priority) = (event.pairs, event.priority);
        out.push(start, pairs, Some(time.time_ns));
        if let Some(item) = out.items.last_mut() {
            item.priority = priority;
        }
        Ok(())
    }
}

/// An event being written.
pub(crate) struct Event<'a> {
    pub fields: &'a mut Vec<u8>,
    /// The message, of which most values are parts.
    pub whole: &'a [u8],
    pub pairs: u32,
    /// Whether the whole message is UTF-8; then so is each part, for they are cut at ASCII.
    pub valid: bool,
    pub priority: Option<u32>,
}

/// A key as MessagePack, in a block that is copied as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    block: [u8; KEY_BLOCK],
    len: usize,
}

const KEY_BLOCK: usize = 16;

impl Key {
    const fn new(name: &str) -> Self {
        let mut block = [0; KEY_BLOCK];
        block[0] = 0xa0 | name.len() as u8;
        let mut at = 0;
        while at < name.len() {
            block[at + 1] = name.as_bytes()[at];
            at += 1;
        }
        Key { block, len: name.len() + 1 }
    }

    fn name(&self) -> &[u8] {
        &self.block[1..self.len]
    }
}

pub(crate) const HOST: Key = Key::new("host");
pub(crate) const IDENT: Key = Key::new("ident");
pub(crate) const PID: Key = Key::new("pid");
pub(crate) const MSGID: Key = Key::new("msgid");
pub(crate) const EXTRADATA: Key = Key::new("extradata");
pub(crate) const MESSAGE: Key = Key::new("message");
pub(crate) const TIME: Key = Key::new("time");
const PRI: Key = Key::new("pri");

impl Event<'_> {
    #[inline]
    pub fn text(&mut self, key: Key, value: &[u8]) {
        self.pairs += 1;
        if !self.valid {
            self.fields.extend_from_slice(&key.block[..key.len]);
            return write_text(self.fields, value, false);
        }
        self.fields.reserve(KEY_BLOCK + value.len() + PART_ROOM);
        let start = self.fields.as_mut_ptr();
        // SAFETY: room was made for key and value; the length is set to what was written.
        unsafe {
            let to = start.add(self.fields.len());
            to.cast::<[u8; KEY_BLOCK]>().write(key.block);
            let end = put_part(to.add(key.len), self.whole, value);
            self.fields.set_len(end as usize - start as usize);
        }
    }

    /// The key with nil.
    pub fn nothing(&mut self, key: Key) {
        self.fields.extend_from_slice(&key.block[..key.len]);
        write_nil(self.fields);
        self.pairs += 1;
    }

    #[inline]
    pub fn priority(&mut self, priority: i64) {
        self.fields.extend_from_slice(&PRI.block[..PRI.len]);
        write_int(self.fields, priority);
        self.pairs += 1;
        self.priority = Some(u32::try_from(priority.max(0)).unwrap_or(u32::MAX));
    }
}

/// The starts of the message's lines: where Ruby's `^` matches.
fn line_starts(text: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(memchr_iter(b'\n', text).map(|at| at + 1))
}

/// `<` one to three digits `>`: the number, and the length of all.
#[inline]
pub(crate) fn priority(text: &[u8]) -> Option<(i64, usize)> {
    let digits = text.strip_prefix(b"<")?;
    let mut value = 0;
    for (at, byte) in digits.iter().take(4).enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'>' if at > 0 => return Some((value, at + 2)),
            _ => return None,
        }
    }
    None
}

/// The first line start at which `matches` finds something. A priority further down counts only where
/// no `>` stands before it.
pub(crate) fn at_line_start<T>(text: &[u8], matches: impl Fn(&[u8]) -> Option<T>) -> Option<(T, usize)> {
    let (found, at) = line_starts(text).find_map(|at| Some((matches(&text[at..])?, at)))?;
    (at == 0 || memchr(b'>', &text[..at]).is_none()).then_some((found, at))
}

fn is_rfc5424(text: &[u8]) -> bool {
    let starts = |line: &[u8]| {
        let (_, len) = priority(line)?;
        matches!(line.get(len), Some(b'1'..=b'9')).then_some(())
    };
    line_starts(text).any(|at| starts(&text[at..]).is_some())
}

/// Without one line end, as Ruby's `chomp`.
#[inline]
pub(crate) fn chomp(text: &[u8]) -> &[u8] {
    match text {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n' | b'\r'] => rest,
        _ => text,
    }
}

/// Compiles a syslog parser.
#[pyfunction]
#[pyo3(signature = (message_format, with_priority, time_format, rfc5424_time_format, support_colonless_ident, parser_engine, options))]
#[allow(clippy::too_many_arguments)]
pub fn syslog_parser(
    message_format: &str,
    with_priority: bool,
    time_format: Option<String>,
    rfc5424_time_format: String,
    support_colonless_ident: bool,
    parser_engine: &str,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let message_format = match message_format {
        "rfc3164" => MessageFormat::Rfc3164,
        "rfc5424" => MessageFormat::Rfc5424,
        "auto" => MessageFormat::Auto,
        other => {
            let why = format!("expected rfc3164, rfc5424 or auto, not {other}");
            return Err(Invalid::new("message_format", why).into());
        }
    };
    let string_engine = match parser_engine {
        "regexp" => false,
        "string" => true,
        other => {
            let why = format!("expected regexp or string, not {other}");
            return Err(Invalid::new("parser_engine", why).into());
        }
    };
    SyslogParser::new(SyslogOptions {
        message_format,
        with_priority,
        time_format,
        rfc5424_time_format,
        support_colonless_ident,
        string_engine,
        common: ParseOptions::from_dict(options)?,
    })
    .map(CompiledParser::new)
    .map_err(PyErr::from)
}

//! One whole message of a forward client: which mode it has, its events, and the acknowledgement it asks for.
//!
//! Source: Fluentd Forward Protocol Specification v1, "Message Modes" and "Option"
//! (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>).

use std::borrow::Cow;
use std::sync::Arc;

use super::entries::{self, Checks, Field, Refused};
use super::inflate;
use super::sink::{Sink, WHOLE, book};
use crate::event::Packed;
use crate::json_out;
use crate::msgpack::{self, Malformed, Token};

/// What an input does with messages.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Instead of the messages' own tags.
    pub tag: Option<Arc<str>>,
    /// Before every tag, with a dot between.
    pub prefix: Option<String>,
    /// Drops what is no event; otherwise times may be missing or floats.
    pub skip_invalid: bool,
    /// Longest message in bytes.
    pub size_limit: usize,
    /// Messages beyond so many bytes are logged.
    pub warn_limit: Option<usize>,
    /// Longest decompressed payload in bytes.
    pub decompressed_limit: usize,
    /// Field for the sender's address.
    pub address_key: Option<Arc<[u8]>>,
    /// Field for the sender's host name.
    pub hostname_key: Option<Arc<[u8]>>,
}

/// The sender, as far as messages are concerned.
#[derive(Debug, Default)]
pub struct Peer {
    /// Address and port for the log.
    pub name: String,
    /// Whose acknowledgements these are.
    pub token: u64,
    /// It speaks JSON.
    pub json: bool,
    /// What its records get.
    pub fields: Vec<Field>,
}

impl Peer {
    /// The start of a log line's data: who it was.
    #[must_use]
    pub fn sample(&self, tag: &[u8], data: &[u8]) -> Vec<u8> {
        let mut text = self.name.clone().into_bytes();
        if !tag.is_empty() {
            text.extend_from_slice(b" tag ");
            text.extend_from_slice(&tag[..tag.len().min(128)]);
        }
        text.extend_from_slice(b": ");
        text.extend_from_slice(&data[..data.len().min(200)]);
        text
    }
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    On,
    /// It cannot: it has to be closed.
    Close,
}

/// What a message's options say.
#[derive(Debug, Default, Clone, Copy)]
struct Options<'a> {
    /// The value of `chunk`, as MessagePack.
    chunk: Option<&'a [u8]>,
    /// The value of `compressed`.
    compressed: Option<&'a [u8]>,
}

/// Takes messages apart for one connection.
pub struct Reader<'a> {
    /// What the input does.
    pub rules: &'a Rules,
    /// The sender.
    pub peer: &'a Peer,
    /// Where events go.
    pub sink: &'a mut Sink,
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
}

/// Where a PackedForward message's payload is; as much as the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed to tell.
    Unknown,
    /// PackedForward.
    Packed {
        /// The tag's bytes.
        tag: (usize, usize),
        /// Where the payload starts.
        payload: usize,
        /// Its length.
        len: usize,
        /// Elements behind it.
        rest: u64,
    },
    /// Another mode, or no message.
    Other,
}

/// Longest tag that the fast way takes.
const TAG_LIMIT: usize = 16 << 10;

impl Head {
    /// Looks at the start of a message.
    #[must_use]
    pub fn read(data: &[u8]) -> Self {
        let mut pos = 0;
        match Self::packed(data, &mut pos) {
            Ok(head) => head,
            Err(Malformed::Truncated) => Head::Unknown,
            Err(_) => Head::Other,
        }
    }

    fn packed(data: &[u8], pos: &mut usize) -> Result<Self, Malformed> {
        let Token::Array(elements) = msgpack::read_token(data, pos)? else { return Ok(Head::Other) };
        if elements < 2 {
            return Ok(Head::Other);
        }
        let Some((tag, tag_len)) = text_head(data, *pos)? else { return Ok(Head::Other) };
        if tag_len > TAG_LIMIT {
            return Ok(Head::Other);
        }
        *pos = tag + tag_len;
        let Some((payload, len)) = text_head(data, *pos)? else { return Ok(Head::Other) };
        Ok(Head::Packed { tag: (tag, tag + tag_len), payload, len, rest: elements as u64 - 2 })
    }
}

/// Where the bytes of the str or bin at `at` start, and their number, though they need not be there; None for
/// another value.
fn text_head(data: &[u8], at: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let first = *data.get(at).ok_or(Malformed::Truncated)?;
    let width = match first {
        0xa0..=0xbf => return Ok(Some((at + 1, usize::from(first & 0x1f)))),
        0xc4..=0xc6 => 1 << (first - 0xc4),
        0xd9..=0xdb => 1 << (first - 0xd9),
        _ => return Ok(None),
    };
    let bytes = data.get(at + 1..at + 1 + width).ok_or(Malformed::Truncated)?;
    let len = bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
    Ok(Some((at + 1 + width, len)))
}

impl Reader<'_> {
    /// Takes a whole, well-formed message.
    pub fn message(&mut self, data: &[u8]) -> Flow {
        let flow = match self.modes(data) {
            Ok(flow) => flow,
            Err(why) => {
                self.sink.fail("broken_stream", &self.peer.sample(b"", why.to_string().as_bytes()));
                Flow::Close
            }
        };
        self.sink.end_message();
        flow
    }

    fn modes(&mut self, data: &[u8]) -> Result<Flow, Malformed> {
        let mut pos = 0;
        let elements = match msgpack::read_token(data, &mut pos)? {
            Token::Array(elements) => elements,
            Token::Nil => return Ok(Flow::On), // a heartbeat
            _ => {
                self.sink.fail("bad_message", &self.peer.sample(b"", data));
                return Ok(Flow::On);
            }
        };
        let tag = pos;
        if elements >= 1 {
            msgpack::skip_value(data, &mut pos)?;
        }
        let tag = match msgpack::read_token(data, &mut { tag }) {
            Ok(Token::Str(tag) | Token::Bin(tag)) if elements >= 1 => Some(tag),
            _ if self.rules.tag.is_some() => Some(&b""[..]), // it is another one anyway
            _ => None,
        };
        self.warn(tag.unwrap_or_default(), data.len());
        let Some(tag) = tag.filter(|_| elements >= 2) else {
            self.sink.fail("bad_message", &self.peer.sample(b"", data));
            return Ok(Flow::On);
        };
        let second = pos;
        match msgpack::read_token(data, &mut pos)? {
            Token::Str(payload) | Token::Bin(payload) => {
                let options = self.options(data, pos, elements > 2)?;
                Ok(self.packed(tag, Cow::Borrowed(payload), options))
            }
            Token::Array(count) => {
                self.entries(tag, data, &mut pos, count, self.checks(self.rules.skip_invalid))?;
                let options = self.options(data, pos, elements > 2)?;
                self.acknowledge(options);
                Ok(Flow::On)
            }
            time => {
                self.event(tag, data, second, &mut pos, time, elements)?;
                let options = self.options(data, pos, elements > 3)?;
                self.acknowledge(options);
                Ok(Flow::On)
            }
        }
    }

    /// Message mode: one event. Moves `pos` behind the record.
    fn event(
        &mut self,
        tag: &[u8],
        data: &[u8],
        time_at: usize,
        pos: &mut usize,
        time: Token<'_>,
        elements: usize,
    ) -> Result<(), Malformed> {
        let mut time_end = time_at;
        msgpack::skip_value(data, &mut time_end)?;
        *pos = time_end;
        let record = *pos;
        let checks = self.checks(false);
        let (rules, fields) = (self.rules, &self.peer.fields);
        let is_map = elements > 2 && matches!(data.get(record), Some(0x80..=0x8f | 0xde | 0xdf));
        let valid_time = match time {
            Token::Ext(0, raw) => raw.len() == 8,
            Token::Uint(_) | Token::Int(_) => true,
            Token::Float(seconds) => checks.lenient && seconds.is_finite(),
            Token::Nil => checks.lenient,
            _ => false,
        };
        if elements > 2 {
            msgpack::skip_value(data, pos)?;
        }
        if !is_map || !valid_time {
            self.sink.fail("invalid_event", &self.peer.sample(tag, data));
            return Ok(());
        }
        let (batch, index) = self.sink.batch(raw_tag(rules, tag), || final_tag(rules, tag));
        let before = batch.data.len();
        batch.data.push(0x92);
        let outcome = entries::time(data, time_at, time_end, time, &checks, &mut batch.data)
            .and_then(|()| entries::record(data, &mut { record }, fields, &mut batch.data));
        if outcome.is_err() {
            // cannot be: both were looked at
            batch.data.truncate(before);
            self.sink.fail("invalid_event", &self.peer.sample(tag, data));
            return Ok(());
        }
        let len = batch.data.len() - before;
        book(batch, index, 1, len);
        Ok(())
    }

    /// PackedForward, whose payload may be `owned` by nobody else: then it need not be copied.
    fn packed(&mut self, tag: &[u8], payload: Cow<'_, [u8]>, options: Options<'_>) -> Flow {
        let mut packed = None;
        let payload = match options.compressed {
            None => payload,
            Some(_) if payload.is_empty() => payload,
            Some(method) => match inflate::inflate(method, &payload, self.rules.decompressed_limit) {
                Ok(data) => {
                    packed = Some((if method == b"gzip" { "gzip" } else { "zstd" }, payload));
                    Cow::Owned(data)
                }
                Err(why) => {
                    self.sink.fail(why.reason(), &self.peer.sample(tag, why.to_string().as_bytes()));
                    return Flow::Close;
                }
            },
        };
        let checks = self.checks(true);
        let mut pos = 0;
        let count = match &payload {
            Cow::Owned(data) if data.len() >= WHOLE && self.peer.fields.is_empty() => {
                entries::canonical(data, &mut pos, usize::MAX)
            }
            _ => 0,
        };
        if count > 0 && pos == payload.len() {
            let rules = self.rules;
            let packed = packed.map(|(method, data)| Packed { method, data: data.into_owned() });
            let name = || final_tag(rules, tag);
            self.sink.payload(raw_tag(rules, tag), name, payload.into_owned(), count, packed);
        } else if let Err(why) = self.entries(tag, &payload, &mut 0, usize::MAX, checks) {
            self.sink.fail("broken_entries", &self.peer.sample(tag, why.to_string().as_bytes()));
        }
        self.acknowledge(options);
        Flow::On
    }

    /// Takes `count` entries from `pos` on, at most those that are there where `count` is `usize::MAX`.
    fn entries(
        &mut self,
        tag: &[u8],
        data: &[u8],
        pos: &mut usize,
        count: usize,
        checks: Checks,
    ) -> Result<(), Malformed> {
        let (rules, fields) = (self.rules, &self.peer.fields);
        let all = count == usize::MAX;
        let mut left = count;
        while left > 0 && (!all || *pos < data.len()) {
            let start = *pos;
            if fields.is_empty() {
                let found = entries::canonical(data, pos, left);
                if found > 0 {
                    let (batch, index) = self.sink.batch(raw_tag(rules, tag), || final_tag(rules, tag));
                    batch.data.extend_from_slice(&data[start..*pos]);
                    book(batch, index, found, *pos - start);
                    left -= found;
                    continue;
                }
            }
            let (batch, index) = self.sink.batch(raw_tag(rules, tag), || final_tag(rules, tag));
            let before = batch.data.len();
            match entries::normalise(data, pos, &checks, fields, &mut batch.data) {
                Ok(()) => {
                    let len = batch.data.len() - before;
                    book(batch, index, 1, len);
                }
                Err(Refused::Invalid) => {
                    self.sink.fail("invalid_event", &self.peer.sample(tag, &data[start..*pos]));
                }
                Err(Refused::Broken(why)) => return Err(why),
            }
            left -= 1;
        }
        Ok(())
    }

    /// A PackedForward message whose payload came into a buffer of its own; `rest` holds the elements behind it.
    pub fn owned_payload(&mut self, tag: &[u8], payload: Vec<u8>, rest: &[u8], size: usize) -> Flow {
        if size > self.rules.size_limit {
            self.oversized();
            return Flow::On;
        }
        self.warn(tag, size);
        let flow = match self.options(rest, 0, !rest.is_empty()) {
            Ok(options) => self.packed(tag, Cow::Owned(payload), options),
            Err(_) => Flow::Close, // cannot be: it was walked over
        };
        self.sink.end_message();
        flow
    }

    /// Books a message that is longer than the limit, and may not have been kept.
    pub fn oversized(&mut self) {
        let limit = format!("the limit is {} bytes", self.rules.size_limit);
        self.sink.fail("chunk_size_limit", &self.peer.sample(b"", limit.as_bytes()));
    }

    fn warn(&mut self, tag: &[u8], size: usize) {
        if self.rules.warn_limit.is_some_and(|limit| size > limit) {
            let size = format!("{size} bytes");
            self.sink.notice("chunk_size_warn_limit", &self.peer.sample(tag, size.as_bytes()));
        }
    }

    /// Fluentd makes the present of a time of zero in message mode, and in forward mode where it does not check
    /// the entries.
    fn checks(&self, keep_zero: bool) -> Checks {
        Checks { lenient: !self.rules.skip_invalid, keep_zero, now_ns: self.now_ns }
    }

    /// Reads the options at `pos`, where the message has any.
    fn options<'d>(&self, data: &'d [u8], mut pos: usize, any: bool) -> Result<Options<'d>, Malformed> {
        let mut options = Options::default();
        if !any {
            return Ok(options);
        }
        let Token::Map(pairs) = msgpack::read_token(data, &mut pos)? else { return Ok(options) };
        for _ in 0..pairs {
            let key = pos;
            msgpack::skip_value(data, &mut pos)?;
            let value = pos;
            msgpack::skip_value(data, &mut pos)?;
            let name = match msgpack::read_token(data, &mut { key })? {
                Token::Str(name) | Token::Bin(name) => name,
                _ => continue,
            };
            match (name, msgpack::read_token(data, &mut { value })?) {
                (b"chunk", Token::Nil | Token::Bool(false)) => options.chunk = None,
                (b"chunk", _) => options.chunk = Some(&data[value..pos]),
                (b"compressed", Token::Str(b"text") | Token::Bin(b"text")) => options.compressed = None,
                (b"compressed", Token::Str(method) | Token::Bin(method)) => options.compressed = Some(method),
                _ => {}
            }
        }
        Ok(options)
    }

    fn acknowledge(&mut self, options: Options<'_>) {
        let Some(chunk) = options.chunk else { return };
        let mut bytes = Vec::with_capacity(chunk.len() + 8);
        if self.peer.json {
            bytes.extend_from_slice(b"{\"ack\":");
            if json_out::write_value(&mut bytes, chunk, &mut 0, json_out::Floats::Oj).is_err() {
                return;
            }
            bytes.push(b'}');
        } else {
            msgpack::write_map_header(&mut bytes, 1);
            msgpack::write_str(&mut bytes, b"ack");
            bytes.extend_from_slice(chunk);
        }
        self.sink.ack(self.peer.token, bytes);
    }
}

/// What tells tags apart: all are one where the input has a tag of its own.
fn raw_tag<'t>(rules: &Rules, tag: &'t [u8]) -> &'t [u8] {
    if rules.tag.is_some() { b"" } else { tag }
}

fn final_tag(rules: &Rules, tag: &[u8]) -> Arc<str> {
    let tag = rules.tag.as_deref().map_or_else(|| String::from_utf8_lossy(tag), Cow::Borrowed);
    match &rules.prefix {
        None => tag.into(),
        Some(prefix) => format!("{prefix}.{tag}").into(),
    }
}

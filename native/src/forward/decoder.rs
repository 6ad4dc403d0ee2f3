//! One connection's bytes to messages, however they are cut into segments.
//!
//! A message is looked at once: what has been walked over is not walked over again when more arrives. The
//! payload of a PackedForward message that does not fit into one segment goes into a buffer of its own, which
//! becomes the batch. What is longer than the limit is walked over without being kept.

use super::message::{Flow, Head, Peer, Reader, Rules};
use super::sink::Sink;
use super::skip::{JsonSkipper, Skipper};
use crate::json_in;

/// A first message (before the sender is known) may have so many bytes.
const HANDSHAKE_LIMIT: usize = 64 << 10;
/// Room that a payload gets before its bytes have come.
const TRUSTED: usize = 1 << 20;
/// Bytes to read at once into a message that is kept.
const SEGMENT: usize = 64 << 10;
/// So many messages in a row that are none, and the sender is taken for something else.
const GARBAGE: u32 = 16;

/// What happens to a message.
pub enum Shared<'a> {
    /// The sender is not known yet: the first message goes here. False: refused, nothing more is read.
    Handshake(&'a mut dyn FnMut(&[u8], &mut Sink) -> bool),
    /// Events are taken.
    Open,
}

/// What all connections share, for the time of a call.
pub struct Scene<'a> {
    /// What the input does.
    pub rules: &'a Rules,
    /// Where events go.
    pub sink: &'a mut Sink,
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
    /// Nothing is read behind the first message (`deny_keepalive`).
    pub one_message: bool,
    /// Whether the sender must show who it is.
    pub gate: Shared<'a>,
}

/// Why nothing more is read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It sent what cannot be read; booked.
    Broken,
    /// It was refused; the answer says why.
    Refused,
    /// Its one message has come.
    Done,
}

#[derive(Debug)]
enum Part {
    /// Between two messages, or within the head of one.
    Start,
    /// Within a message whose bytes are all kept.
    Message { skipper: Skipper, walked: usize },
    /// Within a payload.
    Payload(Box<Payload>),
    /// Within what follows a payload.
    Rest { payload: Box<Payload>, skipper: Skipper, walked: usize },
    /// Within a message that is too long to be kept.
    Discard(Skipper),
    /// Within a JSON text.
    Json { skipper: JsonSkipper, walked: usize },
}

#[derive(Debug)]
struct Payload {
    tag: Vec<u8>,
    data: Vec<u8>,
    len: usize,
    head: usize,
    rest: u64,
}

/// The state of one connection's stream.
#[derive(Debug)]
pub struct Decoder {
    part: Part,
    /// The present message's bytes so far, except a payload's.
    pending: Vec<u8>,
    known: bool,
    json: bool,
    garbage: u32,
    established: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            part: Part::Start,
            pending: Vec::new(),
            known: false,
            json: false,
            garbage: 0,
            established: false,
        }
    }
}

impl Decoder {
    /// Bytes of the unfinished message that are kept.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pending.len()
            + match &self.part {
                Part::Payload(payload) | Part::Rest { payload, .. } => payload.data.len(),
                _ => 0,
            }
    }

    /// Whether the stream is within a message.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        !self.pending.is_empty() || !matches!(self.part, Part::Start)
    }

    /// Whether a handshake has been passed.
    #[must_use]
    pub fn established(&self) -> bool {
        self.established
    }

    /// A buffer that the next bytes may be appended to directly, and how many of them: call `feed` with what
    /// follows them, even if that is nothing. None: bytes go to `feed`.
    pub fn direct(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        match &mut self.part {
            Part::Payload(payload) if payload.data.len() < payload.len => {
                let left = payload.len - payload.data.len();
                // as much as there is already: a length that lies costs nothing
                let room = left.min(payload.data.len().max(TRUSTED));
                Some((&mut payload.data, room))
            }
            Part::Message { .. } if !self.pending.is_empty() => {
                let room = self.pending.len().clamp(SEGMENT, TRUSTED);
                Some((&mut self.pending, room))
            }
            _ => None,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`End`]: nothing more must be fed.
    pub fn feed(&mut self, data: &[u8], peer: &mut Peer, scene: &mut Scene<'_>) -> Result<(), End> {
        if self.pending.is_empty() {
            let used = self.process(data, peer, scene)?;
            if used < data.len() {
                self.pending.extend_from_slice(&data[used..]);
            }
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(data);
        let used = self.process(&pending, peer, scene)?;
        if used < pending.len() {
            pending.drain(..used);
            self.pending = pending;
        }
        Ok(())
    }

    /// Goes as far as `data` allows, which starts where the present message does (or the part of it that is not
    /// kept elsewhere). Gives how much of it is done with.
    fn process(&mut self, data: &[u8], peer: &mut Peer, scene: &mut Scene<'_>) -> Result<usize, End> {
        let mut pos = 0;
        loop {
            let part = std::mem::replace(&mut self.part, Part::Start);
            match part {
                Part::Start => {
                    if pos == data.len() {
                        return Ok(pos);
                    }
                    if !self.start(data, &mut pos, peer, scene)? {
                        return Ok(pos);
                    }
                }
                Part::Message { mut skipper, mut walked } => {
                    let mut at = pos + walked;
                    let outcome = skipper.run(data, &mut at);
                    walked = at - pos;
                    match outcome {
                        Ok(true) => {
                            let message = &data[pos..at];
                            pos = at;
                            self.message(message, peer, scene)?;
                        }
                        Ok(false) if walked > self.limit(scene) => {
                            self.part = Part::Discard(skipper);
                            return Ok(at);
                        }
                        Ok(false) => {
                            self.part = Part::Message { skipper, walked };
                            return Ok(pos);
                        }
                        Err(why) => {
                            let text = format!("{why}, at {:02x?}", &data[at..data.len().min(at + 8)]);
                            scene.sink.fail("broken_stream", &peer.sample(b"", text.as_bytes()));
                            return Err(End::Broken);
                        }
                    }
                }
                Part::Payload(mut payload) => {
                    let more = (payload.len - payload.data.len()).min(data.len() - pos);
                    payload.data.extend_from_slice(&data[pos..pos + more]);
                    pos += more;
                    if payload.data.len() < payload.len {
                        self.part = Part::Payload(payload);
                        return Ok(pos);
                    }
                    let skipper = Skipper::new(payload.rest, 0);
                    self.part = Part::Rest { payload, skipper, walked: 0 };
                }
                Part::Rest { payload, mut skipper, mut walked } => {
                    let mut at = pos + walked;
                    let outcome = skipper.run(data, &mut at);
                    walked = at - pos;
                    match outcome {
                        Ok(true) => {
                            let rest = &data[pos..at];
                            pos = at;
                            let Payload { tag, data: entries, head, len, .. } = *payload;
                            let size = head + len + rest.len();
                            self.garbage = 0;
                            let flow = reader(peer, scene).owned_payload(&tag, entries, rest, size);
                            self.after(flow, scene)?;
                        }
                        Ok(false) if payload.len + walked > self.limit(scene) => {
                            self.part = Part::Discard(skipper);
                            return Ok(at);
                        }
                        Ok(false) => {
                            self.part = Part::Rest { payload, skipper, walked };
                            return Ok(pos);
                        }
                        Err(why) => {
                            let text = why.to_string();
                            scene.sink.fail("broken_stream", &peer.sample(&payload.tag, text.as_bytes()));
                            return Err(End::Broken);
                        }
                    }
                }
                Part::Discard(mut skipper) => match skipper.run(data, &mut pos) {
                    Ok(true) => {
                        self.garbage = 0;
                        reader(peer, scene).oversized();
                        self.after(Flow::On, scene)?;
                    }
                    Ok(false) => {
                        self.part = Part::Discard(skipper);
                        return Ok(pos);
                    }
                    Err(why) => {
                        scene.sink.fail("broken_stream", &peer.sample(b"", why.to_string().as_bytes()));
                        return Err(End::Broken);
                    }
                },
                Part::Json { mut skipper, walked } => {
                    let mut at = pos + walked;
                    if skipper.run(data, &mut at) {
                        let text = &data[pos..at];
                        pos = at;
                        self.json(text, peer, scene)?;
                    } else if at - pos > self.limit(scene) {
                        reader(peer, scene).oversized();
                        return Err(End::Broken);
                    } else {
                        self.part = Part::Json { skipper, walked: at - pos };
                        return Ok(pos);
                    }
                }
            }
        }
    }

    /// At the start of a message: finds out what it is. False: more bytes are needed.
    fn start(
        &mut self,
        data: &[u8],
        pos: &mut usize,
        peer: &mut Peer,
        scene: &mut Scene<'_>,
    ) -> Result<bool, End> {
        if !self.known && !self.recognise(&data[*pos..], peer, scene)? {
            return Ok(false);
        }
        if self.json {
            while data.get(*pos).is_some_and(u8::is_ascii_whitespace) {
                *pos += 1;
            }
            return match data.get(*pos) {
                None => Ok(false),
                Some(b'[' | b'{') => {
                    self.part = Part::Json { skipper: JsonSkipper::default(), walked: 0 };
                    Ok(true)
                }
                Some(_) => {
                    scene.sink.fail("broken_stream", &peer.sample(b"", &data[*pos..]));
                    Err(End::Broken)
                }
            };
        }
        if self.open(scene) {
            match Head::read(&data[*pos..]) {
                Head::Unknown => return Ok(false),
                Head::Packed { payload, len, rest, .. } if payload + len > self.limit(scene) => {
                    *pos += payload;
                    self.part = Part::Discard(Skipper::new(rest, len));
                    return Ok(true);
                }
                Head::Packed { tag, payload, len, rest } if data.len() - *pos < payload + len => {
                    let mut buffer = Vec::with_capacity(len.min(TRUSTED));
                    buffer.extend_from_slice(&data[*pos + payload..]);
                    let tag = data[*pos + tag.0..*pos + tag.1].to_vec();
                    *pos = data.len();
                    self.part =
                        Part::Payload(Box::new(Payload { tag, data: buffer, len, head: payload, rest }));
                    return Ok(true);
                }
                Head::Packed { payload, len, rest, .. } => {
                    // all of it is there: no need to walk over the payload again
                    self.part = Part::Message { skipper: Skipper::new(rest, 0), walked: payload + len };
                    return Ok(true);
                }
                Head::Other => {}
            }
        }
        self.part = Part::Message { skipper: Skipper::new(1, 0), walked: 0 };
        Ok(true)
    }

    /// Looks at the first bytes of a connection. False: more are needed.
    fn recognise(&mut self, data: &[u8], peer: &mut Peer, scene: &mut Scene<'_>) -> Result<bool, End> {
        let what = match data {
            [0x16] | [0x16, 0x03] => return Ok(false),
            [0x16, 0x03, 0..=4, ..] => "tls_on_plain",
            [b'{' | b'[', ..] => {
                self.json = true;
                peer.json = true;
                ""
            }
            // as MessagePack: a number for each letter
            [b' '..=b'~', ..] => "no_forward",
            _ => "",
        };
        self.known = true;
        if what.is_empty() {
            return Ok(true);
        }
        scene.sink.fail(what, &peer.sample(b"", data));
        Err(End::Broken)
    }

    fn open(&self, scene: &Scene<'_>) -> bool {
        self.established || matches!(scene.gate, Shared::Open)
    }

    fn limit(&self, scene: &Scene<'_>) -> usize {
        if self.open(scene) { scene.rules.size_limit } else { HANDSHAKE_LIMIT }
    }

    fn json(&mut self, text: &[u8], peer: &mut Peer, scene: &mut Scene<'_>) -> Result<(), End> {
        if text.len() > self.limit(scene) {
            reader(peer, scene).oversized();
            return Err(End::Broken);
        }
        let mut message = Vec::with_capacity(text.len() + 16);
        if json_in::transcode(text, &mut message).is_err() {
            scene.sink.fail("broken_stream", &peer.sample(b"", text));
            return Err(End::Broken);
        }
        self.message(&message, peer, scene)
    }

    fn message(&mut self, message: &[u8], peer: &mut Peer, scene: &mut Scene<'_>) -> Result<(), End> {
        if !self.established
            && let Shared::Handshake(check) = &mut scene.gate
        {
            // what is longer is walked over, and so never comes here in parts
            self.established = message.len() <= HANDSHAKE_LIMIT && check(message, scene.sink);
            return if self.established { Ok(()) } else { Err(End::Refused) };
        }
        if message.len() > scene.rules.size_limit {
            self.garbage = 0;
            reader(peer, scene).oversized();
            return self.after(Flow::On, scene);
        }
        if matches!(message[0], 0x80..=0x9f | 0xc0 | 0xdc..=0xdf) {
            self.garbage = 0;
        } else {
            self.garbage += 1;
        }
        let flow = reader(peer, scene).message(message);
        if self.garbage >= GARBAGE {
            return Err(End::Broken);
        }
        self.after(flow, scene)
    }

    fn after(&self, flow: Flow, scene: &Scene<'_>) -> Result<(), End> {
        match flow {
            Flow::Close => Err(End::Broken),
            Flow::On if scene.one_message => Err(End::Done),
            Flow::On => Ok(()),
        }
    }
}

fn reader<'a>(peer: &'a Peer, scene: &'a mut Scene<'_>) -> Reader<'a> {
    Reader { rules: scene.rules, peer, sink: scene.sink, now_ns: scene.now_ns }
}

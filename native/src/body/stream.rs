//! Records in a stream that comes in pieces: what is complete is taken, the rest waits for its end.

use memchr::memchr;

use super::{Given, Reading, Rule};
use crate::ingest::{Taken, tally};
use crate::msgpack::{Malformed, skip_value};
use crate::parser::{Events, Session};

/// How records follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// One a line.
    Lines,
    /// JSON values, with or without line ends between and within them.
    Json,
    /// MessagePack values.
    MsgPack,
    /// The whole stream is one text.
    Whole,
}

impl Rule {
    /// The events of what is complete in `data`, and how many bytes that was. `last`: nothing follows.
    pub fn feed(&self, sequence: Sequence, data: &[u8], last: bool, given: &Given<'_>) -> (Taken, usize) {
        let mut reading = Reading::new(self, given, data.len());
        let mut session = self.parser.session();
        let used = reading.stream(sequence, data, last, &mut *session);
        (reading.taken, used)
    }
}

impl Reading<'_> {
    fn stream(&mut self, sequence: Sequence, data: &[u8], last: bool, session: &mut dyn Session) -> usize {
        let mut events = Events::default();
        let mut used = 0;
        while used < data.len() {
            let rest = &data[used..];
            let end = match sequence {
                Sequence::Lines => memchr(b'\n', rest).map(|at| at + 1),
                Sequence::Json => json_end(rest),
                Sequence::MsgPack => match msgpack_end(rest) {
                    Ok(end) => end,
                    Err(_) => {
                        // where the next value begins cannot be known
                        tally(&mut self.taken.failures, "malformed", rest);
                        return data.len();
                    }
                },
                Sequence::Whole => None,
            };
            let Some(end) = end.or(last.then_some(rest.len())) else { break };
            used += end;
            let mut text = &rest[..end];
            if sequence == Sequence::Lines {
                text = text.strip_suffix(b"\n").unwrap_or(text);
                text = text.strip_suffix(b"\r").unwrap_or(text);
            } else if sequence == Sequence::Json && text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err(why) = self.text(text, session, &mut events) {
                tally(&mut self.taken.failures, why.reason, text);
            }
        }
        used
    }
}

/// Where the value that comes next ends; None: not yet.
fn msgpack_end(data: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut pos = 0;
    match skip_value(data, &mut pos) {
        Ok(()) => Ok(Some(pos)),
        Err(Malformed::Truncated) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Where the object or array that comes next in `text` ends; for anything else, where its line does.
fn json_end(text: &[u8]) -> Option<usize> {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if !matches!(text[start], b'{' | b'[') {
        return memchr(b'\n', &text[start..]).map(|at| start + at + 1);
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

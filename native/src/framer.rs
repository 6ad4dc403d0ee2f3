//! Stream framing: where one message ends and the next begins on a byte stream.
//!
//! Two ways (RFC 6587 names both for syslog): a delimiter after each message ("\n", NUL, any string), or
//! octet counting (`LENGTH SP MESSAGE`). The result never depends on how the stream was cut into reads.
//! Memory is bounded: at most `limit` bytes of an unfinished message are kept.

use memchr::memmem::Finder;

/// What no message may exceed even where the configuration gives no limit.
pub const HARD_LIMIT: usize = 16 << 20;
/// Digits of the longest length that octet counting takes.
const MAX_DIGITS: usize = 10;

/// What a framer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A complete message.
    Message(&'a [u8]),
    /// A message longer than the limit, which is skipped; its first bytes.
    TooLong(&'a [u8]),
}

/// A stream that cannot be framed any further; the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Octet counting: no decimal length (RFC 6587: `MSG-LEN = NONZERO-DIGIT *DIGIT`) where one must be.
    Length,
    /// Octet counting: a length beyond the limit.
    TooLong,
}

impl Broken {
    /// The ledger's word for it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Broken::Length => "bad_frame",
            Broken::TooLong => "too_long",
        }
    }
}

enum Kind {
    Delimiter(Box<Finder<'static>>),
    OctetCount,
}

/// What connections of one server share: how they are framed.
pub struct Framing {
    kind: Kind,
    /// Longest message in bytes.
    pub limit: usize,
}

impl Framing {
    /// Messages that end with `delimiter`, which must not be empty.
    #[must_use]
    pub fn delimiter(delimiter: &[u8], limit: Option<usize>) -> Option<Self> {
        (!delimiter.is_empty()).then(|| Framing {
            kind: Kind::Delimiter(Box::new(Finder::new(delimiter).into_owned())),
            limit: limit.unwrap_or(HARD_LIMIT),
        })
    }

    /// Messages with their length before them.
    #[must_use]
    pub fn octet_count(limit: Option<usize>) -> Self {
        Framing { kind: Kind::OctetCount, limit: limit.unwrap_or(HARD_LIMIT) }
    }
}

/// One connection's state.
#[derive(Default)]
pub struct Framer {
    /// The start of a message whose end has not come yet.
    pending: Vec<u8>,
    /// So many bytes of `pending` hold no delimiter.
    scanned: usize,
    /// Within a message that was too long.
    skipping: bool,
}

impl Framer {
    /// Takes the next bytes of the stream and gives every message that they complete.
    ///
    /// # Errors
    /// [`Broken`]: nothing more can be read from this stream.
    pub fn feed(
        &mut self,
        framing: &Framing,
        data: &[u8],
        mut give: impl FnMut(Frame<'_>),
    ) -> Result<(), Broken> {
        if self.pending.is_empty() {
            // the usual case: messages are taken straight from the read buffer
            let used = self.frames(framing, data, 0, &mut give)?;
            self.keep(&data[used..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(data);
        let scanned = std::mem::take(&mut self.scanned);
        let used = self.frames(framing, &joined, scanned, &mut give)?;
        if used > 0 {
            joined.drain(..used);
        }
        // a connection that once sent a long message does not keep its memory
        if joined.capacity() > 65_536 && joined.len() < joined.capacity() / 4 {
            joined.shrink_to_fit();
        }
        self.pending = joined;
        Ok(())
    }

    /// How many bytes wait for the end of their message.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The stream's end: gives back an unterminated rest, which is no message.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.pending);
        if self.skipping { Vec::new() } else { rest }
    }

    fn keep(&mut self, rest: &[u8]) {
        self.pending.extend_from_slice(rest);
    }

    /// Gives all frames of `data`; returns how many bytes are done with.
    fn frames(
        &mut self,
        framing: &Framing,
        data: &[u8],
        scanned: usize,
        give: &mut impl FnMut(Frame<'_>),
    ) -> Result<usize, Broken> {
        match &framing.kind {
            Kind::Delimiter(finder) => Ok(self.delimited(finder, framing.limit, data, scanned, give)),
            Kind::OctetCount => counted(framing.limit, data, give),
        }
    }

    fn delimited(
        &mut self,
        finder: &Finder<'_>,
        limit: usize,
        data: &[u8],
        scanned: usize,
        give: &mut impl FnMut(Frame<'_>),
    ) -> usize {
        let needle = finder.needle();
        let mut start = 0;
        let mut from = scanned;
        loop {
            let found = match needle {
                [byte] => memchr::memchr(*byte, &data[from..]),
                _ => finder.find(&data[from..]),
            };
            let Some(offset) = found else { break };
            let end = from + offset;
            let message = &data[start..end];
            if self.skipping {
                self.skipping = false;
            } else if message.len() > limit {
                give(Frame::TooLong(message));
            } else {
                give(Frame::Message(message));
            }
            start = end + needle.len();
            from = start;
        }
        // the last bytes may be the start of a delimiter
        let tail = needle.len() - 1;
        let rest = data.len() - start;
        if rest > limit.saturating_add(tail) && !self.skipping {
            give(Frame::TooLong(&data[start..]));
            self.skipping = true;
        }
        if self.skipping {
            start = data.len() - rest.min(tail);
        }
        self.scanned = (data.len() - start).saturating_sub(tail);
        start
    }
}

fn counted(limit: usize, data: &[u8], give: &mut impl FnMut(Frame<'_>)) -> Result<usize, Broken> {
    let mut start = 0;
    loop {
        // some senders end their counted messages with a line end all the same
        let blank = data[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        start += blank;
        let head = &data[start..];
        let digits = head.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let length = head[..digits].iter().fold(0_usize, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if digits > MAX_DIGITS || (digits > 1 && head[0] == b'0') {
            return Err(Broken::Length);
        }
        if length > limit {
            return Err(Broken::TooLong);
        }
        match head.get(digits) {
            None => return Ok(start),
            Some(b' ') if digits > 0 => {}
            Some(_) => return Err(Broken::Length),
        }
        let Some(message) = head.get(digits + 1..digits + 1 + length) else {
            return Ok(start);
        };
        give(Frame::Message(message));
        start += digits + 1 + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(framing: &Framing, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, usize, Option<Broken>) {
        let mut framer = Framer::default();
        let (mut messages, mut long) = (vec![], 0);
        for piece in pieces {
            let outcome = framer.feed(framing, piece, |frame| match frame {
                Frame::Message(message) => messages.push(message.to_vec()),
                Frame::TooLong(_) => long += 1,
            });
            if let Err(why) = outcome {
                return (messages, long, Some(why));
            }
        }
        (messages, long, None)
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        let cases: [(&[u8], Framing); 5] = [
            (b"one\r\n\ntwo\nrest", Framing::delimiter(b"\n", None).unwrap()),
            (b"one\0two\0\0", Framing::delimiter(b"\0", None).unwrap()),
            (b"one||two|x||aaaaaaa||b||", Framing::delimiter(b"||", Some(5)).unwrap()),
            (b"abababcababc", Framing::delimiter(b"ababc", Some(2)).unwrap()),
            (b"3 one\n0 5 t w o1", Framing::octet_count(None)),
        ];
        for (stream, framing) in &cases {
            let whole = run(framing, &[stream]);
            for cut in 0..=stream.len() {
                for second in cut..=stream.len() {
                    let pieces = [&stream[..cut], &stream[cut..second], &stream[second..]];
                    assert_eq!(run(framing, &pieces), whole, "{stream:?} cut at {cut}, {second}");
                }
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(run(framing, &bytes), whole);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_skipped_to_the_next_delimiter() {
        let framing = Framing::delimiter(b"\n", Some(4)).unwrap();
        let (messages, long, _) = run(&framing, &[b"12345\nok\n1234", b"56789", b"0\n1234\nx\n"]);
        assert_eq!(messages, [&b"ok"[..], b"1234", b"x"]);
        assert_eq!(long, 2);
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for (stream, why) in [
            (&b"99999999999999999999 x"[..], Broken::Length),
            (b"-1 x", Broken::Length),
            (b"abc", Broken::Length),
            (b" 5 x", Broken::Length),
            (b"007 x", Broken::Length),
            (b"<13>hello\n", Broken::Length),
            (b"17000000 x", Broken::TooLong),
        ] {
            assert_eq!(run(&Framing::octet_count(None), &[stream]).2, Some(why), "{stream:?}");
        }
    }

    #[test]
    fn memory_stays_bounded() {
        let framing = Framing::delimiter(b"\n", Some(1000)).unwrap();
        let mut framer = Framer::default();
        for _ in 0..10_000 {
            framer.feed(&framing, &[b'x'; 700], |_| {}).unwrap();
            assert!(framer.pending() <= 1001);
        }
    }
}

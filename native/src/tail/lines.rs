//! Lines of a file that grows: where one ends, however the file is cut into reads.
//!
//! A line keeps its end. An unfinished line waits in the [`Splitter`]; a line beyond the limit is skipped up
//! to its end without being kept.

use memchr::memchr;

use crate::framer::HARD_LIMIT;

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eol {
    /// `\n`.
    Byte,
    /// `\n` in an encoding of two bytes a unit (UTF-16), as it is written there.
    Wide([u8; 2]),
}

impl Eol {
    /// Bytes of a unit.
    fn unit(self) -> usize {
        match self {
            Eol::Byte => 1,
            Eol::Wide(_) => 2,
        }
    }

    /// Behind the first end in `data`, which starts with a whole unit.
    #[inline]
    fn find(self, data: &[u8]) -> Option<usize> {
        match self {
            Eol::Byte => memchr(b'\n', data).map(|at| at + 1),
            Eol::Wide(end) => data.chunks_exact(2).position(|unit| unit == end).map(|at| at * 2 + 2),
        }
    }
}

/// How all files of an input are cut.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What ends a line.
    pub eol: Eol,
    /// Longest line in bytes, its end included.
    pub limit: usize,
}

impl Rules {
    /// `limit` None: what no line may exceed anyway.
    #[must_use]
    pub fn new(eol: Eol, limit: Option<usize>) -> Self {
        Rules { eol, limit: limit.unwrap_or(HARD_LIMIT) }
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line with its end.
    Whole(&'a [u8]),
    /// The end of a line that was too long.
    TooLong(&'a [u8]),
}

/// One file's unfinished line.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    /// So many bytes of the unfinished line are gone already.
    skipped: u64,
}

impl Splitter {
    /// Takes what comes next in the file and gives every line that it completes, with its length there.
    #[inline]
    pub fn feed(&mut self, rules: &Rules, data: &[u8], mut give: impl FnMut(Line<'_>, u64)) {
        let mut rest = data;
        let joined;
        if !self.pending.is_empty() && rules.eol == Eol::Byte {
            let Some(end) = rules.eol.find(rest) else { return self.keep(rules, rest) };
            let mut line = std::mem::take(&mut self.pending);
            line.extend_from_slice(&rest[..end]);
            self.line(rules, &line, &mut give);
            rest = &rest[end..];
            if line.capacity() <= 65_536 {
                line.clear();
                self.pending = line;
            }
        } else if !self.pending.is_empty() {
            let mut all = std::mem::take(&mut self.pending);
            all.extend_from_slice(rest);
            joined = all;
            rest = &joined;
        }
        while let Some(end) = rules.eol.find(rest) {
            self.line(rules, &rest[..end], &mut give);
            rest = &rest[end..];
        }
        self.keep(rules, rest);
    }

    #[inline]
    fn line(&mut self, rules: &Rules, line: &[u8], give: &mut impl FnMut(Line<'_>, u64)) {
        let length = self.skipped + line.len() as u64;
        if length > rules.limit as u64 {
            self.skipped = 0;
            give(Line::TooLong(line), length);
        } else {
            give(Line::Whole(line), length);
        }
    }

    fn keep(&mut self, rules: &Rules, rest: &[u8]) {
        self.pending.extend_from_slice(rest);
        if self.skipped > 0 || self.pending.len() > rules.limit {
            // whole units, so that the end of the line is still found where it is
            let gone = self.pending.len() - self.pending.len() % rules.eol.unit();
            self.pending.drain(..gone);
            self.pending.shrink_to_fit();
            // a limit below a unit must not make a line look as if it had just begun
            self.skipped += gone as u64;
        }
    }

    /// Bytes of the unfinished line.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.skipped + self.pending.len() as u64
    }

    /// Whether the unfinished line is too long already.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.skipped > 0
    }

    /// Bytes kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.pending.len()
    }

    /// Ends the file: the unfinished line as far as it is kept.
    pub fn finish(&mut self) -> Vec<u8> {
        self.skipped = 0;
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rules: &Rules, pieces: &[&[u8]]) -> (Vec<(bool, Vec<u8>, u64)>, u64) {
        let (mut splitter, mut found) = (Splitter::default(), vec![]);
        for piece in pieces {
            splitter.feed(rules, piece, |line, length| match line {
                Line::Whole(text) => found.push((true, text.to_vec(), length)),
                Line::TooLong(_) => found.push((false, vec![], length)),
            });
        }
        (found, splitter.unfinished())
    }

    #[test]
    fn any_cut_gives_the_same_lines() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let cases: [(Vec<u8>, Rules); 4] = [
            (b"one\r\n\ntwo\nrest".to_vec(), Rules::new(Eol::Byte, None)),
            (b"12345\n1234\n123456789\nx\n\n123456".to_vec(), Rules::new(Eol::Byte, Some(5))),
            // U+0A00 holds the byte of a line end
            (wide("a\u{a00}b\nc\n\nd"), Rules::new(Eol::Wide([b'\n', 0]), None)),
            (wide("ab\nabcdef\nx"), Rules::new(Eol::Wide([b'\n', 0]), Some(6))),
        ];
        for (stream, rules) in &cases {
            let whole = run(rules, &[stream]);
            assert!(whole.0.len() >= 2);
            for cut in 0..=stream.len() {
                for second in cut..=stream.len() {
                    let pieces = [&stream[..cut], &stream[cut..second], &stream[second..]];
                    assert_eq!(run(rules, &pieces), whole, "{stream:?} cut at {cut}, {second}");
                }
            }
        }
    }

    #[test]
    fn lines_beyond_the_limit_are_skipped_and_counted() {
        let rules = Rules::new(Eol::Byte, Some(4));
        let (found, rest) = run(&rules, &[b"1234\n123\n", b"12345", b"6789\nx\n12345"]);
        let shown: Vec<_> = found.iter().map(|(whole, _, length)| (*whole, *length)).collect();
        assert_eq!(shown, [(false, 5), (true, 4), (false, 10), (true, 2)]);
        assert_eq!(rest, 5);
    }

    #[test]
    fn memory_stays_bounded() {
        let rules = Rules::new(Eol::Byte, Some(1000));
        let mut splitter = Splitter::default();
        for _ in 0..10_000 {
            splitter.feed(&rules, &[b'x'; 700], |_, _| {});
            assert!(splitter.kept() <= 1000);
        }
        assert_eq!(splitter.unfinished(), 7_000_000);
    }
}

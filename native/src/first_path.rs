//! Regular expressions whose first path is the match: one walk over the text, no going back.
//!
//! A backtracking engine tries its choices in a fixed order: the longest run first (`+`), the shortest first
//! (`+?`), alternatives from the left. If the very first path through all these choices reaches the end of the
//! pattern, it is the match, by definition. For log formats (`(?<user>\S+) \[(?<time>[^\]]+)\] "...`) that is
//! nearly every line, and the walk is a few block compares per field, where a JIT still goes byte by byte.
//!
//! [`Path::walk`] therefore has three answers: it matched; no path at all starts there; or the first path fails
//! and another might not, and then [`crate::pcre`] has to look. "No path at all" is only said where every choice
//! on the way was none: a run is certain when what stands behind it can begin with nothing that the run takes.
//!
//! Compiled from Ruby source by [`compile`], which knows a part of the language (literals, ASCII classes, runs,
//! groups, alternatives, optional groups, `^ $ \A \z`) and gives None for everything else.
//!
//! Bytes and characters: a class over ASCII, or the complement of one, takes the same text byte by byte as
//! character by character as long as its runs have no upper limit; [`Path::counts_bytes`] says where that does
//! not hold, and then the path is not for texts beyond ASCII.

mod compile;
mod scan;

pub use compile::compile;
use scan::{Blocks, Bytes, Class};

/// Positions without a value, as in PCRE2's ovector.
const UNSET: usize = usize::MAX;

/// A compiled pattern.
#[derive(Debug)]
pub struct Path {
    nodes: Vec<Node>,
    /// Capturing groups, without the whole match.
    captures: usize,
    /// What stands at its start.
    start: Start,
    /// A run has an upper limit and may take more than ASCII.
    counts_bytes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// `\A`
    Text,
    /// `^`
    Line,
    /// Nothing: a match may start anywhere.
    Anywhere,
}

#[derive(Debug)]
enum Node {
    /// A run of a class, and the text behind it.
    Run(Run),
    Literal(Literal),
    /// A group that holds more than one run begins, or ends.
    Open(usize),
    Close(usize),
    /// `$`: the end of a line.
    LineEnd,
    /// `\z`
    TextEnd,
    /// The first alternative that matches; `groups` are those inside.
    Either {
        alternatives: Vec<Vec<Node>>,
        groups: (usize, usize),
    },
}

#[derive(Debug)]
struct Run {
    class: Class,
    min: usize,
    max: usize,
    /// `+?`, `*?`: ends before the first such byte.
    before: Option<u8>,
    /// 0: not captured.
    group: usize,
    /// What stands behind it cannot begin with what it takes: giving bytes back would not help.
    certain: bool,
    /// What must follow; perhaps nothing.
    behind: Literal,
}

/// Up to eight bytes, and a mask of those that count.
#[derive(Debug, Default, Clone, Copy)]
struct Literal {
    bytes: u64,
    mask: u64,
    len: usize,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// The match; the groups say where.
    Match,
    /// No path leads anywhere.
    No,
    /// The first path fails, another might not.
    Unknown,
}

/// The loop's own answers.
enum Step {
    To(usize),
    No,
    Unknown,
}

impl Path {
    /// Number of capturing groups.
    #[must_use]
    pub fn captures(&self) -> usize {
        self.captures
    }

    /// Whether texts beyond ASCII are not for it.
    #[must_use]
    pub fn counts_bytes(&self) -> bool {
        self.counts_bytes
    }

    /// Walks `text` from its start. `groups` has two words for the whole match and each group, and is filled as
    /// PCRE2 does it; after another answer than `Match` it holds anything.
    #[inline]
    pub fn walk(&self, text: &[u8], groups: &mut [usize]) -> Walk {
        groups.fill(UNSET);
        match walk(&self.nodes, text, 0, groups) {
            Step::To(end) => {
                groups[0] = 0;
                groups[1] = end;
                Walk::Match
            }
            Step::Unknown => Walk::Unknown,
            Step::No => match self.start {
                Start::Text => Walk::No,
                // another line may match
                Start::Line if memchr::memchr(b'\n', text).is_none() => Walk::No,
                Start::Line | Start::Anywhere => Walk::Unknown,
            },
        }
    }
}

fn walk(nodes: &[Node], text: &[u8], pos: usize, groups: &mut [usize]) -> Step {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        return unsafe { walk_avx2(nodes, text, pos, groups) };
    }
    walk_by::<Bytes>(nodes, text, pos, groups)
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn walk_avx2(nodes: &[Node], text: &[u8], pos: usize, groups: &mut [usize]) -> Step {
    walk_by::<scan::Avx2>(nodes, text, pos, groups)
}

#[inline(always)]
fn walk_by<B: Blocks>(nodes: &[Node], text: &[u8], mut pos: usize, groups: &mut [usize]) -> Step {
    // false: another choice was possible on the way here
    let mut certain = true;
    for node in nodes {
        match node {
            Node::Run(run) => {
                let Some(end) = run.take::<B>(text, pos) else { return failed(certain) };
                certain &= run.certain || (run.before.is_none() && end - pos == run.min);
                if run.group > 0 {
                    groups[2 * run.group] = pos;
                    groups[2 * run.group + 1] = end;
                }
                if !run.behind.is_at(text, end) {
                    return failed(certain);
                }
                pos = end + run.behind.len;
            }
            Node::Literal(literal) => {
                if !literal.is_at(text, pos) {
                    return failed(certain);
                }
                pos += literal.len;
            }
            Node::Open(group) => groups[2 * group] = pos,
            Node::Close(group) => groups[2 * group + 1] = pos,
            Node::LineEnd => {
                if pos < text.len() && text[pos] != b'\n' {
                    return failed(certain);
                }
            }
            Node::TextEnd => {
                if pos < text.len() {
                    return failed(certain);
                }
            }
            Node::Either { alternatives, groups: inside } => {
                let mut taken = None;
                for (index, alternative) in alternatives.iter().enumerate() {
                    match walk(alternative, text, pos, groups) {
                        Step::To(end) => {
                            taken = Some((index, end));
                            break;
                        }
                        Step::Unknown => return Step::Unknown,
                        Step::No => groups[2 * inside.0..2 * inside.1].fill(UNSET),
                    }
                }
                let Some((index, end)) = taken else { return failed(certain) };
                // an alternative has choices of its own; only nothing, as the last one, has none
                certain &= index + 1 == alternatives.len() && alternatives[index].is_empty();
                pos = end;
            }
        }
    }
    Step::To(pos)
}

#[inline]
fn failed(certain: bool) -> Step {
    if certain { Step::No } else { Step::Unknown }
}

impl Literal {
    const MOST: usize = 8;

    /// Whether `text` goes on with it at `pos`, which is at most the text's length.
    #[inline(always)]
    fn is_at(&self, text: &[u8], pos: usize) -> bool {
        if let Some(block) = text.get(pos..pos + Self::MOST).and_then(|block| block.try_into().ok()) {
            return u64::from_le_bytes(block) & self.mask == self.bytes;
        }
        let rest = &text[pos..];
        let equal =
            rest.iter().zip(self.bytes.to_le_bytes()).take(self.len).filter(|(one, other)| **one == *other);
        equal.count() == self.len
    }
}

impl Run {
    /// The end of the run that the first path takes from `pos` on; None: too short.
    #[inline(always)]
    fn take<B: Blocks>(&self, text: &[u8], pos: usize) -> Option<usize> {
        let mut end = match self.before {
            None => self.class.end::<B>(text, pos),
            Some(byte) => self.shortest::<B>(text, pos, byte)?,
        };
        if self.max != usize::MAX {
            end = end.min(pos.saturating_add(self.max));
        }
        (end - pos >= self.min).then_some(end)
    }

    /// The shortest run: up to the first byte with which the rest can begin.
    fn shortest<B: Blocks>(&self, text: &[u8], pos: usize, byte: u8) -> Option<usize> {
        let start = (pos + self.min).min(text.len());
        let found = start + memchr::memchr(byte, &text[start..])?;
        (self.class.end::<B>(&text[..found], pos) == found).then_some(found)
    }
}

#[cfg(test)]
pub(crate) mod tests;

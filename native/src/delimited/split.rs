//! Ruby's `String#split`.

use memchr::memmem::Finder;

use crate::parser::Mismatch;
use crate::pcre::{Matcher, Regexp, Script};

/// What stands between parts.
pub enum Delimiter {
    /// Runs of white space; what is at the start of the text does not count.
    Space,
    /// One byte.
    Byte(u8),
    /// Several.
    Text(Box<Finder<'static>>),
}

/// A part: start and end.
type Range = (usize, usize);

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

impl Delimiter {
    /// None: an empty one.
    pub fn new(text: &[u8]) -> Option<Self> {
        match text {
            [] => None,
            b" " => Some(Delimiter::Space),
            [byte] => Some(Delimiter::Byte(*byte)),
            _ => Some(Delimiter::Text(Box::new(Finder::new(text).into_owned()))),
        }
    }

    /// Calls `part` with start and end of every part. `limit`: the last of so many parts is all the rest.
    pub fn split(&self, text: &[u8], limit: Option<usize>, mut part: impl FnMut(usize, usize)) {
        let mut at = self.skip(text, 0);
        let mut count = 1;
        while at < text.len() || (count > 1 && !matches!(self, Delimiter::Space)) {
            let next = if Some(count) == limit { None } else { self.find(text, at) };
            let Some((end, after)) = next else {
                part(at, text.len());
                return;
            };
            part(at, end);
            at = after;
            count += 1;
        }
    }

    /// `split(delimiter, 2)`, where there are two parts.
    pub fn halves(&self, text: &[u8]) -> Option<(Range, Range)> {
        let start = self.skip(text, 0);
        let (end, after) = self.find(text, start)?;
        Some(((start, end), (after, text.len())))
    }

    fn find(&self, text: &[u8], at: usize) -> Option<Range> {
        match self {
            Delimiter::Space => {
                let end = at + text[at..].iter().position(|byte| is_space(*byte))?;
                Some((end, self.skip(text, end)))
            }
            Delimiter::Byte(byte) => {
                let end = at + memchr::memchr(*byte, &text[at..])?;
                Some((end, end + 1))
            }
            Delimiter::Text(finder) => {
                let end = at + finder.find(&text[at..])?;
                Some((end, end + finder.needle().len()))
            }
        }
    }

    fn skip(&self, text: &[u8], at: usize) -> usize {
        match self {
            Delimiter::Space => at + text[at..].iter().take_while(|byte| is_space(**byte)).count(),
            _ => at,
        }
    }
}

/// Parts between the matches of a pattern; a match of nothing parts two characters.
///
/// # Errors
/// `MatchLimit` where a search was given up.
pub fn by_pattern(
    text: &[u8],
    pattern: &Regexp,
    matcher: &mut Matcher,
    script: Script,
    mut part: impl FnMut(usize, usize),
) -> Result<(), Mismatch> {
    let mut at = 0;
    let mut from = 0;
    while from < text.len() && matcher.search(pattern, &text[from..], script)? {
        let (start, end) = matcher.span(0).map_or((from, from), |(start, end)| (from + start, from + end));
        if start == end && start == at {
            from = at + 1 + text[at + 1..].iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
            continue;
        }
        if start == text.len() {
            break;
        }
        part(at, start);
        (at, from) = (end, end);
    }
    if at < text.len() {
        part(at, text.len());
    }
    Ok(())
}

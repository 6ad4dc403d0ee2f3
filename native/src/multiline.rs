//! The multiline parser: one pattern over texts of several lines, as often as it matches one behind another.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::extract::{Extractor, ExtractorMemory};
use crate::msgpack::{write_str, write_text};
use crate::options::{Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::Script;
use crate::ruby_regexp::Flags;

/// The field of text that is not matched.
const UNMATCHED: &[u8] = b"unmatched_line";

/// The compiled parser.
pub struct Multiline {
    extractor: Extractor,
    /// Text that is not matched becomes an event of its own.
    unmatched_lines: bool,
    estimate: bool,
}

impl Multiline {
    /// `source`: all formats in a row, without slashes; the dot matches newlines.
    ///
    /// # Errors
    /// The pattern's mistakes.
    pub fn new(source: &str, unmatched_lines: bool, options: &ParseOptions) -> Result<Self, Invalid> {
        let flags = Flags { multiline: true, ..Flags::default() };
        let extractor = Extractor::new(source, flags, options, "format1")?;
        Ok(Multiline { extractor, unmatched_lines, estimate: options.estimate_current_event })
    }
}

impl Parser for Multiline {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(MultilineSession { parser: self, memory: self.extractor.memory() })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        Some(self.extractor.keys().chain([UNMATCHED.to_vec()]).collect())
    }
}

struct MultilineSession<'a> {
    parser: &'a Multiline,
    memory: ExtractorMemory,
}

impl Session for MultilineSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let script = Script::of(text);
        let mut rest = text;
        while !rest.is_empty() || out.items.is_empty() {
            let start = out.fields.len();
            match self.parser.extractor.extract(rest, script, &mut self.memory, out)? {
                Some((pairs, time)) => out.push(start, pairs, time),
                None if self.parser.unmatched_lines => {
                    write_str(&mut out.fields, UNMATCHED);
                    write_text(&mut out.fields, rest, script.is_text());
                    out.push(start, 1, None);
                    return Ok(());
                }
                None if out.items.is_empty() => return Err(Mismatch::NoMatch),
                None => {
                    out.unmatched += 1;
                    return Ok(());
                }
            }
            let end = self.memory.match_end();
            if end == 0 {
                break; // a match of nothing gets nowhere
            }
            rest = &rest[end..];
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        Ok(())
    }
}

/// `multiline_parser(source, unmatched_lines, options) -> CompiledParser`
#[pyfunction]
pub fn multiline_parser(
    source: &str,
    unmatched_lines: bool,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let options = ParseOptions::from_dict(options)?;
    Ok(CompiledParser::new(Multiline::new(source, unmatched_lines, &options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_often_as_it_matches() {
        for (text, unmatched_lines, wanted) in [
            ("a=1\n b", false, "1 pairs 0 unmatched"),
            ("a=1\n b\na=2\n", false, "2 pairs 0 unmatched"),
            ("a=1\nx", false, "1 pairs 1 unmatched"),
            ("a=1\nx", true, "2 pairs 0 unmatched"),
            ("x", false, "NoMatch"),
            ("x", true, "1 pairs 0 unmatched"),
            ("", false, "NoMatch"),
        ] {
            let parser =
                Multiline::new(r"a=(?<a>\d)(?:\n b)?", unmatched_lines, &ParseOptions::default()).unwrap();
            let mut events = Events::default();
            let shown = match parser.session().parse(text.as_bytes(), &mut events) {
                Err(why) => format!("{why:?}"),
                Ok(()) => {
                    let pairs: u32 = events.items.iter().map(|item| item.pairs).sum();
                    format!("{pairs} pairs {} unmatched", events.unmatched)
                }
            };
            assert_eq!(shown, wanted, "{text:?}");
        }
        let nothing = Multiline::new("(?<a>x*)", false, &ParseOptions::default()).unwrap();
        let mut events = Events::default();
        assert_eq!(nothing.session().parse(b"abc", &mut events), Ok(()));
        assert_eq!(events.items.len(), 1);
    }
}

//! The regexp parser: one Ruby pattern with named groups; a match anywhere in the text gives one event.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::extract::{Extractor, ExtractorMemory};
use crate::options::{Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::Script;
use crate::ruby_regexp::{self, Flags};

/// The compiled parser.
pub struct RegexpParser {
    extractor: Extractor,
    estimate: bool,
}

impl RegexpParser {
    /// `expression` as written, slashes and flags included; the two flags take the place of written ones
    /// where either is set, as in Fluentd.
    ///
    /// # Errors
    /// Names the parameter and the mistake.
    pub fn new(
        expression: &str,
        ignorecase: bool,
        multiline: bool,
        options: &ParseOptions,
    ) -> Result<Self, Invalid> {
        let (source, mut flags) = ruby_regexp::split_literal(expression)
            .map_err(|why| Invalid::new("expression", format!("invalid regexp: {why}")))?;
        if ignorecase || multiline {
            flags = Flags { ignorecase, multiline, extended: false };
        }
        let extractor = Extractor::new(source, flags, options, "expression")?;
        Ok(RegexpParser { extractor, estimate: options.estimate_current_event })
    }
}

struct RegexpSession<'a> {
    parser: &'a RegexpParser,
    memory: ExtractorMemory,
}

impl Parser for RegexpParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(RegexpSession { parser: self, memory: self.extractor.memory() })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        Some(self.extractor.keys().collect())
    }
}

impl Session for RegexpSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let start = out.fields.len();
        match self.parser.extractor.extract(text, Script::of(text), &mut self.memory, out)? {
            Some((pairs, time)) => {
                out.push(start, pairs, time);
                Ok(())
            }
            None => Err(Mismatch::NoMatch),
        }
    }
}

/// `regexp_parser(expression, ignorecase, multiline, options) -> CompiledParser`
#[pyfunction]
pub fn regexp_parser(
    expression: &str,
    ignorecase: bool,
    multiline: bool,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let options = ParseOptions::from_dict(options)?;
    Ok(CompiledParser::new(RegexpParser::new(expression, ignorecase, multiline, &options)?))
}

/// `check_regexp(expression)`: raises `ValueError` where Ruby source (or `/source/flags`) does not compile.
#[pyfunction]
pub fn check_regexp(expression: &str) -> PyResult<()> {
    let invalid = |why: String| Invalid::new("expression", why);
    let (source, flags) =
        ruby_regexp::split_literal(expression).map_err(|why| invalid(format!("invalid regexp: {why}")))?;
    crate::extract::compile(source, flags).map_err(invalid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_path::tests::{APACHE, lines};

    #[test]
    #[ignore = "a measurement, not a test"]
    fn speed() {
        let parser = RegexpParser::new(APACHE, false, false, &ParseOptions::default()).unwrap();
        let lines = lines();
        let mut session = parser.session();
        let mut events = Events::default();
        for _ in 0..3 {
            let nanos = (0..60).map(|_| {
                let started = std::time::Instant::now();
                for line in std::hint::black_box(&lines) {
                    events.clear();
                    session.parse(line.as_bytes(), &mut events).unwrap();
                }
                started.elapsed().as_nanos() / lines.len() as u128
            });
            println!("{} ns", nanos.min().unwrap_or(0));
        }
    }
}

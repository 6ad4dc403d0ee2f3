//! The none parser: the whole text as one field.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::msgpack::{write_str, write_text};
use crate::options::ParseOptions;
use crate::parser::{Events, Mismatch, OtherValues, Parser, Session};

/// The compiled parser. Only `estimate_current_event` of the common parameters counts, as in Fluentd.
pub struct NoneParser {
    key: Vec<u8>,
    estimate: bool,
}

impl NoneParser {
    /// `message_key` is the field's name.
    #[must_use]
    pub fn new(message_key: &str, options: &ParseOptions) -> Self {
        let mut key = Vec::new();
        write_str(&mut key, message_key.as_bytes());
        NoneParser { key, estimate: options.estimate_current_event }
    }
}

impl Parser for NoneParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(NoneSession { key: &self.key })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }

    fn other_values(&self) -> OtherValues {
        OtherValues::Field(self.key.clone())
    }
}

struct NoneSession<'a> {
    key: &'a [u8],
}

impl Session for NoneSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let start = out.fields.len();
        out.fields.extend_from_slice(self.key);
        write_text(&mut out.fields, text, false);
        out.push(start, 1, None);
        Ok(())
    }
}

/// `none_parser(message_key, options) -> CompiledParser`
#[pyfunction]
pub fn none_parser(message_key: &str, options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(NoneParser::new(message_key, &ParseOptions::from_dict(options)?)))
}

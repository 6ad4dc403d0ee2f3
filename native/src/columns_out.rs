//! The compiled formatters of delimited text and MessagePack: ltsv, tsv, csv, msgpack.
//!
//! Values are written as Ruby's `to_s` prints them.

use std::sync::Arc;

use memchr::memmem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::accessor::Accessor;
use crate::compiled::{CompiledFormatter, Event, Formatter, Lines};
use crate::msgpack::{Malformed, skip_value, write_map_header};
use crate::ruby_inspect;

/// Where the record's pairs end.
fn end_of(event: &Event<'_>) -> Result<usize, Malformed> {
    let mut pos = event.pos;
    for _ in 0..event.pairs {
        skip_value(event.data, &mut pos)?;
        skip_value(event.data, &mut pos)?;
    }
    Ok(pos)
}

/// `ltsv`: every field as label and value.
#[derive(Clone)]
pub struct Ltsv {
    delimiter: Arc<[u8]>,
    label_delimiter: Arc<[u8]>,
    /// What stands in a value in place of the delimiter.
    replacement: Arc<[u8]>,
    newline: Arc<[u8]>,
    scratch: Vec<u8>,
}

impl Formatter for Ltsv {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for Ltsv {
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let mut pos = event.pos;
        for index in 0..event.pairs {
            if index > 0 {
                out.extend_from_slice(&self.delimiter);
            }
            ruby_inspect::write_to_s(out, event.data, &mut pos)?;
            out.extend_from_slice(&self.label_delimiter);
            let value = out.len();
            ruby_inspect::write_to_s(out, event.data, &mut pos)?;
            if !self.delimiter.is_empty() && memmem::find(&out[value..], &self.delimiter).is_some() {
                self.scratch.clear();
                self.scratch.extend_from_slice(&out[value..]);
                out.truncate(value);
                replace(&self.scratch, &self.delimiter, &self.replacement, out);
            }
        }
        out.extend_from_slice(&self.newline);
        Ok(pos)
    }
}

fn replace(text: &[u8], what: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    for at in memmem::find_iter(text, what) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(by);
        from = at + what.len();
    }
    out.extend_from_slice(&text[from..]);
}

/// `tsv` and `csv`: chosen fields in order.
#[derive(Clone)]
pub struct Columns {
    fields: Arc<[Accessor]>,
    delimiter: Arc<[u8]>,
    newline: Arc<[u8]>,
    quotes: Quotes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Values as they are.
    Never,
    /// Where a value needs them, and around empty text.
    Needed,
    /// Around everything, what is missing too.
    Always,
}

impl Formatter for Columns {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for Columns {
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let end = end_of(event)?;
        let body = &event.data[event.pos..end];
        for (index, field) in self.fields.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(&self.delimiter);
            }
            let value = field.get(body, event.pairs).filter(|value| *value != [0xc0]);
            let start = out.len();
            if let Some(value) = value {
                ruby_inspect::write_to_s(out, value, &mut 0)?;
            }
            let quoted = match self.quotes {
                Quotes::Never => false,
                Quotes::Always => true,
                Quotes::Needed => value.is_some() && self.needs_quotes(&out[start..]),
            };
            if quoted {
                let text = out.split_off(start);
                out.push(b'"');
                replace(&text, b"\"", b"\"\"", out);
                out.push(b'"');
            }
        }
        out.extend_from_slice(&self.newline);
        Ok(end)
    }
}

impl Columns {
    /// Ruby's rule: quotes, line ends and any character of the delimiter.
    fn needs_quotes(&self, text: &[u8]) -> bool {
        text.is_empty()
            || text.iter().any(|byte| matches!(byte, b'"' | b'\r' | b'\n') || self.delimiter.contains(byte))
    }
}

/// `msgpack`: the record's map.
#[derive(Clone)]
pub struct MessagePack;

impl Formatter for MessagePack {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for MessagePack {
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let end = end_of(event)?;
        write_map_header(out, event.pairs);
        out.extend_from_slice(&event.data[event.pos..end]);
        Ok(end)
    }
}

fn accessors(fields: &[String]) -> PyResult<Arc<[Accessor]>> {
    fields.iter().map(|field| Accessor::new(field).map_err(PyValueError::new_err)).collect()
}

/// `ltsv_formatter(delimiter, label_delimiter, replacement, newline)`
#[pyfunction]
pub fn ltsv_formatter(
    delimiter: &str,
    label_delimiter: &str,
    replacement: &str,
    newline: &str,
) -> CompiledFormatter {
    let bytes = |text: &str| text.as_bytes().into();
    CompiledFormatter::new(Ltsv {
        delimiter: bytes(delimiter),
        label_delimiter: bytes(label_delimiter),
        replacement: bytes(replacement),
        newline: bytes(newline),
        scratch: Vec::new(),
    })
}

/// `tsv_formatter(keys, delimiter, newline)`: keys are names, never paths.
#[pyfunction]
pub fn tsv_formatter(keys: Vec<String>, delimiter: &str, newline: &str) -> CompiledFormatter {
    let steps = |key: &String| Accessor::from_steps(vec![crate::accessor::Step::Key(key.as_bytes().into())]);
    CompiledFormatter::new(Columns {
        fields: keys.iter().map(steps).collect(),
        delimiter: delimiter.as_bytes().into(),
        newline: newline.as_bytes().into(),
        quotes: Quotes::Never,
    })
}

/// `csv_formatter(fields, delimiter, force_quotes, newline)`: fields are names or record accessors.
///
/// # Errors
/// `ValueError` for an accessor that cannot be read.
#[pyfunction]
pub fn csv_formatter(
    fields: Vec<String>,
    delimiter: &str,
    force_quotes: bool,
    newline: &str,
) -> PyResult<CompiledFormatter> {
    Ok(CompiledFormatter::new(Columns {
        fields: accessors(&fields)?,
        delimiter: delimiter.as_bytes().into(),
        newline: newline.as_bytes().into(),
        quotes: if force_quotes { Quotes::Always } else { Quotes::Needed },
    }))
}

/// `msgpack_formatter()`
#[pyfunction]
pub fn msgpack_formatter() -> CompiledFormatter {
    CompiledFormatter::new(MessagePack)
}

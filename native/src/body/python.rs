//! Bodies as Python sees them.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::stream::Sequence;
use super::{Form, Given, Refused, Rule, TagField, TimeField, decode_form};
use crate::compiled::CompiledParser;
use crate::forward::inflate;
use crate::intake::Intake;
use crate::options::{Invalid, ParseOptions};
use crate::python::python_to_value;
use crate::sockaddr::now_ns;
use crate::time::TimeParser;

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> PyErr {
        PyValueError::new_err((refused.detail, refused.reason))
    }
}

/// Reads the bodies of an input's requests.
#[pyclass(frozen, module = "forwarder._native")]
pub struct BodyReader {
    rule: Rule,
}

#[pymethods]
impl BodyReader {
    /// `BodyReader(parser, *, time_key=None, keep_time_key=False, time=None, tag_key=None,
    /// keep_tag_key=False, tag_prefix="")`; `time`: how the time field is written, as
    /// `CommonParser.options()` gives it; None: a number of seconds.
    #[new]
    #[pyo3(signature = (
        parser, *, time_key = None, keep_time_key = false, time = None, tag_key = None,
        keep_tag_key = false, tag_prefix = String::new()
    ))]
    fn new(
        parser: &CompiledParser,
        time_key: Option<String>,
        keep_time_key: bool,
        time: Option<&Bound<'_, PyDict>>,
        tag_key: Option<String>,
        keep_tag_key: bool,
        tag_prefix: String,
    ) -> PyResult<Self> {
        let written = match time {
            Some(options) => {
                let options = ParseOptions::from_dict(options)?;
                let made = TimeParser::new(&options.time);
                Some(made.map_err(|why| Invalid::new("time_format", why))?)
            }
            None => None,
        };
        let time =
            time_key.map(|key| TimeField { key: key.into_bytes(), keep: keep_time_key, parser: written });
        let tag =
            tag_key.map(|key| TagField { key: key.into_bytes(), keep: keep_tag_key, prefix: tag_prefix });
        Ok(BodyReader { rule: Rule { parser: Arc::clone(&parser.inner), time, tag } })
    }

    /// `feed(sequence, data, tag, last) -> (Intake, used)`: the events of what is complete in a stream's data,
    /// and how many bytes that was.
    fn feed(
        &self,
        py: Python<'_>,
        sequence: &str,
        data: &[u8],
        tag: Option<&str>,
        last: bool,
    ) -> PyResult<(Intake, usize)> {
        let sequence = match sequence {
            "lines" => Sequence::Lines,
            "json" => Sequence::Json,
            "msgpack" => Sequence::MsgPack,
            "whole" => Sequence::Whole,
            _ => {
                let why = format!("{sequence:?} is none of lines, json, msgpack, whole");
                return Err(PyValueError::new_err(why));
            }
        };
        let given = Given { tag, time_ns: None, now_ns: now_ns(), added: (&[], 0) };
        let (taken, used) = py.detach(|| self.rule.feed(sequence, data, last, &given));
        Ok((Intake::new(py, taken, 0)?, used))
    }

    /// `read(form, body, tag, time_ns=None, added=None) -> Intake`: the events of a body, and what in it was
    /// no record. `ValueError(message, reason)`: the body is refused as a whole.
    #[pyo3(signature = (form, body, tag, time_ns = None, added = None))]
    fn read(
        &self,
        py: Python<'_>,
        form: &str,
        body: &[u8],
        tag: &str,
        time_ns: Option<i64>,
        added: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Intake> {
        let form = match form {
            "text" => Form::Text,
            "lines" => Form::Lines,
            "msgpack" => Form::MsgPack,
            _ => return Err(PyValueError::new_err(format!("{form:?} is none of text, lines, msgpack"))),
        };
        let mut pairs = Vec::new();
        let mut count = 0;
        if let Some(added) = added {
            count = added.len();
            for (key, value) in added {
                python_to_value(&mut pairs, &key, 1)?;
                python_to_value(&mut pairs, &value, 1)?;
            }
        }
        let given = Given { tag: Some(tag), time_ns, now_ns: now_ns(), added: (&pairs, count) };
        let taken = py.detach(|| self.rule.read(form, body, &given))?;
        Intake::new(py, taken, 0)
    }
}

/// `form_fields(text, most) -> [(name, value), ...]`: fields of a form or a query, decoded.
/// `ValueError(message, reason)`: there are more than `most`.
#[pyfunction]
pub fn form_fields<'py>(
    py: Python<'py>,
    text: &[u8],
    most: usize,
) -> PyResult<Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
    let fields = py.detach(|| decode_form(text, most))?;
    Ok(fields.iter().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))).collect())
}

/// `inflate(method, data, limit) -> bytes`: what was compressed by "gzip", "deflate" or "zstd".
/// `ValueError(message, reason)`: it is broken, or longer than `limit`.
#[pyfunction(name = "inflate")]
pub fn inflate_bytes<'py>(
    py: Python<'py>,
    method: &str,
    data: &[u8],
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match py.detach(|| inflate::inflate(method.as_bytes(), data, limit)) {
        Ok(out) => Ok(PyBytes::new(py, &out)),
        Err(why) => Err(PyValueError::new_err((why.to_string(), why.reason()))),
    }
}

//! `CompiledParser`: a native parser as Python holds it and hands it to native inputs and filters.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::event::{Batch, EventBatch, text_bytes};
use crate::parser::{Events, Parser};
use crate::python::pairs_to_python;

/// A parser whose per-event work is native. Made by the `*_parser` functions.
#[pyclass(frozen, module = "forwarder._native")]
pub struct CompiledParser {
    /// The parser itself.
    pub inner: Arc<dyn Parser>,
}

impl CompiledParser {
    /// Wraps a kernel.
    pub fn new(parser: impl Parser + 'static) -> Self {
        CompiledParser { inner: Arc::new(parser) }
    }
}

#[pymethods]
impl CompiledParser {
    /// `parse(text) -> [(time_ns | None, record), ...]`, or the reason (a `str`) why nothing matched.
    fn parse<'py>(&self, py: Python<'py>, text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let text = text_bytes(text)?;
        let mut events = Events::default();
        let outcome = py.detach(|| self.inner.session().parse(&text, &mut events));
        if let Err(why) = outcome {
            return Ok(why.reason().into_pyobject(py)?.into_any());
        }
        let list = PyList::empty(py);
        for item in &events.items {
            let record = pairs_to_python(py, &events.fields[item.start..item.end], item.pairs as usize)?;
            let pair: Bound<'py, PyTuple> = (item.time_ns, record).into_pyobject(py)?;
            list.append(pair)?;
        }
        Ok(list.into_any())
    }
}

/// A compiled formatter: a batch's events to bytes.
pub trait Formatter: Send + Sync {
    /// Appends all events of `batch` to `out`.
    fn format(&self, batch: &Batch, out: &mut Vec<u8>);
}

/// A formatter whose per-event work is native. Made by the `*_formatter` functions.
#[pyclass(frozen, module = "forwarder._native")]
pub struct CompiledFormatter {
    /// The formatter itself.
    pub inner: Arc<dyn Formatter>,
}

impl CompiledFormatter {
    /// Wraps a kernel.
    pub fn new(formatter: impl Formatter + 'static) -> Self {
        CompiledFormatter { inner: Arc::new(formatter) }
    }
}

#[pymethods]
impl CompiledFormatter {
    /// `format(batch) -> bytes`
    fn format<'py>(&self, py: Python<'py>, batch: &EventBatch) -> Bound<'py, PyBytes> {
        let out = py.detach(|| {
            let mut out = Vec::with_capacity(batch.batch.data.len() * 5 / 4 + 64);
            self.inner.format(&batch.batch, &mut out);
            out
        });
        PyBytes::new(py, &out)
    }
}

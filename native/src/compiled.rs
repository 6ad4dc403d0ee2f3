//! `CompiledParser`: a native parser as Python holds it and hands it to native inputs and filters.

use std::cell::Cell;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::event::{Batch, EventBatch, text_bytes};
use crate::formatters::read_event;
use crate::msgpack::Malformed;
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

/// One event on its way through a formatter.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The run of entries that the event is part of.
    pub data: &'a [u8],
    /// Where the record's first pair starts in `data`.
    pub pos: usize,
    /// How many pairs the record has.
    pub pairs: usize,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
}

/// A compiled formatter: options, no mutable state.
pub trait Formatter: Send + Sync {
    /// Opens working memory for one caller.
    fn lines(&self) -> Box<dyn Lines + '_>;

    /// Appends all events of `batch` to `out`. Entries of a batch were checked when it was made; should
    /// one be malformed all the same, the rest of its run is left out and never written in part.
    fn format(&self, batch: &Batch, out: &mut Vec<u8>) {
        let mut lines = self.lines();
        for (run, data) in batch.iter_runs() {
            let tag = &*batch.tags[run.tag as usize];
            let mut pos = 0;
            while pos < data.len() {
                let start = out.len();
                match read_event(data, pos).and_then(|event| lines.write(out, tag, &event)) {
                    Ok(next) => pos = next,
                    Err(_) => {
                        out.truncate(start);
                        break;
                    }
                }
            }
        }
    }
}

/// One caller's use of a [`Formatter`].
pub trait Lines {
    /// Appends one event's text; gives the position behind the event in `event.data`.
    ///
    /// # Errors
    /// [`Malformed`]; `out` may then hold a part.
    fn write(&mut self, out: &mut Vec<u8>, tag: &str, event: &Event<'_>) -> Result<usize, Malformed>;
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

thread_local! {
    /// Formatted text before it becomes a `bytes` of exactly its size: memory that stays warm from batch
    /// to batch, so that new pages are touched once and not twice.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than this is not kept between batches.
const SCRATCH_MAX: usize = 1 << 20;

#[pymethods]
impl CompiledFormatter {
    /// `format(batch) -> bytes`
    fn format<'py>(&self, py: Python<'py>, batch: &EventBatch) -> Bound<'py, PyBytes> {
        let mut out = SCRATCH.take();
        out.clear();
        py.detach(|| {
            out.reserve(batch.batch.data.len() * 5 / 4 + 64);
            self.inner.format(&batch.batch, &mut out);
        });
        let bytes = PyBytes::new(py, &out);
        if out.capacity() <= SCRATCH_MAX {
            SCRATCH.set(out);
        }
        bytes
    }
}

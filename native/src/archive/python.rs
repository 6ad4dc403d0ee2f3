//! The reader as Python sees it.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Failure, Layout, Reader};
use crate::event::EventBatch;

/// Reads the lines of one archived object.
#[pyclass(frozen, module = "forwarder._native")]
pub struct ArchiveReader {
    reader: Mutex<Reader>,
}

impl ArchiveReader {
    fn with<T>(&self, work: impl FnOnce(&mut Reader) -> T) -> T {
        work(&mut self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl ArchiveReader {
    /// See `Reader::new`.
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    #[new]
    #[pyo3(signature = (*, time_key, tag_key, keep_keys = false, default_tag = None, time_format = None,
                        zone = None, from_ns = None, to_ns = None, grep = vec![], skip = 0))]
    fn new(
        time_key: String,
        tag_key: String,
        keep_keys: bool,
        default_tag: Option<String>,
        time_format: Option<&str>,
        zone: Option<&str>,
        from_ns: Option<i64>,
        to_ns: Option<i64>,
        grep: Vec<String>,
        skip: usize,
    ) -> PyResult<Self> {
        let layout = Layout { time_key, tag_key, keep_keys, default_tag, from_ns, to_ns };
        let reader = Reader::new(layout, time_format, zone, &grep, skip).map_err(PyValueError::new_err)?;
        Ok(ArchiveReader { reader: Mutex::new(reader) })
    }

    /// `feed(data) -> EventBatch`.
    fn feed(&self, py: Python<'_>, data: &[u8]) -> EventBatch {
        py.detach(|| self.with(|reader| reader.feed(data))).into()
    }

    /// `finish() -> EventBatch`.
    fn finish(&self, py: Python<'_>) -> EventBatch {
        py.detach(|| self.with(Reader::finish)).into()
    }

    #[getter]
    fn lines(&self) -> usize {
        self.with(|reader| reader.lines)
    }

    #[getter]
    fn outside(&self) -> usize {
        self.with(|reader| reader.outside)
    }

    #[getter]
    fn unmatched(&self) -> usize {
        self.with(|reader| reader.unmatched)
    }

    #[getter]
    fn whole_seconds(&self) -> usize {
        self.with(|reader| reader.whole_seconds)
    }

    #[getter]
    fn failures(&self, py: Python<'_>) -> Vec<(&'static str, usize, usize, Py<PyBytes>)> {
        self.with(|reader| {
            let sample = |one: &Failure| PyBytes::new(py, &one.sample).unbind();
            reader.failures.iter().map(|one| (one.reason, one.count, one.line, sample(one))).collect()
        })
    }
}

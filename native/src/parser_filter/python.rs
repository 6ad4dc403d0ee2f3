//! The parser filter as Python sees it.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{FilterOptions, apply};
use crate::accessor::Accessor;
use crate::compiled::CompiledParser;
use crate::event::EventBatch;
use crate::parser::Parser;

/// Runs a parser over one field of every event.
#[pyclass(frozen, module = "forwarder._native")]
pub struct ParserFilter {
    parser: Arc<dyn Parser>,
    options: FilterOptions,
}

#[pymethods]
impl ParserFilter {
    #[new]
    #[pyo3(signature = (
        parser, key_name, *, reserve_data = false, reserve_time = false, remove_key_name_field = false,
        inject_key_prefix = None, replace_invalid_sequence = false, hash_value_field = None,
        keep_failed = true
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn new(
        parser: &CompiledParser,
        key_name: &str,
        reserve_data: bool,
        reserve_time: bool,
        remove_key_name_field: bool,
        inject_key_prefix: Option<String>,
        replace_invalid_sequence: bool,
        hash_value_field: Option<String>,
        keep_failed: bool,
    ) -> PyResult<Self> {
        let key = Accessor::new(key_name).map_err(PyValueError::new_err)?;
        Ok(ParserFilter {
            parser: Arc::clone(&parser.inner),
            options: FilterOptions {
                key,
                reserve_data,
                reserve_time,
                remove_key: remove_key_name_field,
                prefix: inject_key_prefix,
                replace_invalid: replace_invalid_sequence,
                hash_field: hash_value_field,
                keep_failed,
            },
        })
    }

    /// The events that go on, and those that failed.
    fn apply(&self, py: Python<'_>, batch: &EventBatch) -> PyResult<ParserFilterResult> {
        let outcome = py.detach(|| apply(&*self.parser, &self.options, &batch.batch));
        let failures = outcome
            .failures
            .into_iter()
            .map(|failure| {
                let events = Py::new(py, EventBatch::from(failure.events))?;
                let sample = PyBytes::new(py, &failure.sample).unbind();
                Ok((failure.reason, failure.count, events, sample))
            })
            .collect::<PyResult<_>>()?;
        Ok(ParserFilterResult { good: Py::new(py, EventBatch::from(outcome.good))?, failures })
    }
}

/// What [`ParserFilter::apply`] made of a batch.
#[pyclass(frozen, get_all, module = "forwarder._native")]
pub struct ParserFilterResult {
    /// The events that go on.
    pub good: Py<EventBatch>,
    /// (reason, count, the events, start of the first text that failed), one per reason.
    pub failures: Vec<(&'static str, usize, Py<EventBatch>, Py<PyBytes>)>,
}

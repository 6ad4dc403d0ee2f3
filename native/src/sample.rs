//! Sample events: the same records again and again, with a counter where it is asked for.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::event::{Batch, EventBatch};
use crate::intake::lock;
use crate::msgpack;
use crate::python::python_to_value;
use crate::sockaddr::now_ns;

struct Record {
    pairs: usize,
    before: Vec<u8>,
    /// What follows the counter's value; the counter stands in the place of a field of its name.
    after: Vec<u8>,
}

struct State {
    next: usize,
    counter: u64,
}

/// Gives sample events.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Sampler {
    tag: Arc<str>,
    records: Vec<Record>,
    counted: bool,
    state: Mutex<State>,
}

#[pymethods]
impl Sampler {
    #[new]
    #[pyo3(signature = (tag, records, auto_increment_key = None, counter = 0))]
    fn new(
        tag: &str,
        records: Vec<Bound<'_, PyDict>>,
        auto_increment_key: Option<&str>,
        counter: u64,
    ) -> PyResult<Self> {
        if records.is_empty() {
            return Err(PyValueError::new_err("at least one record is needed"));
        }
        let records = records.iter().map(|record| encode(record, auto_increment_key));
        Ok(Sampler {
            tag: tag.into(),
            records: records.collect::<PyResult<_>>()?,
            counted: auto_increment_key.is_some(),
            state: Mutex::new(State { next: 0, counter }),
        })
    }

    /// The counter's next value.
    #[getter]
    fn counter(&self) -> u64 {
        lock(&self.state).counter
    }

    /// `take(count) -> EventBatch`: the next events, all of this moment.
    fn take(&self, py: Python<'_>, count: usize) -> EventBatch {
        py.detach(|| self.batch(count)).into()
    }
}

fn encode(record: &Bound<'_, PyDict>, counter_key: Option<&str>) -> PyResult<Record> {
    let mut made = Record { pairs: record.len(), before: Vec::new(), after: Vec::new() };
    let mut passed = false;
    for (key, value) in record {
        let name: String =
            key.extract().map_err(|_| PyTypeError::new_err("the keys of a record are strings"))?;
        let out = if passed { &mut made.after } else { &mut made.before };
        msgpack::write_str(out, name.as_bytes());
        if counter_key == Some(name.as_str()) {
            passed = true;
        } else {
            python_to_value(out, &value, 1)?;
        }
    }
    if let (Some(key), false) = (counter_key, passed) {
        msgpack::write_str(&mut made.before, key.as_bytes());
        made.pairs += 1;
    }
    Ok(made)
}

impl Sampler {
    fn batch(&self, count: usize) -> Batch {
        let mut state = lock(&self.state);
        let now = now_ns();
        let mut data = Vec::new();
        for _ in 0..count {
            let record = &self.records[state.next];
            state.next = (state.next + 1) % self.records.len();
            msgpack::write_entry_start(&mut data, now);
            msgpack::write_map_header(&mut data, record.pairs);
            data.extend_from_slice(&record.before);
            if self.counted {
                msgpack::write_uint(&mut data, state.counter);
                state.counter += 1;
                data.extend_from_slice(&record.after);
            }
        }
        Batch::single(Arc::clone(&self.tag), data, count)
    }
}

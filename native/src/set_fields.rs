//! Fields that all events of a tag get.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::event::{Batch, EventBatch, Run};
use crate::formatters::read_event;
use crate::inject::write_with_fields;
use crate::msgpack::Malformed;

/// The batch with fields set. `values`: per tag the fields' values as MessagePack; None: none are set.
///
/// # Errors
/// [`Malformed`] for a batch that is no event stream.
pub fn set(batch: &Batch, names: &[&[u8]], values: &[Option<Vec<Vec<u8>>>]) -> Result<Batch, Malformed> {
    let most = values.iter().flatten().map(|all| all.iter().map(Vec::len).sum::<usize>()).max().unwrap_or(0);
    let mut data = Vec::with_capacity(batch.data.len() + batch.count * (most + 16));
    let mut runs = Vec::with_capacity(batch.runs.len());
    for (run, bytes) in batch.iter_runs() {
        let start = data.len();
        match values.get(run.tag as usize) {
            Some(Some(values)) => {
                let mut pos = 0;
                while pos < bytes.len() {
                    let event = read_event(bytes, pos)?;
                    pos = write_with_fields(&mut data, pos, &event, names, values)?;
                }
            }
            _ => data.extend_from_slice(bytes),
        }
        runs.push(Run { len: data.len() - start, ..run });
    }
    Ok(Batch { tags: batch.tags.clone(), runs, data, count: batch.count })
}

/// `set_fields(batch, names, values)`: the batch with fields set by tag.
#[pyfunction]
pub fn set_fields(
    py: Python<'_>,
    batch: &EventBatch,
    names: Vec<String>,
    values: Vec<Option<Vec<Vec<u8>>>>,
) -> PyResult<EventBatch> {
    if values.iter().flatten().any(|all| all.len() != names.len()) {
        return Err(PyValueError::new_err("as many values as names"));
    }
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    py.detach(|| set(&batch.batch, &names, &values))
        .map(EventBatch::from)
        .map_err(|why| PyValueError::new_err(why.to_string()))
}

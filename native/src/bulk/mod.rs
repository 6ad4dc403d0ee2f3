//! The `elasticsearch` output's native half: chunks to bodies of bulk requests, and back from item numbers to
//! the events they were made of.

mod config;
mod dates;
pub mod encode;
pub mod expression;
mod groups;
mod keys;
mod record;

use std::collections::{HashMap, HashSet};
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use xxhash_rust::xxh3::xxh3_128;

use crate::event::EventStream;
use crate::msgpack::{Entries, read_entry};
pub use config::{Config, Operation};
use encode::{Encoder, Part, Target};
pub use groups::BulkGroups;

/// The entries that bodies were made of: one block or several.
struct Source {
    blocks: Vec<Py<PyBytes>>,
    /// Where each block starts, counted over all.
    starts: Vec<usize>,
}

impl Source {
    fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut source = Source { blocks: Vec::new(), starts: Vec::new() };
        if data.is_instance_of::<PyBytes>() || PyBuffer::<u8>::get(data).is_ok() {
            source.add(data, &mut 0)?;
        } else {
            let mut at = 0;
            for block in data.try_iter()? {
                source.add(&block?, &mut at)?;
            }
        }
        Ok(source)
    }

    fn add(&mut self, block: &Bound<'_, PyAny>, at: &mut usize) -> PyResult<()> {
        let bytes = match block.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            // a buffer that others may write to
            Err(_) => PyBytes::new(block.py(), &PyBuffer::<u8>::get(block)?.to_vec(block.py())?),
        };
        self.starts.push(*at);
        *at += bytes.as_bytes().len();
        self.blocks.push(bytes.unbind());
        Ok(())
    }

    fn slices<'a>(&'a self, py: Python<'a>) -> Vec<&'a [u8]> {
        self.blocks.iter().map(|block| block.bind(py).as_bytes()).collect()
    }

    /// All entries that are at these places or equal to one that is, in the order of the chunk.
    fn equals(&self, py: Python<'_>, places: &[usize]) -> EventStream {
        let slices = self.slices(py);
        let (data, count) = py.detach(|| {
            let hash = |place: usize| {
                let (block, mut pos) = self.locate(place);
                read_entry(slices[block], &mut pos).ok().map(|entry| xxh3_128(entry.bytes))
            };
            let wanted: HashSet<u128> = places.iter().filter_map(|place| hash(*place)).collect();
            let mut data = Vec::new();
            let mut count = 0;
            for entry in slices.iter().flat_map(|block| Entries::new(block).map_while(Result::ok)) {
                if wanted.contains(&xxh3_128(entry.bytes)) {
                    data.extend_from_slice(entry.bytes);
                    count += 1;
                }
            }
            (data, count)
        });
        EventStream { data: PyBytes::new(py, &data).unbind(), count }
    }

    /// Which block an entry is in, and where.
    fn locate(&self, place: usize) -> (usize, usize) {
        let block = self.starts.partition_point(|start| *start <= place).saturating_sub(1);
        (block, place - self.starts[block])
    }

    /// The entries that start at these places, in their order.
    fn stream(&self, py: Python<'_>, entries: impl Iterator<Item = usize>) -> PyResult<EventStream> {
        let slices = self.slices(py);
        let mut data = Vec::new();
        let mut count = 0;
        for entry in entries {
            let (block, mut pos) = self.locate(entry);
            let entry =
                read_entry(slices[block], &mut pos).map_err(|why| PyValueError::new_err(why.to_string()))?;
            data.extend_from_slice(entry.bytes);
            count += 1;
        }
        Ok(EventStream { data: PyBytes::new(py, &data).unbind(), count })
    }
}

/// `BulkEncoder(options)`: a compiled encoder, for any number of threads.
#[pyclass(frozen, module = "forwarder._native")]
pub struct BulkEncoder {
    encoder: Encoder,
    /// Size of bodies in 1/64 of the entries' size: what the last chunk took.
    growth: AtomicUsize,
}

#[pymethods]
impl BulkEncoder {
    #[new]
    fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let encoder = Encoder::new(Config::from_dict(options)?).map_err(PyValueError::new_err)?;
        Ok(BulkEncoder { encoder, growth: AtomicUsize::new(128) })
    }

    /// `ids(data) -> list[str]`: what `id_key` gives, each once.
    fn ids(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
        let source = Source::of(data)?;
        let blocks = source.slices(py);
        let ids = py.detach(|| self.encoder.ids(&blocks));
        Ok(ids.into_iter().map(|id| String::from_utf8_lossy(&id).into_owned()).collect())
    }

    /// `encode(data, *, tag, index, ...) -> BulkRequests`
    #[pyo3(signature = (data, *, tag, index, date_format = "%Y.%m.%d", type_name = None, pipeline = None,
        chunk_id = None, limit_bytes = -1, known = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn encode(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        tag: Option<&str>,
        index: &str,
        date_format: &str,
        type_name: Option<&str>,
        pipeline: Option<&str>,
        chunk_id: Option<&[u8]>,
        limit_bytes: i64,
        known: Option<HashMap<String, String>>,
    ) -> PyResult<BulkRequests> {
        let source = Source::of(data)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let known: Option<HashMap<_, _>> =
            known.map(|known| known.into_iter().map(|(id, index)| (id.into_bytes(), index)).collect());
        let target = Target {
            tag,
            index,
            date_format,
            type_name,
            pipeline,
            chunk_id: chunk_id.unwrap_or_default(),
            limit: usize::try_from(limit_bytes).ok(),
            now_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            known: known.as_ref(),
        };
        let blocks = source.slices(py);
        let outcome = py
            .detach(|| {
                let size: usize = blocks.iter().map(|block| block.len()).sum();
                let growth = self.growth.load(Ordering::Relaxed);
                let outcome = self.encoder.encode(&blocks, &target, size / 64 * growth + 4096)?;
                let bodies: usize = outcome.parts.iter().map(|part| part.body.len()).sum();
                if size >= 4096 {
                    self.growth.store(bodies / (size / 64) + 4, Ordering::Relaxed);
                }
                Ok(outcome)
            })
            .map_err(|why: String| PyValueError::new_err(why))?;
        drop(blocks);
        let source = Arc::new(source);
        let bulks = outcome
            .parts
            .into_iter()
            .map(|part| Py::new(py, Bulk { part, source: Arc::clone(&source) }))
            .collect::<PyResult<_>>()?;
        let refused = outcome
            .refused
            .iter()
            .map(|(reason, entries)| Ok((*reason, Py::new(py, source.stream(py, entries.iter().copied())?)?)))
            .collect::<PyResult<_>>()?;
        let time_errors = EventStream {
            data: PyBytes::new(py, &outcome.time_errors).unbind(),
            count: outcome.time_error_count,
        };
        let time_errors = Py::new(py, time_errors)?;
        Ok(BulkRequests {
            bulks,
            indices: outcome.indices.into_iter().map(String::from).collect(),
            refused,
            time_errors,
            unreadable_bytes: outcome.unreadable,
            source,
        })
    }
}

/// What became of a chunk. Immutable.
#[pyclass(frozen, module = "forwarder._native")]
pub struct BulkRequests {
    source: Arc<Source>,
    /// The requests, in order.
    #[pyo3(get)]
    bulks: Vec<Py<Bulk>>,
    /// The indices that documents go to.
    #[pyo3(get)]
    indices: Vec<String>,
    /// Events that cannot be sent, by reason.
    #[pyo3(get)]
    refused: Vec<(&'static str, Py<EventStream>)>,
    /// Events for `time_parse_error_tag`.
    #[pyo3(get)]
    time_errors: Py<EventStream>,
    /// Bytes behind entries that are no MessagePack.
    #[pyo3(get)]
    unreadable_bytes: usize,
}

#[pymethods]
impl BulkRequests {
    /// `with_equals(bulks) -> EventStream`: what is left of the chunk when only these requests of it are.
    fn with_equals(&self, py: Python<'_>, bulks: Vec<PyRef<'_, Bulk>>) -> EventStream {
        let places: Vec<_> = bulks.iter().flat_map(|bulk| &bulk.part.items).map(|item| item.entry).collect();
        self.source.equals(py, &places)
    }
}

/// One request: its body (which has the buffer protocol) and what its items were made of. Immutable.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Bulk {
    part: Part,
    source: Arc<Source>,
}

impl Bulk {
    fn check(&self, index: usize) -> PyResult<usize> {
        let count = self.part.items.len();
        if index < count {
            return Ok(index);
        }
        Err(PyIndexError::new_err(format!("item {index} of a request with {count} items")))
    }
}

#[pymethods]
impl Bulk {
    /// The index in the URL, with `include_index_in_url`.
    #[getter]
    fn index(&self) -> Option<&str> {
        self.part.index.as_deref()
    }

    /// The body, copied; the object itself can be sent without a copy.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.part.body)
    }

    /// The body's size.
    #[getter]
    fn nbytes(&self) -> usize {
        self.part.body.len()
    }

    /// The number of items.
    fn __len__(&self) -> usize {
        self.part.items.len()
    }

    /// The events that items were made of.
    fn entries(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<EventStream> {
        let entries = indices
            .into_iter()
            .map(|index| self.check(index).map(|index| self.part.items[index].entry))
            .collect::<PyResult<Vec<_>>>()?;
        self.source.stream(py, entries.into_iter())
    }

    /// A request of some of the items, in the order given, with the ids they have.
    fn only(&self, indices: Vec<usize>) -> PyResult<Bulk> {
        let items = &self.part.items;
        let mut part = Part { index: self.part.index.clone(), ..Part::default() };
        for index in indices {
            let item = items[self.check(index)?];
            let end = items.get(index + 1).map_or(self.part.body.len(), |next| next.start);
            part.items.push(encode::Item { entry: item.entry, start: part.body.len() });
            part.body.extend_from_slice(&self.part.body[item.start..end]);
        }
        Ok(Bulk { part, source: Arc::clone(&self.source) })
    }

    /// The buffer protocol: the body, for reading.
    ///
    /// # Safety
    /// As CPython calls it: `view` is valid for writing.
    unsafe fn __getbuffer__(this: PyRef<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let body = &this.part.body;
        let len =
            ffi::Py_ssize_t::try_from(body.len()).map_err(|why| PyValueError::new_err(why.to_string()))?;
        if view.is_null() {
            return Err(PyTypeError::new_err("no view"));
        }
        // SAFETY: the body is never changed (the class is frozen) and lives as long as the object, of which the
        // view gets a reference; `view` is CPython's to be filled.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, this.as_ptr(), body.as_ptr().cast_mut().cast(), len, 1, flags)
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(this.py())) }
    }

    fn __repr__(&self) -> String {
        format!("<Bulk of {} items, {} bytes>", self.part.items.len(), self.part.body.len())
    }
}

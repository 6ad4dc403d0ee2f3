//! `EventStream` and `EventBatch`: what flows between plugins.
//!
//! An event stream is one tag's events as concatenated MessagePack entries `[time, record]`. A batch is
//! several tags' events as one buffer in order of arrival, with a run-length table that says which tag
//! the next entries have. Both are immutable once Python can see them.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::msgpack::{self, Entries};
use crate::python::{entry_to_python, python_to_entry};

/// So many consecutive entries with one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index into `Batch::tags`.
    pub tag: u32,
    /// Number of entries.
    pub count: u32,
    /// Their size in bytes.
    pub len: usize,
}

/// The plain form of an [`EventBatch`], which kernels build and read.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The distinct tags, in order of first appearance.
    pub tags: Vec<Arc<str>>,
    /// Which tag the entries have, in order.
    pub runs: Vec<Run>,
    /// The entries.
    pub data: Vec<u8>,
    /// Number of entries.
    pub count: usize,
}

impl Batch {
    /// A batch of one tag. `count` entries are in `data`.
    #[must_use]
    pub fn single(tag: Arc<str>, data: Vec<u8>, count: usize) -> Self {
        let runs =
            if count == 0 { vec![] } else { vec![Run { tag: 0, count: count as u32, len: data.len() }] };
        Batch { tags: vec![tag], runs, data, count }
    }

    /// Books `len` bytes just appended to `data` as one entry of tag number `tag`.
    #[inline]
    pub fn book(&mut self, tag: u32, len: usize) {
        self.count += 1;
        match self.runs.last_mut() {
            Some(run) if run.tag == tag => {
                run.count += 1;
                run.len += len;
            }
            _ => self.runs.push(Run { tag, count: 1, len }),
        }
    }

    /// The index of `tag`, added where it is new. Linear: callers with many tags keep their own map.
    pub fn tag_index(&mut self, tag: &Arc<str>) -> u32 {
        if let Some(index) = self.tags.iter().position(|known| known == tag) {
            return index as u32;
        }
        self.tags.push(Arc::clone(tag));
        (self.tags.len() - 1) as u32
    }

    /// Runs with their bytes.
    pub fn iter_runs(&self) -> impl Iterator<Item = (Run, &[u8])> {
        let mut pos = 0;
        self.runs.iter().map(move |run| {
            let start = pos;
            pos += run.len;
            (*run, &self.data[start..pos])
        })
    }

    /// The same events without the tags that no run uses any more.
    #[must_use]
    pub fn without_unused_tags(mut self) -> Self {
        let mut used = vec![u32::MAX; self.tags.len()];
        let mut tags = Vec::with_capacity(self.tags.len());
        for run in &mut self.runs {
            let slot = &mut used[run.tag as usize];
            if *slot == u32::MAX {
                *slot = tags.len() as u32;
                tags.push(Arc::clone(&self.tags[run.tag as usize]));
            }
            run.tag = *slot;
        }
        self.tags = tags;
        self
    }
}

fn count_entries(data: &[u8]) -> PyResult<usize> {
    let mut count = 0;
    let mut entries = Entries::new(data);
    loop {
        let at = entries.position();
        match entries.next() {
            None => return Ok(count),
            Some(Ok(_)) => count += 1,
            Some(Err(why)) => {
                return Err(PyValueError::new_err(format!("event stream broken at byte {at}: {why}")));
            }
        }
    }
}

/// One tag's events as bytes: concatenated MessagePack entries `[time, record]`.
#[pyclass(frozen, sequence, module = "forwarder._native")]
pub struct EventStream {
    /// The entries.
    pub data: Py<PyBytes>,
    /// Their number.
    pub count: usize,
}

#[pymethods]
impl EventStream {
    /// `EventStream(data=b"")`: from the payload of PackedForward mode, which is checked.
    #[new]
    #[pyo3(signature = (data = None))]
    fn new(py: Python<'_>, data: Option<Bound<'_, PyBytes>>) -> PyResult<Self> {
        let data = data.unwrap_or_else(|| PyBytes::new(py, b""));
        let count = count_entries(data.as_bytes())?;
        Ok(EventStream { data: data.unbind(), count })
    }

    /// From an iterable of `(time_ns, record)`.
    #[staticmethod]
    fn from_events(py: Python<'_>, events: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut out = Vec::new();
        let mut count = 0;
        for event in events.try_iter()? {
            let (time_ns, record): (i64, Bound<'_, PyAny>) = event?.extract()?;
            python_to_entry(&mut out, time_ns, &record)?;
            count += 1;
        }
        Ok(EventStream { data: PyBytes::new(py, &out).unbind(), count })
    }

    fn __len__(&self) -> usize {
        self.count
    }

    fn __bytes__(&self, py: Python<'_>) -> Py<PyBytes> {
        self.data.clone_ref(py)
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        self.data.bind(py).as_bytes().len()
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<EventIterator>> {
        Py::new(py, EventIterator { data: self.data.clone_ref(py), pos: 0 })
    }

    fn __add__(&self, py: Python<'_>, other: &EventStream) -> Self {
        let joined = [self.data.bind(py).as_bytes(), other.data.bind(py).as_bytes()].concat();
        EventStream { data: PyBytes::new(py, &joined).unbind(), count: self.count + other.count }
    }

    fn __eq__(&self, py: Python<'_>, other: &EventStream) -> bool {
        self.data.bind(py).as_bytes() == other.data.bind(py).as_bytes()
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.data.bind(py).hash()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<EventStream of {} events, {} bytes>", self.count, self.nbytes(py))
    }
}

/// Decodes entry after entry.
#[pyclass(module = "forwarder._native")]
pub struct EventIterator {
    data: Py<PyBytes>,
    pos: usize,
}

#[pymethods]
impl EventIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyTuple>>> {
        let data = self.data.clone_ref(py);
        let data = data.bind(py).as_bytes();
        if self.pos >= data.len() {
            return Ok(None);
        }
        let entry = msgpack::read_entry(data, &mut self.pos).map_err(|why| {
            self.pos = data.len();
            PyValueError::new_err(why.to_string())
        })?;
        entry_to_python(py, &entry).map(|tuple| Some(tuple.unbind()))
    }
}

/// The entries of a batch as they came: compressed.
#[derive(Debug)]
pub struct Packed {
    /// "gzip" or "zstd".
    pub method: &'static str,
    /// Members or frames whose content is exactly the batch's data.
    pub data: Vec<u8>,
}

/// Events of one or several tags as one buffer, in order of arrival.
#[pyclass(frozen, module = "forwarder._native")]
pub struct EventBatch {
    /// The events.
    pub batch: Batch,
    /// The same compressed, where they came so: an output that sends them so need not do it again. Whoever
    /// makes another batch of this one makes one without it.
    pub packed: Option<Packed>,
}

impl From<Batch> for EventBatch {
    fn from(batch: Batch) -> Self {
        EventBatch { batch, packed: None }
    }
}

#[pymethods]
impl EventBatch {
    /// `EventBatch([(tag, stream), ...])`: joins streams in the order given.
    #[new]
    fn new(py: Python<'_>, streams: Vec<(String, PyRef<'_, EventStream>)>) -> Self {
        let mut batch = Batch::default();
        for (tag, stream) in &streams {
            if stream.count == 0 {
                continue;
            }
            let data = stream.data.bind(py).as_bytes();
            let tag = batch.tag_index(&Arc::from(tag.as_str()));
            batch.data.extend_from_slice(data);
            batch.count += stream.count;
            match batch.runs.last_mut() {
                Some(run) if run.tag == tag => {
                    run.count += stream.count as u32;
                    run.len += data.len();
                }
                _ => batch.runs.push(Run { tag, count: stream.count as u32, len: data.len() }),
            }
        }
        batch.into()
    }

    /// Joins batches, in order.
    #[staticmethod]
    fn concat(py: Python<'_>, batches: Vec<Py<EventBatch>>) -> Self {
        py.detach(|| {
            let mut joined = Batch::default();
            for part in &batches {
                let part = &part.get().batch;
                let indexes: Vec<u32> = part.tags.iter().map(|tag| joined.tag_index(tag)).collect();
                joined.data.extend_from_slice(&part.data);
                joined.count += part.count;
                joined
                    .runs
                    .extend(part.runs.iter().map(|run| Run { tag: indexes[run.tag as usize], ..*run }));
            }
            joined.into()
        })
    }

    fn __len__(&self) -> usize {
        self.batch.count
    }

    fn __bool__(&self) -> bool {
        self.batch.count > 0
    }

    /// Size of the entries in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.batch.data.len()
    }

    /// The distinct tags, in order of first appearance.
    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.batch.tags.iter().map(|tag| &**tag))
    }

    /// The entries of all tags, one after the other.
    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.batch.data)
    }

    /// `packed(method) -> bytes | None`: the entries compressed by `method`, where they came so.
    fn packed<'py>(&self, py: Python<'py>, method: &str) -> Option<Bound<'py, PyBytes>> {
        let packed = self.packed.as_ref().filter(|packed| packed.method == method)?;
        Some(PyBytes::new(py, &packed.data))
    }

    /// `[(tag, EventStream), ...]`: runs of one tag, in order of arrival.
    fn streams<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (run, bytes) in self.batch.iter_runs() {
            let stream = EventStream { data: PyBytes::new(py, bytes).unbind(), count: run.count as usize };
            list.append((&*self.batch.tags[run.tag as usize], Py::new(py, stream)?))?;
        }
        Ok(list)
    }

    /// The events `start` to `stop` (as list slicing counts, without negative numbers).
    fn slice(&self, py: Python<'_>, start: usize, stop: usize) -> PyResult<EventBatch> {
        py.detach(|| {
            let mut part = Batch { tags: self.batch.tags.clone(), ..Batch::default() };
            let mut index = 0;
            for (run, bytes) in self.batch.iter_runs() {
                let next = index + run.count as usize;
                if next > start && index < stop {
                    let mut entries = Entries::new(bytes);
                    let mut at = index;
                    let mut from = 0;
                    let mut to = bytes.len();
                    while at < next {
                        if at == start {
                            from = entries.position();
                        }
                        if at == stop {
                            to = entries.position();
                            break;
                        }
                        if stop >= next && at >= start {
                            break;
                        }
                        entries.next().transpose().map_err(|why| PyValueError::new_err(why.to_string()))?;
                        at += 1;
                    }
                    let count = next.min(stop) - index.max(start);
                    part.data.extend_from_slice(&bytes[from..to]);
                    part.count += count;
                    part.runs.push(Run { tag: run.tag, count: count as u32, len: to - from });
                }
                index = next;
            }
            Ok(part.without_unused_tags().into())
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<EventBatch of {} events, {} tags, {} bytes>",
            self.batch.count,
            self.batch.tags.len(),
            self.batch.data.len()
        )
    }
}

/// Text from Python: `str` as its UTF-8 bytes, or anything with the buffer protocol.
///
/// # Errors
/// `TypeError` for other objects.
pub fn text_bytes(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = object.extract::<&str>() {
        return Ok(text.as_bytes().to_vec());
    }
    PyBuffer::<u8>::get(object)?.to_vec(object.py())
}

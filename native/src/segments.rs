//! The chunk store of the file buffer: segments that all chunks share. Format: [`crate::segment`].
//!
//! # Order of operations
//! - Append: heads and data go to the end of the active segment by one `writev`, all or nothing: where it fails
//!   part-way the file is cut back. Only then does the index in memory know the records.
//! - A segment that failed to be cut back, or to be synced, gets no more records. What it got for a refused
//!   append may be found after a crash; a record with the same number in a younger segment counts instead.
//! - Where a sync will follow, the kernel is told to begin to write whole pages from time to time, without a wait.
//! - No record is ever changed in place. When no chunk has a record in a segment, its file becomes a spare one, or
//!   is unlinked where there are enough. The next segment is written over a spare file: its pages are in memory,
//!   and its blocks on the disk, which saves the kernel most of the work of an append.
//! - Move (compaction): append the copies, sync, change the index, then the old segment goes. A crash between leaves
//!   two copies of the same records, which recovery takes for one.
//!
//! Policy (when to sync, what to do with chunks) is Python's. All work on files is done without the GIL.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod append;
mod compact;
mod recovery;

use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::msgpack::Entries;
use crate::segment::{Head, RECORD_HEADER, checksum, read_head};

use self::recovery::{Damage, Dead, Recovered};

/// Segments that stay open for reading.
const OPEN_MAX: usize = 4;
/// An active segment without live records is ended from this size on.
const ROLL_EMPTY: u64 = 8 << 20;

/// What a file is called that the next segment is written over, behind the name of the segment it was.
const SPARE: &str = "spare";
/// One segment grows, and the one before it may hold the last of what is being delivered: both may end at once.
const SPARE_MAX: usize = 2;

/// Where a record is.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    segment: u32,
    len: u32,
}

#[derive(Default)]
struct Index {
    extents: Vec<Extent>,
    next_seq: u32,
}

/// The records of one chunk.
#[pyclass(frozen, module = "forwarder._native")]
pub struct ChunkRecords {
    id: [u8; 16],
    created_ns: i64,
    meta: Vec<u8>,
    index: Mutex<Index>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing that holds a lock panics half-way through a change
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl ChunkRecords {
    /// `id`: 16 bytes; `created_ns`: since the epoch; `meta`: what every record repeats.
    #[new]
    fn new(id: [u8; 16], created_ns: i64, meta: Vec<u8>) -> Self {
        ChunkRecords { id, created_ns, meta, index: Mutex::default() }
    }

    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.id)
    }

    fn __len__(&self) -> usize {
        locked(&self.index).extents.len()
    }

    /// The segments that hold the records.
    fn segments(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = locked(&self.index).extents.iter().map(|extent| extent.segment).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

struct Segment {
    path: PathBuf,
    salt: u64,
    size: u64,
    live: u64,
    /// Size of the file, where an older segment in its place was longer; else less than `size`.
    room: u64,
    /// The file may become a spare one: what is in it is known.
    reusable: bool,
}

impl Segment {
    fn file_size(&self) -> u64 {
        self.size.max(self.room)
    }
}

struct Active {
    number: u32,
    file: Arc<File>,
    damaged: bool,
    /// Up to here the kernel was told to begin to write.
    begun: u64,
}

#[derive(Default)]
struct State {
    active: Option<Active>,
    segments: BTreeMap<u32, Segment>,
    next_number: u32,
    /// Files that are not needed at the moment, and their sizes.
    spare: Vec<(PathBuf, u64)>,
    unsynced: Vec<Arc<File>>,
    open: Vec<(u32, Arc<File>)>,
    written: u64,
    /// The last append failed: room is wanted.
    short: bool,
    closed: bool,
}

/// One record to append.
struct Append<'a> {
    records: &'a ChunkRecords,
    data: &'a [u8],
    events: u32,
    codec: u8,
    seq: u32,
}

/// The segments of one buffer.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Segments {
    dir: PathBuf,
    segment_size: u64,
    mode: u32,
    durable: bool,
    state: Mutex<State>,
}

fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    match error.raw_os_error() {
        // with errno and path, so that Python makes the right subclass of it
        Some(errno) => {
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((errno, text, path.as_os_str().to_owned()))
        }
        None => PyOSError::new_err(format!("{}: {text}", path.display())),
    }
}

fn closed_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

impl Segments {
    fn path(&self, number: u32) -> PathBuf {
        let state = locked(&self.state);
        state.segments.get(&number).map_or_else(|| self.dir.clone(), |segment| segment.path.clone())
    }

    /// Ends the active segment.
    fn seal(&self, state: &mut State) {
        if let Some(active) = state.active.take() {
            self.sweep_one(state, active.number);
        }
    }

    /// Takes away a segment that holds nothing live: its file is a spare one, or unlinked.
    fn sweep_one(&self, state: &mut State, number: u32) -> bool {
        if state.active.as_ref().is_some_and(|active| active.number == number)
            || state.segments.get(&number).is_none_or(|segment| segment.live > 0)
        {
            return false;
        }
        let being_read = |(open, file): &(u32, Arc<File>)| *open == number && Arc::strong_count(file) > 1;
        let quiet = !state.open.iter().any(being_read);
        state.open.retain(|(open, _)| *open != number);
        if let Some(segment) = state.segments.remove(&number) {
            let size = segment.file_size();
            let wanted =
                state.spare.len() < SPARE_MAX && size <= self.segment_size && segment.reusable && quiet;
            let spare = segment.path.with_extension(SPARE);
            if wanted && std::fs::rename(&segment.path, &spare).is_ok() {
                state.spare.push((spare, size));
            } else {
                // what cannot be removed is found again at the next start, and is dead then too
                let _ = std::fs::remove_file(&segment.path);
            }
        }
        true
    }

    fn reader(&self, number: u32) -> io::Result<(Arc<File>, u64)> {
        let mut state = locked(&self.state);
        if state.closed {
            return Err(closed_error());
        }
        let Some(segment) = state.segments.get(&number) else { return Err(closed_error()) };
        let salt = segment.salt;
        if let Some(at) = state.open.iter().position(|(open, _)| *open == number) {
            let entry = state.open.remove(at);
            let file = Arc::clone(&entry.1);
            state.open.push(entry);
            return Ok((file, salt));
        }
        let file = Arc::new(File::open(&segment.path)?);
        if state.open.len() >= OPEN_MAX {
            state.open.remove(0);
        }
        state.open.push((number, Arc::clone(&file)));
        Ok((file, salt))
    }

    /// Head and data of a record; None: it is rotten.
    fn read_record(&self, extent: Extent, data: &mut [u8], head_len: usize) -> io::Result<Option<Head>> {
        let (file, salt) = self.reader(extent.segment)?;
        let mut bytes = vec![0; head_len];
        let whole = file
            .read_exact_at(&mut bytes, extent.offset)
            .and_then(|()| file.read_exact_at(data, extent.offset + head_len as u64));
        match whole {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let head = read_head(salt, &bytes).ok().filter(|head| {
            head.record_len() == u64::from(extent.len)
                && head.data_len as usize == data.len()
                && head.data_crc == checksum(salt, data)
        });
        Ok(head)
    }

    fn release(&self, state: &mut State, extents: &[Extent]) {
        let mut touched = Vec::new();
        for extent in extents {
            if let Some(segment) = state.segments.get_mut(&extent.segment) {
                segment.live = segment.live.saturating_sub(u64::from(extent.len));
                if segment.live == 0 && touched.last() != Some(&extent.segment) {
                    touched.push(extent.segment);
                }
            }
        }
        if let Some(active) = &state.active {
            let number = active.number;
            if state
                .segments
                .get(&number)
                .is_some_and(|segment| segment.live == 0 && (state.short || segment.size >= ROLL_EMPTY))
            {
                state.active = None;
            }
        }
        for number in touched {
            self.sweep_one(state, number);
        }
    }
}

#[pymethods]
impl Segments {
    /// `Segments(folder, segment_size, mode, durable)`; sizes in bytes. `durable`: `sync` will be called.
    #[new]
    fn new(folder: PathBuf, segment_size: u64, mode: u32, durable: bool) -> Self {
        Segments { dir: folder, segment_size, mode, durable, state: Mutex::default() }
    }

    /// `append([(records, data, events, codec), ...])`: all or nothing.
    ///
    /// Raises OSError: nothing was written.
    fn append(
        &self,
        py: Python<'_>,
        items: Vec<(Py<ChunkRecords>, Bound<'_, PyBytes>, u32, u8)>,
    ) -> PyResult<()> {
        let mut plain: Vec<Append<'_>> = items
            .iter()
            .map(|(records, data, events, codec)| Append {
                records: records.get(),
                data: data.as_bytes(),
                events: *events,
                codec: *codec,
                seq: 0,
            })
            .collect();
        if plain.iter().any(|item| item.data.len() > (1 << 31)) {
            return Err(PyValueError::new_err("a record of more than 2 GiB"));
        }
        py.detach(|| self.append_items(&mut locked(&self.state), &mut plain))
            .map_err(|error| os_error(&error, &self.dir))
    }

    /// `read(records, index)`: (data, events, codec); None where the record is rotten.
    ///
    /// Raises IndexError, OSError.
    fn read<'py>(
        &self,
        py: Python<'py>,
        records: &ChunkRecords,
        index: usize,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u32, u8)>> {
        let extent = locked(&records.index).extents.get(index).copied();
        let extent = extent.ok_or_else(|| PyIndexError::new_err(index))?;
        let head_len = RECORD_HEADER + records.meta.len();
        let Some(data_len) = (extent.len as usize).checked_sub(head_len) else { return Ok(None) };
        let mut head = None;
        let data = PyBytes::new_with(py, data_len, |data| {
            head = py
                .detach(|| self.read_record(extent, data, head_len))
                .map_err(|error| os_error(&error, &self.path(extent.segment)))?;
            Ok(())
        })?;
        Ok(head.filter(|head| head.id == records.id).map(|head| (data, head.events, head.codec)))
    }

    /// `place(records, index)`: (path of the segment, offset, length). Raises IndexError.
    fn place(&self, records: &ChunkRecords, index: usize) -> PyResult<(OsString, u64, u32)> {
        let extent = locked(&records.index).extents.get(index).copied();
        let extent = extent.ok_or_else(|| PyIndexError::new_err(index))?;
        Ok((self.path(extent.segment).into_os_string(), extent.offset, extent.len))
    }

    /// Takes one record out of a chunk. Raises IndexError.
    fn discard(&self, records: &ChunkRecords, index: usize) -> PyResult<()> {
        let mut state = locked(&self.state);
        let mut known = locked(&records.index);
        if index >= known.extents.len() {
            return Err(PyIndexError::new_err(index));
        }
        let extent = known.extents.remove(index);
        self.release(&mut state, &[extent]);
        Ok(())
    }

    /// The chunk is done: segments in which nothing else lives go.
    fn remove(&self, py: Python<'_>, records: &ChunkRecords) {
        py.detach(|| {
            let mut state = locked(&self.state);
            if state.closed {
                return;
            }
            let extents = std::mem::take(&mut locked(&records.index).extents);
            self.release(&mut state, &extents);
        });
    }

    /// The segment that costs the most room for the fewest live bytes, where all of them together take more than
    /// twice what lives (and a little); None: there is no need.
    fn straggler(&self) -> Option<u32> {
        self.worst()
    }

    /// Copies the records that `chunks` have in a segment to the active one and syncs; then the segment goes.
    ///
    /// False where it stays, because others have records in it, or one is rotten. Raises OSError.
    fn rewrite(&self, py: Python<'_>, segment: u32, chunks: Vec<Py<ChunkRecords>>) -> PyResult<bool> {
        let outcome = py.detach(|| self.move_all(segment, chunks.iter().map(Py::get)));
        outcome.map_err(|error| os_error(&error, &self.dir))
    }

    /// Has the kernel begin to write what was appended, so that the next `sync` finds little to do.
    fn begin_writing(&self, py: Python<'_>) {
        py.detach(|| self.begin());
    }

    /// Writes what was appended so far to the disk. Raises OSError.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.sync_files()).map_err(|error| os_error(&error, &self.dir))
    }

    /// Bytes appended so far.
    #[getter]
    fn written(&self) -> u64 {
        locked(&self.state).written
    }

    /// (size of all segment files and the spare ones, bytes of them that live, number of segments).
    fn usage(&self) -> (u64, u64, usize) {
        let state = locked(&self.state);
        let size = state.segments.values().map(Segment::file_size).sum::<u64>()
            + state.spare.iter().map(|(_, size)| size).sum::<u64>();
        let live = state.segments.values().map(|segment| segment.live).sum();
        (size, live, state.segments.len())
    }

    /// Reads what an earlier process left. `gone`: ids of chunks that are done; their records are dead.
    /// `verify_bytes`: up to this size all data are verified, beyond it only those of the newest segment.
    ///
    /// Raises OSError: the folder cannot be read.
    fn recover<'py>(
        &self,
        py: Python<'py>,
        gone: HashSet<[u8; 16]>,
        verify_bytes: u64,
    ) -> PyResult<(Bound<'py, PyList>, Vec<Damage>, Vec<Dead>)> {
        let (chunks, bad, dead) = py
            .detach(|| self.recover_all(&gone, verify_bytes))
            .map_err(|error| os_error(&error, &self.dir))?;
        let list = PyList::empty(py);
        for chunk in chunks {
            let Recovered { id, created_ns, meta, parts } = chunk;
            let next_seq = parts.last().map_or(0, |part| part.seq + 1);
            let mut present = parts.iter().map(|part| part.seq).peekable();
            let missing: Vec<u32> = (0..next_seq).filter(|seq| present.next_if_eq(seq).is_none()).collect();
            let events: u64 = parts.iter().map(|part| u64::from(part.events)).sum();
            let size: u64 = parts.iter().map(|part| u64::from(part.data_len)).sum();
            let extents = parts.iter().map(|part| part.extent).collect();
            let shown = (PyBytes::new(py, &id), created_ns, PyBytes::new(py, &meta));
            let records = Py::new(
                py,
                ChunkRecords { id, created_ns, meta, index: Mutex::new(Index { extents, next_seq }) },
            )?;
            list.append((shown.0, shown.1, shown.2, events, size, missing, records))?;
        }
        Ok((list, bad, dead))
    }

    /// The numbers of all segments.
    fn numbers(&self) -> Vec<u32> {
        locked(&self.state).segments.keys().copied().collect()
    }

    /// Unlinks the segments that hold nothing live, and spare files, those of an earlier process too.
    fn sweep(&self) {
        let mut state = locked(&self.state);
        let numbers: Vec<u32> = state.segments.keys().copied().collect();
        for number in numbers {
            self.sweep_one(&mut state, number);
        }
        state.spare.clear();
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for path in
            files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == SPARE))
        {
            let _ = std::fs::remove_file(path); // at most its room is lost
        }
    }

    /// Closes all files, and unlinks spare ones. Nothing can be read or appended any more.
    fn close(&self) {
        let mut state = locked(&self.state);
        self.seal(&mut state);
        for (path, _) in state.spare.drain(..) {
            let _ = std::fs::remove_file(path); // the next start finds it
        }
        state.open.clear();
        state.unsynced.clear();
        state.closed = true;
    }
}

/// `intact_entries(data)`: how many whole entries `data` starts with, and their size in bytes.
#[pyfunction]
pub fn intact_entries(py: Python<'_>, data: &[u8]) -> (usize, usize) {
    py.detach(|| {
        let mut entries = Entries::new(data);
        let mut count = 0;
        loop {
            let size = entries.position();
            match entries.next() {
                Some(Ok(_)) => count += 1,
                _ => return (count, size),
            }
        }
    })
}

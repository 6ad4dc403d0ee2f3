//! The chunk store of the file buffer: segments that all chunks share. Format: [`crate::segment`].
//!
//! # Order of operations
//! - Append: heads and data go to the end of the active segment by one `writev`, all or nothing: where it fails
//!   part-way the file is cut back. Only then does the index in memory know the records.
//! - A segment that failed to be cut back, or to be synced, gets no more records.
//! - Nothing is ever changed in place. A segment is unlinked when no chunk has a record in it.
//! - Move (compaction): append the copies, sync, change the index, unlink the old segment. A crash between leaves
//!   two copies of the same records, which recovery takes for one.
//!
//! Policy (when to sync, what to do with chunks) is Python's. All work on files is done without the GIL.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod recovery;

use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::msgpack::Entries;
use crate::segment::{
    Head, RECORD_HEADER, SEGMENT_HEADER, checksum, read_head, segment_header, segment_name, write_head,
};

use self::recovery::{Damage, Dead, Recovered};

/// Segments that stay open for reading.
const OPEN_MAX: usize = 4;
/// An active segment without live records is ended from this size on.
const ROLL_EMPTY: u64 = 8 << 20;

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
}

struct Active {
    number: u32,
    file: Arc<File>,
    damaged: bool,
}

#[derive(Default)]
struct State {
    active: Option<Active>,
    segments: BTreeMap<u32, Segment>,
    next_number: u32,
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

fn write_all(file: &File, heads: &[u8], cuts: &[usize], items: &[Append<'_>]) -> io::Result<()> {
    let mut slices = Vec::with_capacity(items.len() * 2);
    let mut start = 0;
    for (end, item) in cuts.iter().zip(items) {
        slices.push(IoSlice::new(&heads[start..*end]));
        slices.push(IoSlice::new(item.data));
        start = *end;
    }
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    let mut file = file;
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Segments {
    fn path(&self, number: u32) -> PathBuf {
        let state = locked(&self.state);
        state.segments.get(&number).map_or_else(|| self.dir.clone(), |segment| segment.path.clone())
    }

    /// Starts a new active segment.
    fn roll(&self, state: &mut State) -> io::Result<()> {
        self.seal(state);
        let number = state.next_number.max(1);
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(number);
        let salt = hasher.finish();
        let path = self.dir.join(segment_name(u64::from(number), salt));
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(self.mode).open(&path)?;
        let made = file
            .set_permissions(std::fs::Permissions::from_mode(self.mode))
            .and_then(|()| file.write_all(&segment_header(u64::from(number), salt)))
            .and_then(|()| if self.durable { File::open(&self.dir)?.sync_all() } else { Ok(()) });
        if let Err(error) = made {
            let _ = std::fs::remove_file(&path); // the first error is the one to tell
            return Err(error);
        }
        state.next_number = number + 1;
        state.segments.insert(number, Segment { path, salt, size: SEGMENT_HEADER as u64, live: 0 });
        state.active = Some(Active { number, file: Arc::new(file), damaged: false });
        Ok(())
    }

    /// Ends the active segment.
    fn seal(&self, state: &mut State) {
        if let Some(active) = state.active.take() {
            self.sweep_one(state, active.number);
        }
    }

    /// Unlinks a segment that holds nothing live.
    fn sweep_one(&self, state: &mut State, number: u32) -> bool {
        if state.active.as_ref().is_some_and(|active| active.number == number)
            || state.segments.get(&number).is_none_or(|segment| segment.live > 0)
        {
            return false;
        }
        state.open.retain(|(open, _)| *open != number);
        if let Some(segment) = state.segments.remove(&number) {
            // what cannot be removed is found again at the next start, and is dead then too
            let _ = std::fs::remove_file(&segment.path);
        }
        true
    }

    fn append_items(&self, state: &mut State, items: &mut [Append<'_>]) -> io::Result<()> {
        if state.closed {
            return Err(closed_error());
        }
        let total: u64 =
            items.iter().map(|item| (RECORD_HEADER + item.records.meta.len() + item.data.len()) as u64).sum();
        let usable = state.active.as_ref().is_some_and(|active| {
            let size = state.segments.get(&active.number).map_or(0, |segment| segment.size);
            !active.damaged && (size + total <= self.segment_size || size == SEGMENT_HEADER as u64)
        });
        if !usable {
            self.roll(state)?;
        }
        let Some(active) = state.active.as_mut() else { return Err(closed_error()) };
        let number = active.number;
        let Some(segment) = state.segments.get_mut(&number) else { return Err(closed_error()) };
        let mut heads = Vec::with_capacity(items.len() * (RECORD_HEADER + 64));
        let mut cuts = Vec::with_capacity(items.len());
        // the same chunk may come several times
        let mut next: HashMap<[u8; 16], u32> = HashMap::new();
        for item in items.iter_mut() {
            let seq = next.entry(item.records.id).or_insert_with(|| locked(&item.records.index).next_seq);
            item.seq = *seq;
            *seq += 1;
            let head = Head {
                meta_len: item.records.meta.len() as u32,
                data_len: item.data.len() as u32,
                data_crc: checksum(segment.salt, item.data),
                events: item.events,
                seq: item.seq,
                codec: item.codec,
                id: item.records.id,
                created_ns: item.records.created_ns,
            };
            write_head(&mut heads, segment.salt, &head, &item.records.meta);
            cuts.push(heads.len());
        }
        if let Err(error) = write_all(&active.file, &heads, &cuts, items) {
            let size = segment.size;
            let cut = active.file.set_len(size).and_then(|()| (&*active.file).seek(SeekFrom::Start(size)));
            active.damaged = cut.is_err();
            state.short = true;
            return Err(error);
        }
        let mut offset = segment.size;
        for item in &*items {
            let len = (RECORD_HEADER + item.records.meta.len() + item.data.len()) as u32;
            let mut index = locked(&item.records.index);
            index.extents.push(Extent { offset, segment: number, len });
            index.next_seq = item.seq + 1;
            offset += u64::from(len);
        }
        segment.size = offset;
        segment.live += total;
        state.written += total;
        state.short = false;
        if self.durable {
            let file = Arc::clone(&active.file);
            if !state.unsynced.iter().any(|known| Arc::ptr_eq(known, &file)) {
                state.unsynced.push(file);
            }
        }
        Ok(())
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

    fn sync_files(&self) -> io::Result<()> {
        let files = std::mem::take(&mut locked(&self.state).unsynced);
        for (at, file) in files.iter().enumerate() {
            if let Err(error) = file.sync_data() {
                let mut state = locked(&self.state);
                // what the kernel failed to write once it may forget: no more goes into this file
                if let Some(active) = state.active.as_mut().filter(|active| Arc::ptr_eq(&active.file, file)) {
                    active.damaged = true;
                }
                state.unsynced.extend_from_slice(&files[at + 1..]);
                return Err(error);
            }
        }
        Ok(())
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

    /// The chunk is done: segments in which nothing else lives are unlinked.
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
        let state = locked(&self.state);
        let active = state.active.as_ref().map(|active| active.number);
        let (mut size, mut live) = (0, 0);
        for segment in state.segments.values() {
            size += segment.size;
            live += segment.live;
        }
        if size <= 2 * live + 4 * self.segment_size {
            return None;
        }
        let (number, worst) = state
            .segments
            .iter()
            .filter(|(number, _)| Some(**number) != active)
            .min_by_key(|(_, segment)| segment.live * 1024 / segment.size.max(1))?;
        (worst.live * 4 <= worst.size).then_some(*number)
    }

    /// Copies the records that `chunks` have in a segment to the active one, syncs, then unlinks the segment.
    ///
    /// False where it stays, because others have records in it, or one is rotten. Raises OSError.
    fn rewrite(&self, py: Python<'_>, segment: u32, chunks: Vec<Py<ChunkRecords>>) -> PyResult<bool> {
        let outcome = py.detach(|| -> io::Result<bool> {
            for records in chunks.iter().map(Py::get) {
                let wanted: Vec<usize> = locked(&records.index)
                    .extents
                    .iter()
                    .enumerate()
                    .filter_map(|(at, extent)| (extent.segment == segment).then_some(at))
                    .collect();
                for at in wanted {
                    if !self.copy_record(records, at)? {
                        return Ok(false);
                    }
                }
            }
            for file in std::mem::take(&mut locked(&self.state).unsynced) {
                file.sync_data()?;
            }
            let mut state = locked(&self.state);
            if let Some(active) = &state.active {
                active.file.sync_data()?;
            }
            Ok(self.sweep_one(&mut state, segment))
        });
        outcome.map_err(|error| os_error(&error, &self.dir))
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

    /// (size of all segments, bytes of them that live, number of segments).
    fn usage(&self) -> (u64, u64, usize) {
        let state = locked(&self.state);
        let size = state.segments.values().map(|segment| segment.size).sum();
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

    /// Unlinks the segments that hold nothing live (after `recover`).
    fn sweep(&self) {
        let mut state = locked(&self.state);
        let numbers: Vec<u32> = state.segments.keys().copied().collect();
        for number in numbers {
            self.sweep_one(&mut state, number);
        }
    }

    /// Closes all files. Nothing can be read or appended any more.
    fn close(&self) {
        let mut state = locked(&self.state);
        self.seal(&mut state);
        state.open.clear();
        state.unsynced.clear();
        state.closed = true;
    }
}

impl Segments {
    fn copy_record(&self, records: &ChunkRecords, at: usize) -> io::Result<bool> {
        let Some(old) = locked(&records.index).extents.get(at).copied() else { return Ok(false) };
        let head_len = RECORD_HEADER + records.meta.len();
        let Some(data_len) = (old.len as usize).checked_sub(head_len) else { return Ok(false) };
        let mut data = vec![0; data_len];
        let Some(head) = self.read_record(old, &mut data, head_len)? else { return Ok(false) };
        // under its old number, by way of an index of its own
        let index = Mutex::new(Index { extents: vec![], next_seq: head.seq });
        let copy = ChunkRecords {
            id: records.id,
            created_ns: records.created_ns,
            meta: records.meta.clone(),
            index,
        };
        let mut state = locked(&self.state);
        let item = Append { records: &copy, data: &data, events: head.events, codec: head.codec, seq: 0 };
        self.append_items(&mut state, &mut [item])?;
        if let Some(new) = locked(&copy.index).extents.first() {
            locked(&records.index).extents[at] = *new;
        }
        if let Some(segment) = state.segments.get_mut(&old.segment) {
            segment.live = segment.live.saturating_sub(u64::from(old.len));
        }
        Ok(true)
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

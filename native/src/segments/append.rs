//! Appending: one `writev` for a batch, all or nothing; new segments, where possible in the place of an old one;
//! and syncing what was appended.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::{Active, Append, Extent, Segment, Segments, State, closed_error, locked};
use crate::segment::{
    Head, RECORD_HEADER, SEGMENT_HEADER, checksum, end_mark, segment_header, segment_name, write_head,
};

const PAGE: u64 = 4096;
/// So much is worth a call.
const EAGER: u64 = 1 << 20;

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

/// Makes a spare file a segment without records, before it gets its name.
fn recycle(spare: &Path, path: &Path, header: &[u8], salt: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open(spare)?;
    file.write_all_at(&end_mark(salt), header.len() as u64)?;
    file.write_all(header)?;
    std::fs::rename(spare, path)?;
    Ok(file)
}

impl Segments {
    /// Starts a new active segment.
    fn roll(&self, state: &mut State) -> io::Result<()> {
        self.seal(state);
        let number = state.next_number.max(1);
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(number);
        let salt = hasher.finish();
        let path = self.dir.join(segment_name(u64::from(number), salt));
        let header = segment_header(u64::from(number), salt);
        let (file, room) = match state.spare.pop() {
            Some((spare, room)) => match recycle(&spare, &path, &header, salt) {
                Ok(file) => (file, room),
                Err(_) => {
                    let _ = std::fs::remove_file(spare); // the next start finds it
                    (self.create(&path, &header)?, 0)
                }
            },
            None => (self.create(&path, &header)?, 0),
        };
        if self.durable
            && let Err(error) = File::open(&self.dir).and_then(|dir| dir.sync_all())
        {
            let _ = std::fs::remove_file(&path); // the first error is the one to tell
            return Err(error);
        }
        state.next_number = number + 1;
        state.segments.insert(
            number,
            Segment { path, salt, size: SEGMENT_HEADER as u64, live: 0, room, reusable: true },
        );
        state.active = Some(Active { number, file: Arc::new(file), damaged: false, begun: 0 });
        Ok(())
    }

    fn create(&self, path: &Path, header: &[u8]) -> io::Result<File> {
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(self.mode).open(path)?;
        let made = file
            .set_permissions(std::fs::Permissions::from_mode(self.mode))
            .and_then(|()| file.write_all(header));
        if let Err(error) = made {
            let _ = std::fs::remove_file(path); // the first error is the one to tell
            return Err(error);
        }
        Ok(file)
    }

    pub(super) fn append_items(&self, state: &mut State, items: &mut [Append<'_>]) -> io::Result<()> {
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
        let size = segment.size;
        // The new end is marked first: whenever this is cut short, a mark ends the records.
        let marked = if size + total < segment.room {
            segment.room = segment.room.max(size + total + RECORD_HEADER as u64);
            active.file.write_all_at(&end_mark(segment.salt), size + total)
        } else {
            Ok(())
        };
        if let Err(error) = marked.and_then(|()| write_all(&active.file, &heads, &cuts, items)) {
            let cut = active.file.set_len(size).and_then(|()| (&*active.file).seek(SeekFrom::Start(size)));
            active.damaged = cut.is_err();
            segment.reusable = cut.is_ok();
            segment.room = 0;
            state.short = true;
            return Err(error);
        }
        let mut offset = size;
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

    /// Tells the kernel to begin to write the whole pages of the active segment, a megabyte or more at a time.
    pub(super) fn begin(&self) {
        let (file, from, to) = {
            let mut state = locked(&self.state);
            let State { active: Some(active), segments, .. } = &mut *state else { return };
            let to = segments.get(&active.number).map_or(0, |segment| segment.size) & !(PAGE - 1);
            if to < active.begun + EAGER {
                return;
            }
            (Arc::clone(&active.file), std::mem::replace(&mut active.begun, to), to)
        };
        // A hint: what goes wrong is told by the sync that follows.
        // SAFETY: the descriptor is open as long as `file` lives; no memory is involved.
        unsafe {
            libc::sync_file_range(
                file.as_raw_fd(),
                from as libc::off64_t,
                (to - from) as libc::off64_t,
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
    }

    pub(super) fn sync_files(&self) -> io::Result<()> {
        let files = std::mem::take(&mut locked(&self.state).unsynced);
        for (at, file) in files.iter().enumerate() {
            if let Err(error) = file.sync_data() {
                let mut state = locked(&self.state);
                // what the kernel failed to write once it may forget: no more goes into this file
                let State { active, segments, .. } = &mut *state;
                if let Some(active) = active.as_mut().filter(|active| Arc::ptr_eq(&active.file, file)) {
                    active.damaged = true;
                    if let Some(segment) = segments.get_mut(&active.number) {
                        segment.reusable = false;
                    }
                }
                state.unsynced.extend_from_slice(&files[at + 1..]);
                return Err(error);
            }
        }
        Ok(())
    }
}

//! Compaction: what still lives in a segment that is mostly dead moves to the end, and the segment goes.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Append, ChunkRecords, Index, Segments, locked};
use crate::segment::RECORD_HEADER;

impl Segments {
    /// The segment that costs the most room for the fewest live bytes, where there is need.
    pub(super) fn worst(&self) -> Option<u32> {
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

    /// Copies the records of `chunks` in a segment to the active one, syncs, then unlinks the segment; false
    /// where it stays.
    pub(super) fn move_all<'a>(
        &self,
        segment: u32,
        chunks: impl Iterator<Item = &'a ChunkRecords>,
    ) -> io::Result<bool> {
        // all files that got copies: the active segment may end on the way
        let mut files: Vec<Arc<File>> = Vec::new();
        for records in chunks {
            let wanted: Vec<usize> = locked(&records.index)
                .extents
                .iter()
                .enumerate()
                .filter_map(|(at, extent)| (extent.segment == segment).then_some(at))
                .collect();
            for at in wanted {
                if !self.copy_record(records, at, &mut files)? {
                    return Ok(false);
                }
            }
        }
        for file in files {
            file.sync_data()?;
        }
        Ok(self.sweep_one(&mut locked(&self.state), segment))
    }

    fn copy_record(&self, records: &ChunkRecords, at: usize, files: &mut Vec<Arc<File>>) -> io::Result<bool> {
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
        let known = |file| files.iter().any(|known| Arc::ptr_eq(known, file));
        let file = state.active.as_ref().map(|active| &active.file).filter(|file| !known(file)).cloned();
        files.extend(file);
        if let Some(new) = locked(&copy.index).extents.first() {
            locked(&records.index).extents[at] = *new;
        }
        if let Some(segment) = state.segments.get_mut(&old.segment) {
            segment.live = segment.live.saturating_sub(u64::from(old.len));
        }
        Ok(true)
    }
}

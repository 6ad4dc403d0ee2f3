//! Keeping some events of a batch: what stays is copied in whole stretches.

use crate::event::Batch;
use crate::msgpack::{Entry, read_entry};

/// The events for which `wanted` (the tag's number, the event) is true, in order. None: all of them.
pub fn keep(batch: &Batch, mut wanted: impl FnMut(u32, &Entry<'_>) -> bool) -> Option<Batch> {
    let mut kept = Batch { tags: batch.tags.clone(), ..Batch::default() };
    for (run, data) in batch.iter_runs() {
        let (mut pos, mut copied) = (0, 0);
        while pos < data.len() {
            let start = pos;
            let Ok(entry) = read_entry(data, &mut pos) else { break };
            if wanted(run.tag, &entry) {
                kept.book(run.tag, pos - start);
            } else {
                kept.data.extend_from_slice(&data[copied..start]);
                copied = pos;
            }
        }
        kept.data.extend_from_slice(&data[copied..pos]);
    }
    if kept.count == batch.count { None } else { Some(kept.without_unused_tags()) }
}

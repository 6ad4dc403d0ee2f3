//! Keeping some events of a batch: what stays is copied in whole stretches.

use crate::event::Batch;
use crate::fields::{Fields, Found};
use crate::msgpack::{Entry, Malformed, read_entry};

/// The events for which `wanted` (the tag's number, the event) is true, in order. None: all of them.
pub fn keep(batch: &Batch, wanted: impl FnMut(u32, &Entry<'_>) -> bool) -> Option<Batch> {
    keep_read(batch, read_entry, wanted)
}

/// The same where a few fields of each event are looked at: they are found in the walk over it.
pub fn keep_by_fields(
    batch: &Batch,
    fields: &Fields,
    mut wanted: impl FnMut(&Entry<'_>, &Found) -> bool,
) -> Option<Batch> {
    let found = std::cell::RefCell::new(Found::default());
    keep_read(
        batch,
        |data, pos| fields.read(data, pos, &mut found.borrow_mut()),
        |_, entry| wanted(entry, &found.borrow()),
    )
}

#[inline(always)]
fn keep_read(
    batch: &Batch,
    mut read: impl for<'a> FnMut(&'a [u8], &mut usize) -> Result<Entry<'a>, Malformed>,
    mut wanted: impl FnMut(u32, &Entry<'_>) -> bool,
) -> Option<Batch> {
    let mut kept = Batch { tags: batch.tags.clone(), ..Batch::default() };
    for (run, data) in batch.iter_runs() {
        let (mut pos, mut copied) = (0, 0);
        while pos < data.len() {
            let start = pos;
            let Ok(entry) = read(data, &mut pos) else { break };
            if wanted(run.tag, &entry) {
                kept.book(run.tag, pos - start);
            } else {
                if kept.data.capacity() == 0 {
                    kept.data.reserve(batch.data.len());
                }
                kept.data.extend_from_slice(&data[copied..start]);
                copied = pos;
            }
        }
        kept.data.extend_from_slice(&data[copied..pos]);
    }
    if kept.count == batch.count { None } else { Some(kept.without_unused_tags()) }
}

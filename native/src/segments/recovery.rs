//! What an earlier process left in the segments: found by scanning them.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use super::{Extent, Segment, Segments, locked};
use crate::segment::{Head, Item, SEGMENT_HEADER, header_salt, parse_segment_name, scan};

/// A scan waits for the disk most of the time.
const SCANNERS: usize = 16;

/// (file's name, offset, length, events or None, why, (chunk id, number of the record) or None)
pub(super) type Damage = (String, u64, u64, Option<u32>, &'static str, Option<([u8; 16], u32)>);

/// Chunks in order of appearance, what is no use, and which segments hold records of chunks that are gone.
pub(super) type Found = (Vec<Recovered>, Vec<Damage>, Vec<Dead>);
/// (segment, id of a chunk that is gone)
pub(super) type Dead = (u32, [u8; 16]);

pub(super) struct Part {
    pub(super) seq: u32,
    pub(super) events: u32,
    pub(super) data_len: u32,
    pub(super) extent: Extent,
}

pub(super) struct Recovered {
    pub(super) id: [u8; 16],
    pub(super) created_ns: i64,
    pub(super) meta: Vec<u8>,
    pub(super) parts: Vec<Part>,
}

/// What is in one segment: its chunks in order of appearance, and what is no use.
struct Scanned {
    number: u32,
    salt: u64,
    chunks: Vec<Recovered>,
    bad: Vec<(u64, u64, Option<Head>, &'static str)>,
}

impl Segments {
    pub(super) fn recover_all(&self, gone: &HashSet<[u8; 16]>, verify_bytes: u64) -> io::Result<Found> {
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some((number, salt)) = entry.file_name().to_str().and_then(parse_segment_name) else {
                continue;
            };
            let Ok(number) = u32::try_from(number) else { continue };
            let size = entry.metadata()?.len();
            segments.insert(
                number,
                Segment { path: entry.path(), salt, size, live: 0, room: 0, reusable: false },
            );
        }
        let total: u64 = segments.values().map(|segment| segment.size).sum();
        let newest = segments.keys().next_back().copied();
        let scanned = scan_all(&segments, |number| total <= verify_bytes || Some(number) == newest)?;

        let mut order: Vec<Recovered> = Vec::new();
        let mut known: HashMap<[u8; 16], usize> = HashMap::new();
        let (mut bad, mut dead) = (Vec::new(), Vec::new());
        for Scanned { number, salt, chunks, bad: ranges } in scanned {
            if let Some(segment) = segments.get_mut(&number) {
                segment.salt = salt;
            }
            for chunk in chunks {
                if gone.contains(&chunk.id) {
                    dead.push((number, chunk.id));
                    continue;
                }
                match known.entry(chunk.id) {
                    Entry::Occupied(at) => order[*at.get()].parts.extend(chunk.parts),
                    Entry::Vacant(place) => {
                        place.insert(order.len());
                        order.push(chunk);
                    }
                }
            }
            let name = segments.get(&number).and_then(|segment| segment.path.file_name()?.to_str());
            for (offset, len, head, why) in ranges {
                if head.is_none_or(|head| !gone.contains(&head.id)) {
                    let events = head.map(|head| head.events);
                    let whose = head.map(|head| (head.id, head.seq));
                    bad.push((name.unwrap_or_default().to_owned(), offset, len, events, why, whose));
                }
            }
        }
        for chunk in &mut order {
            // A crash during a move leaves a record twice. So does an append that was refused and could not
            // be taken back: what was written for it is in the older segment, and nobody was told that it is.
            chunk.parts.sort_by_key(|part| (part.seq, Reverse(part.extent.segment)));
            chunk.parts.dedup_by_key(|part| part.seq);
            for part in &chunk.parts {
                if let Some(segment) = segments.get_mut(&part.extent.segment) {
                    segment.live += u64::from(part.extent.len);
                }
            }
        }
        let mut state = locked(&self.state);
        state.next_number = newest.map_or(1, |number| number + 1);
        state.segments = segments;
        Ok((order, bad, dead))
    }
}

/// Scans all segments, several at a time: what waits for the disk does not wait for the others.
fn scan_all(
    segments: &BTreeMap<u32, Segment>,
    verify: impl Fn(u32) -> bool + Sync,
) -> io::Result<Vec<Scanned>> {
    let todo = Mutex::new(segments.iter());
    let done = Mutex::new(Vec::with_capacity(segments.len()));
    std::thread::scope(|scope| {
        for _ in 0..SCANNERS.min(segments.len()) {
            scope.spawn(|| {
                loop {
                    let Some((number, segment)) = locked(&todo).next() else { return };
                    let outcome = scan_one(*number, segment, verify(*number));
                    locked(&done).push(outcome);
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    done.sort_by_key(|scanned| scanned.number);
    Ok(done)
}

fn scan_one(number: u32, segment: &Segment, verify: bool) -> io::Result<Scanned> {
    let file = File::open(&segment.path)?;
    if !verify {
        // SAFETY: advice about a descriptor that is open.
        unsafe { libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::POSIX_FADV_RANDOM) };
    }
    let (mut chunks, mut bad) = (Vec::new(), Vec::new());
    let mut known: HashMap<[u8; 16], usize> = HashMap::new();
    let mut header = [0; SEGMENT_HEADER];
    let whole = file.read_exact_at(&mut header, 0);
    let salt = whole.ok().and_then(|()| header_salt(&header)).unwrap_or(segment.salt);
    scan(&file, segment.size, salt, verify, |item| match item {
        Item::Record { offset, head, meta } => {
            let at = *known.entry(head.id).or_insert_with(|| {
                chunks.push(Recovered { id: head.id, created_ns: head.created_ns, meta, parts: vec![] });
                chunks.len() - 1
            });
            let extent = Extent { offset, segment: number, len: head.record_len() as u32 };
            chunks[at].parts.push(Part {
                seq: head.seq,
                events: head.events,
                data_len: head.data_len,
                extent,
            });
        }
        Item::Bad { offset, len, head, why } => bad.push((offset, len, head, why.text())),
        Item::End { .. } => {}
    });
    Ok(Scanned { number, salt, chunks, bad })
}

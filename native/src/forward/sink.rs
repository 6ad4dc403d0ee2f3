//! What connections have given and nobody has taken yet: batches in order, each with the acknowledgements that
//! its senders get once it is safe.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::event::{Batch, Packed, Run};
use crate::ingest::{Taken, tally};

/// A payload of so many bytes becomes a batch of its own, without being copied.
pub const WHOLE: usize = 64 << 10;
/// Bytes at which a batch of many messages is handed on.
const FULL: usize = 2 << 20;
/// Bytes that a new batch has room for at first, at most.
const RESERVED: usize = 1 << 20;

/// What a sender gets when its events are safe.
#[derive(Debug)]
pub struct Ack {
    /// Whose it is.
    pub token: u64,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A batch that is handed on as a whole, and what is owed for it.
#[derive(Default)]
pub struct Portion {
    /// Events, failures and notices.
    pub taken: Taken,
    /// Acknowledgements, in order.
    pub acks: Vec<Ack>,
    /// All events of `taken`, compressed as they came.
    pub packed: Option<Packed>,
}

impl Portion {
    fn is_empty(&self) -> bool {
        let taken = &self.taken;
        taken.batch.count == 0
            && taken.failures.is_empty()
            && taken.notices.is_empty()
            && self.acks.is_empty()
    }
}

/// Batches that are ready, and the one that is being filled.
#[derive(Default)]
pub struct Sink {
    ready: VecDeque<Portion>,
    open: Portion,
    tags: HashMap<Box<[u8]>, u32>,
    last: Option<(Vec<u8>, u32)>,
    usual: usize,
    /// The open batch is one message's payload.
    whole: bool,
    acks: usize,
}

impl Sink {
    /// Gives the oldest batch; None: nothing has come.
    pub fn take(&mut self) -> Option<Portion> {
        if self.ready.is_empty() && !self.open.is_empty() {
            self.seal();
        }
        self.ready.pop_front()
    }

    /// Whether there is something to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.open.is_empty()
    }

    /// Whether somebody waits for an acknowledgement.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.open.acks.is_empty() || self.ready.iter().any(|portion| !portion.acks.is_empty())
    }

    /// Whether whole batches wait.
    #[must_use]
    pub fn sealed(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Events and failures in the batch that is being filled, and in those that are ready.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ready.iter().map(|portion| portion.taken.received()).sum::<usize>() + self.open.taken.received()
    }

    /// Bytes of events that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ready.iter().map(|portion| portion.taken.batch.data.len()).sum::<usize>()
            + self.open.taken.batch.data.len()
    }

    fn seal(&mut self) {
        self.tags.clear();
        self.last = None;
        self.whole = false;
        self.usual = self.open.taken.batch.data.len();
        let mut portion = std::mem::take(&mut self.open);
        if !portion.taken.failures.is_empty() {
            // a tag may have come with nothing but invalid entries
            portion.taken.batch = std::mem::take(&mut portion.taken.batch).without_unused_tags();
        }
        self.ready.push_back(portion);
    }

    /// The batch to append events to, and the number of the tag that arrived as `raw`.
    pub fn batch(&mut self, raw: &[u8], name: impl FnOnce() -> Arc<str>) -> (&mut Batch, u32) {
        let batch = &mut self.open.taken.batch;
        if batch.data.capacity() == 0 {
            batch.data.reserve((self.usual + self.usual / 8).min(RESERVED));
        }
        if let Some((last, index)) = &self.last
            && last == raw
        {
            return (batch, *index);
        }
        let index = match self.tags.get(raw) {
            Some(index) => *index,
            None => {
                let name = name();
                // only tags that are no UTF-8 can become the same name
                let index = if name.contains('\u{fffd}') {
                    batch.tag_index(&name)
                } else {
                    batch.tags.push(name);
                    batch.tags.len() as u32 - 1
                };
                self.tags.insert(raw.into(), index);
                index
            }
        };
        self.last = Some((raw.to_vec(), index));
        (batch, index)
    }

    /// Takes a payload of canonical entries; a large one is not copied, and stays together with its
    /// compressed form.
    pub fn payload(
        &mut self,
        raw: &[u8],
        name: impl FnOnce() -> Arc<str>,
        data: Vec<u8>,
        count: usize,
        packed: Option<Packed>,
    ) {
        if data.len() < WHOLE {
            let (batch, tag) = self.batch(raw, name);
            batch.data.extend_from_slice(&data);
            return book(batch, tag, count, data.len());
        }
        if !self.open.is_empty() {
            self.seal();
        }
        self.open.taken.batch = Batch::single(name(), data, count);
        self.open.packed = packed;
        self.whole = true;
    }

    /// Behind each message, which is never divided: a full batch, or a payload that became one, is handed on
    /// together with what belongs to it.
    pub fn end_message(&mut self) {
        if self.whole || self.open.taken.batch.data.len() >= FULL {
            self.seal();
        }
    }

    /// Owes an acknowledgement for the events so far.
    pub fn ack(&mut self, token: u64, bytes: Vec<u8>) {
        self.acks += 1;
        self.open.acks.push(Ack { token, bytes });
    }

    /// Acknowledgements that were ever owed.
    #[must_use]
    pub fn acks(&self) -> usize {
        self.acks
    }

    /// Books a message or an entry that gives no event.
    pub fn fail(&mut self, reason: &'static str, sample: &[u8]) {
        tally(&mut self.open.taken.failures, reason, sample);
    }

    /// Books something for the log that is no lost event.
    pub fn notice(&mut self, what: &'static str, sample: &[u8]) {
        tally(&mut self.open.taken.notices, what, sample);
    }
}

/// Books `count` entries of tag number `tag`, `len` bytes that were just appended.
pub fn book(batch: &mut Batch, tag: u32, count: usize, len: usize) {
    if count == 0 {
        return;
    }
    batch.count += count;
    match batch.runs.last_mut() {
        Some(run) if run.tag == tag => {
            run.count += count as u32;
            run.len += len;
        }
        _ => batch.runs.push(Run { tag, count: count as u32, len }),
    }
}

//! The sampling filter: every n-th event goes on.
//!
//! Semantics: fluent-plugin-sampling-filter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::event::{Batch, EventBatch};
use crate::keep::keep;

/// So many tags are counted apart; beyond, counting starts anew.
const MAX_TAGS: usize = 100_000;
/// Seconds for which a count lasts where there is a minimum rate.
const PERIOD: f64 = 60.0;

#[derive(Default)]
struct Count {
    events: u64,
    /// When it starts anew, in seconds of the caller's clock.
    reset: f64,
}

/// Lets every n-th event pass, of each tag or of all.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Sampling {
    interval: u64,
    by_tag: bool,
    minimum: Option<u64>,
    counts: Mutex<HashMap<Arc<str>, Count>>,
}

impl Sampling {
    /// The events that go on; None: all of them.
    #[must_use]
    pub fn apply(&self, batch: &Batch, now: f64) -> Option<Batch> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() > MAX_TAGS {
            counts.clear();
        }
        let mut taken: Vec<Count> = Vec::new();
        let everything: [Arc<str>; 1] = [Arc::from("")];
        let units = if self.by_tag { batch.tags.as_slice() } else { &everything };
        for unit in units {
            taken.push(
                counts.remove(unit).unwrap_or_else(|| Count { events: 0, reset: first_reset(unit, now) }),
            );
        }
        let kept = keep(batch, |tag, _| {
            let Some(count) = taken.get_mut(if self.by_tag { tag as usize } else { 0 }) else { return true };
            if self.minimum.is_some() && now > count.reset {
                *count = Count { events: 0, reset: now + PERIOD };
            }
            count.events += 1;
            self.minimum.is_some_and(|minimum| count.events < minimum)
                || count.events.is_multiple_of(self.interval)
        });
        for (unit, count) in units.iter().zip(taken) {
            counts.insert(Arc::clone(unit), count);
        }
        kept
    }
}

/// Within the second half of a minute, different from tag to tag so that not all start anew at once.
fn first_reset(unit: &str, now: f64) -> f64 {
    now + PERIOD - (xxhash_rust::xxh3::xxh3_64(unit.as_bytes()) % 30) as f64
}

#[pymethods]
impl Sampling {
    /// `Sampling(interval, by_tag, minimum_rate_per_min)`; `interval` is at least 1.
    #[new]
    fn new(interval: u64, by_tag: bool, minimum: Option<u64>) -> Self {
        Sampling { interval: interval.max(1), by_tag, minimum, counts: Mutex::default() }
    }

    /// `apply(batch, now)`: the events that go on (None: all). `now`: seconds of a monotonic clock.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch, now: f64) -> Option<EventBatch> {
        py.detach(|| self.apply(&batch.batch, now)).map(EventBatch::from)
    }
}

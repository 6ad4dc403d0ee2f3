//! The dedup filter: an event whose key was seen lately does not go on.
//!
//! Semantics: fluent-plugin-dedup: per tag, the keys seen last; a key counts as seen for a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::accessor::Accessor;
use crate::event::{Batch, EventBatch};
use crate::keep::keep;

struct Seen {
    /// Of its latest place in `Cache::order`.
    turn: u64,
    at: f64,
}

/// The keys seen last of one tag.
#[derive(Default)]
struct Cache {
    keys: HashMap<Arc<[u8]>, Seen>,
    /// Keys by when they were seen; a key's older places count no more.
    order: VecDeque<(Arc<[u8]>, u64)>,
    turn: u64,
}

impl Cache {
    /// Whether the key was there. It is the latest then.
    fn see(&mut self, key: &[u8], now: f64, ttl: f64, capacity: usize) -> bool {
        self.turn += 1;
        if let Some((known, _)) = self.keys.get_key_value(key) {
            let known = Arc::clone(known);
            let mut there = false;
            if let Some(seen) = self.keys.get_mut(key) {
                there = ttl <= 0.0 || now - seen.at < ttl;
                seen.turn = self.turn;
                if !there {
                    seen.at = now;
                }
            }
            self.order.push_back((known, self.turn));
            if self.order.len() > 2 * self.keys.len() + 16 {
                let keys = &self.keys;
                self.order.retain(|(key, turn)| keys.get(key).is_some_and(|seen| seen.turn == *turn));
            }
            return there;
        }
        let key: Arc<[u8]> = Arc::from(key);
        self.keys.insert(Arc::clone(&key), Seen { turn: self.turn, at: now });
        self.order.push_back((key, self.turn));
        while self.keys.len() > capacity {
            let Some((oldest, turn)) = self.order.pop_front() else { break };
            if self.keys.get(&oldest).is_some_and(|seen| seen.turn == turn) {
                self.keys.remove(&oldest);
            }
        }
        false
    }
}

/// Drops events whose key was seen.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Dedup {
    key: Accessor,
    capacity: usize,
    ttl: f64,
    caches: Mutex<HashMap<Arc<str>, Cache>>,
}

impl Dedup {
    /// The events that go on (None: all of them), and how many of them have no key.
    #[must_use]
    pub fn apply(&self, batch: &Batch, now: f64) -> (Option<Batch>, usize) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<Cache> =
            batch.tags.iter().map(|tag| caches.remove(tag).unwrap_or_default()).collect();
        let mut keyless = 0;
        let kept = keep(batch, |tag, entry| {
            let Some(key) = self.key.get(entry.body, entry.pairs) else {
                keyless += 1;
                return true;
            };
            let Some(cache) = taken.get_mut(tag as usize) else { return true };
            !cache.see(key, now, self.ttl, self.capacity)
        });
        for (tag, cache) in batch.tags.iter().zip(taken) {
            caches.insert(Arc::clone(tag), cache);
        }
        (kept, keyless)
    }
}

#[pymethods]
impl Dedup {
    /// `Dedup(key, capacity, ttl)`: keys per tag; seconds, 0: for ever.
    #[new]
    fn new(key: &str, capacity: usize, ttl: f64) -> PyResult<Self> {
        let key = Accessor::new(key).map_err(PyValueError::new_err)?;
        Ok(Dedup { key, capacity: capacity.max(1), ttl, caches: Mutex::default() })
    }

    /// `apply(batch, now)`: the events that go on (None: all), and how many have no key.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch, now: f64) -> (Option<EventBatch>, usize) {
        let (kept, keyless) = py.detach(|| self.apply(&batch.batch, now));
        (kept.map(EventBatch::from), keyless)
    }

    /// What was seen: `{tag: [key as MessagePack, ...]}`, oldest first.
    fn state<'py>(&self, py: Python<'py>) -> HashMap<String, Vec<Bound<'py, PyBytes>>> {
        let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches
            .iter()
            .map(|(tag, cache)| {
                let latest = |key: &Arc<[u8]>, turn: u64| cache.keys.get(key).is_some_and(|k| k.turn == turn);
                let keys = cache.order.iter().filter(|(key, turn)| latest(key, *turn));
                (tag.to_string(), keys.map(|(key, _)| PyBytes::new(py, key)).collect())
            })
            .collect()
    }

    /// `restore(tag, keys, now)`: keys as `state` gave them, as if seen now.
    fn restore(&self, tag: &str, keys: Vec<Vec<u8>>, now: f64) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = caches.entry(Arc::from(tag)).or_default();
        for key in keys {
            cache.see(&key, now, self.ttl, self.capacity);
        }
    }
}

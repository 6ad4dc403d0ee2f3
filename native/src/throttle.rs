//! The throttle filter: events of a group go on up to a limit per period.
//!
//! Semantics: fluent-plugin-throttle. All events of a batch count as having come at the same instant.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::accessor::{Accessor, Step};
use crate::event::{Batch, EventBatch};
use crate::keep::keep;
use crate::msgpack::Entry;
use crate::ruby_inspect::write_to_s;

/// Stands in a group's key for a field that is not there; MessagePack never uses it.
const MISSING: u8 = 0xc1;
/// The key of the group that all share once there are too many groups.
const SHARED: &[u8] = b"";

struct Group {
    /// Events since `rate_reset`.
    rate_count: u64,
    rate_reset: f64,
    /// Events per second when last measured.
    rate: i64,
    /// Events in this period; None: the limit was passed.
    bucket: Option<u64>,
    bucket_reset: f64,
    last_warning: Option<f64>,
    /// Events over the limit, ever and since the last warning.
    over: u64,
    over_unsaid: u64,
    seen: f64,
}

impl Group {
    fn new(now: f64) -> Self {
        Group {
            rate_count: 0,
            rate_reset: now,
            rate: 0,
            bucket: Some(0),
            bucket_reset: now,
            last_warning: None,
            over: 0,
            over_unsaid: 0,
            seen: now,
        }
    }
}

/// What is to be said of a group.
#[pyclass(frozen, get_all, module = "forwarder._native")]
pub struct ThrottleReport {
    /// Its values as text; None: the field is missing. Empty: the group that the surplus groups share.
    group: Vec<Option<String>>,
    /// Whether it is over the limit (or back below).
    exceeded: bool,
    /// Events per second.
    rate: i64,
    /// Events over the limit since the last report.
    over: u64,
}

struct State {
    groups: HashMap<Vec<u8>, Group>,
    swept: f64,
    /// Events over the limit of groups that are forgotten.
    forgotten: u64,
}

/// Limits the events of groups.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Throttle {
    keys: Vec<Accessor>,
    period: i64,
    limit: u64,
    /// Events per second below which a group starts again; -1: at the next period.
    reset_rate: i64,
    warning_delay: f64,
    drop: bool,
    max_groups: usize,
    state: Mutex<State>,
}

/// A group's values as text; None: the field is missing.
type Values = Vec<Option<String>>;

enum Said {
    Exceeded,
    BackDown,
}

impl Throttle {
    /// The events that go on (None: all of them), and what is to be said of which groups.
    #[must_use]
    pub fn apply(&self, batch: &Batch, now: f64) -> (Option<Batch>, Vec<ThrottleReport>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reports = Vec::new();
        let mut key = Vec::new();
        let kept = keep(batch, |_, entry| {
            key.clear();
            self.write_key(entry, &mut key);
            if !state.groups.contains_key(key.as_slice()) {
                if state.groups.len() >= self.max_groups {
                    key.clear();
                    key.extend_from_slice(SHARED);
                }
                if !state.groups.contains_key(key.as_slice()) {
                    state.groups.insert(key.clone(), Group::new(now));
                }
            }
            let Some(group) = state.groups.get_mut(key.as_slice()) else { return true };
            let (within, said) = self.count(group, now);
            if let Some(said) = said {
                reports.push(self.report(&key, group, &said, now));
            }
            within || !self.drop
        });
        if now - state.swept >= self.period as f64 {
            state.swept = now;
            let old = now - 2.0 * self.period as f64;
            let mut forgotten = 0;
            state.groups.retain(|_, group| {
                let stays = group.seen >= old;
                if !stays {
                    forgotten += group.over;
                }
                stays
            });
            state.forgotten += forgotten;
        }
        (kept, reports)
    }

    /// Counts one event: whether it is within the limit, and whether something is to be said.
    fn count(&self, group: &mut Group, now: f64) -> (bool, Option<Said>) {
        group.seen = now;
        group.rate_count += 1;
        let since = now - group.rate_reset;
        if since >= 1.0 {
            group.rate = (group.rate_count as f64 / since).round() as i64;
            group.rate_count = 0;
            group.rate_reset = now;
        }
        let mut said = None;
        if self.period_of(now) > self.period_of(group.bucket_reset) {
            if group.bucket.is_none() && self.reset_rate != -1 {
                if group.rate >= self.reset_rate {
                    return self.over(group, now);
                }
                said = Some(Said::BackDown);
            }
            group.bucket = Some(0);
            group.bucket_reset = now;
        }
        let Some(events) = &mut group.bucket else { return self.over(group, now) };
        *events += 1;
        if *events > self.limit {
            group.bucket = None;
            return self.over(group, now);
        }
        (true, said)
    }

    fn period_of(&self, now: f64) -> i64 {
        (now as i64).div_euclid(self.period)
    }

    fn over(&self, group: &mut Group, now: f64) -> (bool, Option<Said>) {
        group.over += 1;
        group.over_unsaid += 1;
        let due = group.last_warning.is_none_or(|last| now - last >= self.warning_delay);
        (false, due.then_some(Said::Exceeded))
    }

    fn report(&self, key: &[u8], group: &mut Group, said: &Said, now: f64) -> ThrottleReport {
        let exceeded = matches!(said, Said::Exceeded);
        if exceeded {
            group.last_warning = Some(now);
        }
        let since = (now - group.bucket_reset).max(1.0);
        let counted = group.bucket.unwrap_or(if exceeded { self.limit } else { 0 });
        let rate = group.rate.max((counted as f64 / since).round() as i64);
        ThrottleReport { group: texts(key), exceeded, rate, over: std::mem::take(&mut group.over_unsaid) }
    }

    fn write_key(&self, entry: &Entry<'_>, key: &mut Vec<u8>) {
        for accessor in &self.keys {
            match accessor.get(entry.body, entry.pairs) {
                Some(value) => key.extend_from_slice(value),
                None => key.push(MISSING),
            }
        }
    }
}

/// A group's values as text.
fn texts(key: &[u8]) -> Values {
    let mut found = Vec::new();
    let mut pos = 0;
    while pos < key.len() {
        if key[pos] == MISSING {
            found.push(None);
            pos += 1;
            continue;
        }
        let mut text = Vec::new();
        if write_to_s(&mut text, key, &mut pos).is_err() {
            break;
        }
        found.push(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    found
}

/// `a.b` is b within a, `$.a.b` a record accessor.
fn accessor(key: &str) -> Result<Accessor, String> {
    if key.starts_with("$.") || key.starts_with("$[") {
        return Accessor::new(key);
    }
    let steps = key.trim_end_matches('.').split('.').map(|part| Step::Key(part.as_bytes().to_vec()));
    Ok(Accessor::from_steps(steps.collect()))
}

#[pymethods]
impl Throttle {
    /// `Throttle(keys, period, limit, reset_rate, warning_delay, drop, max_groups)`
    #[new]
    fn new(
        keys: Vec<String>,
        period: i64,
        limit: u64,
        reset_rate: i64,
        warning_delay: f64,
        drop: bool,
        max_groups: usize,
    ) -> PyResult<Self> {
        let keys: Result<Vec<_>, _> = keys.iter().map(|key| accessor(key)).collect();
        Ok(Throttle {
            keys: keys.map_err(PyValueError::new_err)?,
            period: period.max(1),
            limit,
            reset_rate,
            warning_delay,
            drop,
            max_groups,
            state: Mutex::new(State { groups: HashMap::new(), swept: 0.0, forgotten: 0 }),
        })
    }

    /// `apply(batch, now)`: the events that go on (None: all), and reports. `now`: seconds since the epoch.
    #[pyo3(name = "apply")]
    fn apply_python(
        &self,
        py: Python<'_>,
        batch: &EventBatch,
        now: f64,
    ) -> (Option<EventBatch>, Vec<ThrottleReport>) {
        let (kept, reports) = py.detach(|| self.apply(&batch.batch, now));
        (kept.map(EventBatch::from), reports)
    }

    /// `over(most)`: the groups with most events over the limit as (values, events), and the events of all
    /// others together.
    #[pyo3(name = "over")]
    fn over_python(&self, py: Python<'_>, most: usize) -> (Vec<(Values, u64)>, u64) {
        py.detach(|| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut over: Vec<(&[u8], u64)> = state
                .groups
                .iter()
                .filter(|(_, group)| group.over > 0)
                .map(|(key, group)| (key.as_slice(), group.over))
                .collect();
            over.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            let rest = over.iter().skip(most).map(|(_, count)| count).sum::<u64>() + state.forgotten;
            (over.iter().take(most).map(|(key, count)| (texts(key), *count)).collect(), rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    fn batch(values: &[&str]) -> Batch {
        let mut data = Vec::new();
        for value in values {
            msgpack::write_entry_start(&mut data, 1);
            msgpack::write_map_header(&mut data, 1);
            msgpack::write_str(&mut data, b"k");
            msgpack::write_str(&mut data, value.as_bytes());
        }
        Batch::single("t".into(), data, values.len())
    }

    fn throttle(reset_rate: i64, max_groups: usize) -> Throttle {
        Throttle::new(vec!["k".to_owned()], 10, 20, reset_rate, 10.0, true, max_groups).unwrap()
    }

    fn went(throttle: &Throttle, events: usize, now: f64) -> (usize, Vec<ThrottleReport>) {
        let (kept, reports) = throttle.apply(&batch(&vec!["a"; events]), now);
        (kept.map_or(events, |kept| kept.count), reports)
    }

    #[test]
    fn a_group_has_its_limit_per_period_and_comes_back_when_its_rate_is_low() {
        let throttle = throttle(2, 100);
        assert_eq!(went(&throttle, 15, 100.0).0, 15);
        let (passed, reports) = went(&throttle, 15, 101.0);
        assert_eq!((passed, reports.len(), reports[0].over), (5, 1, 1));
        // the next period, but still 50 events a second
        assert_eq!(went(&throttle, 50, 110.0).0, 0);
        let (passed, _) = went(&throttle, 50, 111.0);
        assert_eq!(passed, 0);
        // slow by now
        let (passed, reports) = went(&throttle, 1, 171.0);
        assert_eq!((passed, reports.len(), reports[0].exceeded), (1, 1, false));
    }

    #[test]
    fn without_a_reset_rate_the_next_period_starts_anew() {
        let throttle = throttle(-1, 100);
        assert_eq!(went(&throttle, 100, 100.0).0, 20);
        assert_eq!(went(&throttle, 100, 109.9).0, 0);
        assert_eq!(went(&throttle, 100, 110.0).0, 20);
    }

    #[test]
    fn surplus_groups_share_one() {
        let throttle = throttle(-1, 2);
        let (kept, _) = throttle.apply(&batch(&["a", "b"]), 100.0);
        assert!(kept.is_none());
        let names: Vec<String> = (0..30).map(|at| format!("g{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (kept, reports) = throttle.apply(&batch(&names), 100.0);
        assert_eq!(kept.unwrap().count, 20);
        assert!(reports[0].group.is_empty());
        assert_eq!(throttle.state.lock().unwrap().groups.len(), 3);
    }

    /// `cargo test --release -- --ignored --nocapture ns_per_event`
    #[test]
    #[ignore = "a measurement"]
    fn ns_per_event() {
        let names: Vec<String> = (0..1000).map(|at| format!("group-{}", at % 50)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let batch = batch(&names);
        let throttle = Throttle::new(vec!["k".to_owned()], 60, 6000, -1, 10.0, true, 1000).unwrap();
        let started = std::time::Instant::now();
        for _ in 0..1000 {
            let _ = throttle.apply(&batch, 100.0);
        }
        println!("{} ns per event", started.elapsed().as_nanos() / 1_000_000);
    }
}

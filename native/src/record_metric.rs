//! A metric made from records: values are added up by the events' labels.
//!
//! Semantics: `<metric>` of fluent-plugin-prometheus.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::accessor::{Accessor, Step};
use crate::event::{Batch, EventBatch};
use crate::msgpack::{Entry, Token, read_entry, read_token};
use crate::ruby_inspect::write_to_s;

/// A piece of a label's value.
enum Part {
    Text(String),
    Tag,
    TagAt(i64),
    TagUpTo(i64),
    TagFrom(i64),
    Field(Accessor),
}

/// As Python gives it: (kind, text, index).
type GivenPart = (String, String, i64);

impl Part {
    fn new((kind, text, index): GivenPart) -> Result<Self, String> {
        Ok(match kind.as_str() {
            "text" => Part::Text(text),
            "tag" => Part::Tag,
            "tag_parts" => Part::TagAt(index),
            "tag_prefix" => Part::TagUpTo(index),
            "tag_suffix" => Part::TagFrom(index),
            "field" => Part::Field(Accessor::from_steps(vec![Step::Key(text.into_bytes())])),
            "accessor" => Part::Field(Accessor::new(&text)?),
            other => return Err(format!("no such part: {other}")),
        })
    }

    /// Appends what does not depend on the record.
    fn write_fixed(&self, tag: &str, out: &mut Vec<u8>) {
        let index = match self {
            Part::Text(text) => return out.extend_from_slice(text.as_bytes()),
            Part::Tag => return out.extend_from_slice(tag.as_bytes()),
            Part::Field(_) => return,
            Part::TagAt(index) | Part::TagUpTo(index) | Part::TagFrom(index) => *index,
        };
        let parts: Vec<&str> = tag.split('.').collect();
        let index = if index < 0 { index + parts.len() as i64 } else { index };
        let Some(index) = usize::try_from(index).ok().filter(|index| *index < parts.len()) else { return };
        let text = match self {
            Part::TagUpTo(_) => parts[..=index].join("."),
            Part::TagFrom(_) => parts[index..].join("."),
            _ => parts[index].to_owned(),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// A label's value.
struct Label(Vec<Part>);

impl Label {
    fn is_fixed(&self) -> bool {
        !self.0.iter().any(|part| matches!(part, Part::Field(_)))
    }

    fn write(&self, tag: &str, entry: Option<&Entry<'_>>, out: &mut Vec<u8>) {
        for part in &self.0 {
            match (part, entry) {
                (Part::Field(accessor), Some(entry)) => {
                    if let Some(value) = accessor.get(entry.body, entry.pairs) {
                        let len = out.len();
                        if write_to_s(out, value, &mut 0).is_err() {
                            out.truncate(len);
                        }
                    }
                }
                _ => part.write_fixed(tag, out),
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Distribution,
}

struct Series {
    labels: Vec<String>,
    /// The value, or the sum of a distribution.
    value: f64,
    count: u64,
    /// Not cumulated; the last one is without bound.
    buckets: Vec<u64>,
    seen: f64,
}

/// Adds values up by labels.
#[pyclass(frozen, module = "forwarder._native")]
pub struct RecordMetric {
    kind: Kind,
    key: Option<Accessor>,
    labels: Vec<Label>,
    bounds: Vec<f64>,
    /// 0: no limit.
    max_series: usize,
    series: Mutex<HashMap<Vec<u8>, Series>>,
}

/// What became of a batch's events that did not count.
#[derive(Default)]
struct Left {
    /// Their value is no number that the metric can take.
    wrong: usize,
    /// Their labels were new, and there were too many.
    over: usize,
}

impl RecordMetric {
    fn apply(&self, batch: &Batch, now: f64) -> Left {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Left::default();
        let mut key = Vec::new();
        for (run, data) in batch.iter_runs() {
            let tag = &*batch.tags[run.tag as usize];
            let fixed: Vec<Option<Vec<u8>>> = self
                .labels
                .iter()
                .map(|label| {
                    label.is_fixed().then(|| {
                        let mut text = Vec::new();
                        label.write(tag, None, &mut text);
                        text
                    })
                })
                .collect();
            let mut pos = 0;
            while pos < data.len() {
                let Ok(entry) = read_entry(data, &mut pos) else { break };
                let value = match self.value(&entry) {
                    Ok(Some(value)) => value,
                    Ok(None) => continue,
                    Err(()) => {
                        left.wrong += 1;
                        continue;
                    }
                };
                key.clear();
                for (label, fixed) in self.labels.iter().zip(&fixed) {
                    let start = key.len();
                    key.extend_from_slice(&[0; 4]);
                    match fixed {
                        Some(text) => key.extend_from_slice(text),
                        None => label.write(tag, Some(&entry), &mut key),
                    }
                    let len = (key.len() - start - 4) as u32;
                    key[start..start + 4].copy_from_slice(&len.to_be_bytes());
                }
                if let Some(found) = series.get_mut(key.as_slice()) {
                    self.add(found, value, now);
                } else if self.max_series > 0 && series.len() >= self.max_series {
                    left.over += 1;
                } else {
                    let mut new = self.new_series(texts(&key), now);
                    self.add(&mut new, value, now);
                    series.insert(key.clone(), new);
                }
            }
        }
        left
    }

    /// None: the event does not count. An error: it should, and cannot.
    fn value(&self, entry: &Entry<'_>) -> Result<Option<f64>, ()> {
        let Some(key) = &self.key else { return Ok(Some(1.0)) };
        let Some(value) = key.get(entry.body, entry.pairs) else { return Ok(None) };
        let value = match read_token(value, &mut 0) {
            Ok(Token::Nil) => return Ok(None),
            Ok(Token::Uint(value)) => value as f64,
            Ok(Token::Int(value)) => value as f64,
            Ok(Token::Float(value)) => value,
            Ok(Token::Bool(false)) if self.kind != Kind::Counter => return Ok(None),
            _ => return Err(()),
        };
        if self.kind == Kind::Counter && (value < 0.0 || value.is_nan()) { Err(()) } else { Ok(Some(value)) }
    }

    fn add(&self, series: &mut Series, value: f64, now: f64) {
        series.seen = now;
        match self.kind {
            Kind::Gauge => series.value = value,
            Kind::Counter => series.value += value,
            Kind::Distribution => {
                series.value += value;
                series.count += 1;
                if let Some(bucket) =
                    series.buckets.get_mut(self.bounds.partition_point(|bound| *bound < value))
                {
                    *bucket += 1;
                }
            }
        }
    }

    fn new_series(&self, labels: Vec<String>, now: f64) -> Series {
        Series { labels, value: 0.0, count: 0, buckets: vec![0; self.bounds.len() + 1], seen: now }
    }
}

/// A key's labels.
fn texts(key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = key;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = (u32::from_be_bytes(*len) as usize).min(after.len());
        found.push(String::from_utf8_lossy(&after[..len]).into_owned());
        rest = &after[len..];
    }
    found
}

/// (labels, value or sum, count, buckets)
type Shown = (Vec<String>, f64, u64, Vec<u64>);

#[pymethods]
impl RecordMetric {
    /// `RecordMetric(kind, key, labels, bounds, max_series)`
    #[new]
    fn new(
        kind: &str,
        key: Option<&str>,
        labels: Vec<Vec<GivenPart>>,
        bounds: Vec<f64>,
        max_series: usize,
    ) -> PyResult<Self> {
        let kind = match kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "summary" | "histogram" => Kind::Distribution,
            other => return Err(PyValueError::new_err(format!("no such metric: {other}"))),
        };
        let label =
            |parts: Vec<GivenPart>| parts.into_iter().map(Part::new).collect::<Result<_, _>>().map(Label);
        let labels: Result<Vec<Label>, String> = labels.into_iter().map(label).collect();
        Ok(RecordMetric {
            kind,
            key: key.map(Accessor::new).transpose().map_err(PyValueError::new_err)?,
            labels: labels.map_err(PyValueError::new_err)?,
            bounds,
            max_series,
            series: Mutex::default(),
        })
    }

    /// A series that is there before any event. `labels`: the values, in order.
    fn init(&self, labels: Vec<String>, now: f64) {
        let mut key = Vec::new();
        for label in &labels {
            key.extend_from_slice(&(label.len() as u32).to_be_bytes());
            key.extend_from_slice(label.as_bytes());
        }
        let new = self.new_series(labels, now);
        self.series.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(new);
    }

    /// `apply(batch, now)`: how many events have no number, and how many labels that are too many.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch, now: f64) -> (usize, usize) {
        let left = py.detach(|| self.apply(&batch.batch, now));
        (left.wrong, left.over)
    }

    /// `samples(oldest)`: (labels, value or sum, count, buckets) of all series; those last seen before
    /// `oldest` are forgotten.
    fn samples(&self, py: Python<'_>, oldest: f64) -> Vec<Shown> {
        py.detach(|| {
            let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            series.retain(|_, one| one.seen >= oldest);
            let mut shown: Vec<Shown> = series
                .values()
                .map(|one| (one.labels.clone(), one.value, one.count, one.buckets.clone()))
                .collect();
            shown.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            shown
        })
    }
}

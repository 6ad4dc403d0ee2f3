//! Splits a batch by chunk keys: tag, time slot, record fields.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::accessor::Accessor;
use crate::event::{Batch, EventBatch, Run};
use crate::msgpack::{self, Entry, Malformed};
use crate::ruby_inspect;

/// What the events of one part share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tag: Option<u32>,
    timekey: Option<i64>,
    values: Vec<Option<Vec<u8>>>,
}

/// Consecutive entries of one tag that belong to one part.
struct Piece {
    part: usize,
    run: Run,
    start: usize,
}

struct Slots {
    seconds: i64,
    zone: TimeZone,
    /// Offsets change at quarters of an hour at the earliest: (quarter, offset) looked up last.
    last: (i64, i64),
}

impl Slots {
    fn start(&mut self, time_ns: i64) -> i64 {
        let time = time_ns.div_euclid(1_000_000_000);
        let quarter = time.div_euclid(900);
        if quarter != self.last.0 {
            let offset = Timestamp::from_second(time).map_or(0, |at| self.zone.to_offset(at).seconds());
            self.last = (quarter, i64::from(offset));
        }
        time - (time + self.last.1).rem_euclid(self.seconds)
    }
}

/// The zone named by `name`: None is the machine's, else "UTC", "+09:00", "+0900", "+09" or a name.
///
/// # Errors
/// A message for a name that is not known.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else {
        return Ok(TimeZone::system());
    };
    if ["utc", "gmt", "z"].contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(TimeZone::UTC);
    }
    if let Some(digits) = name.strip_prefix(['+', '-']) {
        let digits = digits.replace(':', "");
        let number: i32 = digits.parse().map_err(|_| format!("{name:?} is no time zone"))?;
        let (hours, minutes) = match digits.len() {
            2 => (number, 0),
            4 => (number / 100, number % 100),
            _ => return Err(format!("{name:?} is no time zone")),
        };
        let seconds = (hours * 60 + minutes) * 60;
        let seconds = if name.starts_with('-') { -seconds } else { seconds };
        let offset = Offset::from_seconds(seconds).map_err(|_| format!("{name:?} is no time zone"))?;
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(name).map_err(|_| format!("{name:?} is no time zone"))
}

/// A value as it stands in a path: as Ruby's `to_s` writes it.
fn field_text(accessor: &Accessor, entry: &Entry<'_>) -> Option<Vec<u8>> {
    let value = accessor.get(entry.body, entry.pairs)?;
    if value == [0xc0] {
        return None;
    }
    let mut out = Vec::with_capacity(value.len());
    ruby_inspect::write_to_s(&mut out, value, &mut 0).ok()?;
    Some(out)
}

/// Chunk keys, compiled.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Partitioner {
    by_tag: bool,
    timekey: Option<i64>,
    zone: TimeZone,
    fields: Vec<Accessor>,
}

impl Partitioner {
    /// The keys of the parts and which entries each has; one part where all share one key.
    fn partition_batch(&self, batch: &Batch) -> Result<(Vec<Key>, Vec<Piece>), Malformed> {
        let mut keys: Vec<Key> = Vec::new();
        let mut index: HashMap<Key, usize> = HashMap::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut part_of = |key: Key| {
            if let Some(part) = index.get(&key) {
                return *part;
            }
            let part = keys.len();
            keys.push(key.clone());
            index.insert(key, part);
            part
        };
        let mut slots =
            Slots { seconds: self.timekey.unwrap_or(1), zone: self.zone.clone(), last: (i64::MIN, 0) };
        let mut start = 0;
        for (run, bytes) in batch.iter_runs() {
            let tag = self.by_tag.then_some(run.tag);
            if self.timekey.is_none() && self.fields.is_empty() {
                let part = part_of(Key { tag, timekey: None, values: vec![] });
                pieces.push(Piece { part, run, start });
                start += run.len;
                continue;
            }
            let mut last: Option<(Key, usize)> = None;
            let mut pos = 0;
            while pos < bytes.len() {
                let from = pos;
                let entry = msgpack::read_entry(bytes, &mut pos)?;
                let key = Key {
                    tag,
                    timekey: self.timekey.map(|_| slots.start(entry.time_ns)),
                    values: self.fields.iter().map(|field| field_text(field, &entry)).collect(),
                };
                match &last {
                    Some((known, _)) if *known == key => {
                        if let Some(piece) = pieces.last_mut() {
                            piece.run.count += 1;
                            piece.run.len += pos - from;
                        }
                    }
                    _ => {
                        let part = part_of(key.clone());
                        let run = Run { tag: run.tag, count: 1, len: pos - from };
                        pieces.push(Piece { part, run, start: start + from });
                        last = Some((key, part));
                    }
                }
            }
            start += run.len;
        }
        Ok((keys, pieces))
    }
}

fn build_parts(batch: &Batch, count: usize, pieces: &[Piece]) -> Vec<Batch> {
    let mut sizes = vec![0; count];
    for piece in pieces {
        sizes[piece.part] += piece.run.len;
    }
    // tags are looked up once per part: a part has its own numbering, in order of first appearance
    let mut numbers: Vec<HashMap<u32, u32>> = vec![HashMap::new(); count];
    let mut parts: Vec<Batch> =
        sizes.iter().map(|size| Batch { data: Vec::with_capacity(*size), ..Batch::default() }).collect();
    for piece in pieces {
        let part = &mut parts[piece.part];
        let tag = *numbers[piece.part].entry(piece.run.tag).or_insert_with(|| {
            part.tags.push(Arc::clone(&batch.tags[piece.run.tag as usize]));
            (part.tags.len() - 1) as u32
        });
        part.data.extend_from_slice(&batch.data[piece.start..piece.start + piece.run.len]);
        part.count += piece.run.count as usize;
        match part.runs.last_mut() {
            Some(run) if run.tag == tag => {
                run.count += piece.run.count;
                run.len += piece.run.len;
            }
            _ => part.runs.push(Run { tag, ..piece.run }),
        }
    }
    parts
}

#[pymethods]
impl Partitioner {
    /// `Partitioner(by_tag, timekey, zone, fields)`.
    #[new]
    #[pyo3(signature = (by_tag, timekey, zone, fields))]
    fn new(by_tag: bool, timekey: Option<i64>, zone: Option<&str>, fields: Vec<String>) -> PyResult<Self> {
        if timekey.is_some_and(|seconds| seconds <= 0) {
            return Err(PyValueError::new_err("timekey must be greater than 0"));
        }
        let fields = fields
            .iter()
            .map(|field| Accessor::new(field))
            .collect::<Result<_, _>>()
            .map_err(PyValueError::new_err)?;
        let zone =
            if timekey.is_some() { time_zone(zone).map_err(PyValueError::new_err)? } else { TimeZone::UTC };
        Ok(Partitioner { by_tag, timekey, zone, fields })
    }

    /// `[(tag, timekey, values, batch), ...]`: the parts in order of first appearance; the batch itself,
    /// uncopied, where all events share one key.
    fn partition<'py>(
        &self,
        py: Python<'py>,
        batch: &Bound<'py, EventBatch>,
    ) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let plain = &batch.get().batch;
        if plain.count == 0 {
            return Ok(list);
        }
        if !self.by_tag && self.timekey.is_none() && self.fields.is_empty() {
            list.append((py.None(), py.None(), PyTuple::empty(py), batch))?;
            return Ok(list);
        }
        let (keys, parts) = py
            .detach(|| {
                let (keys, pieces) = self.partition_batch(plain)?;
                let parts = if keys.len() > 1 { build_parts(plain, keys.len(), &pieces) } else { vec![] };
                Ok((keys, parts))
            })
            .map_err(|why: Malformed| PyValueError::new_err(why.to_string()))?;
        let mut parts = parts.into_iter();
        for key in keys {
            let part = match parts.next() {
                Some(part) => Bound::new(py, EventBatch::from(part))?,
                None => batch.clone(),
            };
            let tag = key.tag.map(|tag| &*plain.tags[tag as usize]);
            let values: Vec<Option<String>> = key
                .values
                .into_iter()
                .map(|value| value.map(|raw| String::from_utf8_lossy(&raw).into_owned()))
                .collect();
            list.append((tag, key.timekey, PyTuple::new(py, values)?, part))?;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(seconds: i64, zone: &str, time: i64) -> i64 {
        let zone = time_zone(Some(zone)).unwrap();
        Slots { seconds, zone, last: (i64::MIN, 0) }.start(time * 1_000_000_000)
    }

    #[test]
    fn time_slots_start_at_midnight_of_the_zone() {
        assert_eq!(slot(3600, "UTC", 1_700_000_000), 1_699_999_200);
        assert_eq!(slot(86400, "UTC", 1_700_000_000), 1_699_920_000);
        assert_eq!(slot(86400, "+09:00", 1_700_000_000), 1_699_974_000);
        assert_eq!(slot(86400, "-0330", 1_700_000_000), 1_699_932_600);
        // Berlin: 25 hours on 2023-10-29, the clock went back at 01:00 UTC
        assert_eq!(slot(86400, "Europe/Berlin", 1_698_532_000), 1_698_530_400);
        assert_eq!(slot(86400, "Europe/Berlin", 1_698_620_500), 1_698_620_400);
        assert_eq!(slot(60, "UTC", -30), -60);
    }

    #[test]
    fn zones_that_are_none_are_refused() {
        for name in ["Mars/Olympus", "+9", "+99:00", "+x", ""] {
            assert!(time_zone(Some(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn values_become_text() {
        let mut body = Vec::new();
        msgpack::write_str(&mut body, b"k");
        msgpack::write_map_header(&mut body, 2);
        msgpack::write_str(&mut body, b"a");
        msgpack::write_array_header(&mut body, 2);
        msgpack::write_int(&mut body, -1);
        msgpack::write_nil(&mut body);
        msgpack::write_str(&mut body, b"b");
        msgpack::write_float(&mut body, 1.5);
        let entry = Entry { time_ns: 0, time_bytes: &[], pairs: 1, body: &body, bytes: &[] };
        let text = |field: &str| field_text(&Accessor::new(field).unwrap(), &entry);
        assert_eq!(text("k").unwrap(), br#"{"a"=>[-1, nil], "b"=>1.5}"#);
        assert_eq!(text("$.k.b").unwrap(), b"1.5");
        assert_eq!(text("$.k.a[1]"), None);
        assert_eq!(text("missing"), None);
    }
}

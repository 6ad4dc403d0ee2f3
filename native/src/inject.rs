//! `<inject>`: fields that an output or filter adds to every record.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::compiled::Event;
use crate::event::{Batch, EventBatch, Run};
use crate::formatters::{TimeText, read_event};
use crate::msgpack::{self, Malformed, Token, read_token, skip_value};

const NANOS: i64 = 1_000_000_000;

enum TimeValue {
    /// Seconds with microseconds, as a float.
    Float,
    /// An integer count of units of so many nanoseconds.
    Integer(i64),
    /// Text.
    Text(TimeText),
}

enum Value {
    /// The same for all events, as MessagePack.
    Fixed(Vec<u8>),
    Tag,
    Time(TimeValue),
}

struct Field {
    name: Vec<u8>,
    value: Value,
}

/// Adds host name, worker id, tag and time to records. A field that a record has already is replaced
/// where it stands; new ones follow at the end, in this order.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Inject {
    fields: Vec<Field>,
}

impl Inject {
    fn set(&mut self, name: String, value: Value) {
        let name = name.into_bytes();
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.value = value, // the last one counts, at the place of the first
            None => self.fields.push(Field { name, value }),
        }
    }

    /// The batch with the fields.
    ///
    /// # Errors
    /// [`Malformed`] for a batch that is no event stream.
    pub fn inject(&self, batch: &Batch) -> Result<Batch, Malformed> {
        let field_names: Vec<&[u8]> = self.fields.iter().map(|field| field.name.as_slice()).collect();
        let names: usize = self.fields.iter().map(|field| field.name.len() + 40).sum();
        let mut data = Vec::with_capacity(batch.data.len() + batch.count * names);
        let mut runs = Vec::with_capacity(batch.runs.len());
        let mut values: Vec<Vec<u8>> = vec![Vec::new(); self.fields.len()];
        let mut times: Vec<Option<TimeText>> = self.fields.iter().map(Field::time_text).collect();
        for (run, bytes) in batch.iter_runs() {
            let start = data.len();
            for (field, value) in self.fields.iter().zip(&mut values) {
                value.clear();
                match &field.value {
                    Value::Fixed(fixed) => value.extend_from_slice(fixed),
                    Value::Tag => msgpack::write_str(value, batch.tags[run.tag as usize].as_bytes()),
                    Value::Time(_) => {}
                }
            }
            let mut pos = 0;
            while pos < bytes.len() {
                let head = pos;
                let event = read_event(bytes, pos)?;
                for ((field, value), text) in self.fields.iter().zip(&mut values).zip(&mut times) {
                    if let Value::Time(kind) = &field.value {
                        value.clear();
                        write_time(value, kind, text.as_mut(), event.time_ns);
                    }
                }
                pos = write_with_fields(&mut data, head, &event, &field_names, &values)?;
            }
            runs.push(Run { len: data.len() - start, ..run });
        }
        Ok(Batch { tags: batch.tags.clone(), runs, data, count: batch.count })
    }
}

/// Writes the entry that starts at `head` with fields set: one that it has already is replaced where it
/// stands, the others follow at the end. Gives the position behind the entry.
///
/// # Errors
/// [`Malformed`] for what is no entry; `out` then has a part of it.
pub fn write_with_fields(
    out: &mut Vec<u8>,
    head: usize,
    event: &Event<'_>,
    names: &[&[u8]],
    values: &[Vec<u8>],
) -> Result<usize, Malformed> {
    let data = event.data;
    let mut after_time = head + 1;
    skip_value(data, &mut after_time)?;
    // where a field of the record gives way: the value's place, and the new value's number
    let mut replaced: Vec<(usize, usize, usize)> = Vec::new();
    let mut pos = event.pos;
    for _ in 0..event.pairs {
        let key = pos;
        let token = read_token(data, &mut pos)?;
        if let Token::Array(_) | Token::Map(_) = token {
            pos = key;
            skip_value(data, &mut pos)?;
        }
        let start = pos;
        skip_value(data, &mut pos)?;
        if let Token::Str(name) = token
            && let Some(index) = names.iter().position(|other| *other == name)
        {
            replaced.push((start, pos, index));
        }
    }
    let is_new = |index: usize| !replaced.iter().any(|(_, _, other)| *other == index);
    let added = (0..names.len()).filter(|index| is_new(*index)).count();
    out.extend_from_slice(&data[head..after_time]);
    msgpack::write_map_header(out, event.pairs + added);
    let mut copied = event.pos;
    for (start, end, index) in &replaced {
        out.extend_from_slice(&data[copied..*start]);
        out.extend_from_slice(&values[*index]);
        copied = *end;
    }
    out.extend_from_slice(&data[copied..pos]);
    for (index, (name, value)) in names.iter().zip(values).enumerate() {
        if is_new(index) {
            msgpack::write_str(out, name);
            out.extend_from_slice(value);
        }
    }
    Ok(pos)
}

impl Field {
    fn time_text(&self) -> Option<TimeText> {
        match &self.value {
            Value::Time(TimeValue::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }
}

fn write_time(out: &mut Vec<u8>, kind: &TimeValue, text: Option<&mut TimeText>, time_ns: i64) {
    match kind {
        // Fluentd cuts to microseconds; their count is below 2^53, so the quotient is rounded only once
        TimeValue::Float => msgpack::write_float(out, time_ns.div_euclid(1000) as f64 / 1e6),
        TimeValue::Integer(unit) => msgpack::write_int(out, time_ns.div_euclid(*unit)),
        TimeValue::Text(_) => {
            let mut written = Vec::with_capacity(40);
            if let Some(text) = text {
                text.write(&mut written, time_ns);
            }
            msgpack::write_text(out, &written, false);
        }
    }
}

#[pymethods]
impl Inject {
    /// `Inject(hostname=(key, value) | None, worker_id=(key, value) | None, tag_key=None,
    /// time=(key, time_type, time_format | None, zone | None) | None)`
    #[new]
    #[pyo3(signature = (*, hostname = None, worker_id = None, tag_key = None, time = None))]
    fn new(
        hostname: Option<(String, String)>,
        worker_id: Option<(String, i64)>,
        tag_key: Option<String>,
        time: Option<(String, String, Option<String>, Option<String>)>,
    ) -> PyResult<Self> {
        let mut inject = Inject { fields: Vec::new() };
        if let Some((key, value)) = hostname {
            let mut fixed = Vec::new();
            msgpack::write_str(&mut fixed, value.as_bytes());
            inject.set(key, Value::Fixed(fixed));
        }
        if let Some((key, value)) = worker_id {
            let mut fixed = Vec::new();
            msgpack::write_int(&mut fixed, value);
            inject.set(key, Value::Fixed(fixed));
        }
        if let Some(key) = tag_key {
            inject.set(key, Value::Tag);
        }
        if let Some((key, kind, format, zone)) = time {
            let value = match kind.as_str() {
                "float" => TimeValue::Float,
                "unixtime" => TimeValue::Integer(NANOS),
                "unixtime_millis" => TimeValue::Integer(1_000_000),
                "unixtime_micros" => TimeValue::Integer(1_000),
                "unixtime_nanos" => TimeValue::Integer(1),
                _ => TimeValue::Text(
                    TimeText::new(&kind, format.as_deref(), zone.as_deref())
                        .map_err(PyValueError::new_err)?,
                ),
            };
            inject.set(key, Value::Time(value));
        }
        Ok(inject)
    }

    /// `apply(batch) -> EventBatch`: every record with the fields.
    fn apply(&self, py: Python<'_>, batch: &EventBatch) -> PyResult<EventBatch> {
        py.detach(|| self.inject(&batch.batch))
            .map(EventBatch::from)
            .map_err(|why| PyValueError::new_err(why.to_string()))
    }
}

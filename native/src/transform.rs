//! The `record_transformer` filter: new fields from templates, fields kept and removed, the time from a field.
//!
//! Semantics: Fluentd's filter_record_transformer. Values see the record as it came in; what is set keeps
//! the place of a field of that name; removal comes last.

mod template;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::accessor::Accessor;
use crate::convert::text_to_float;
use crate::event::{Batch, EventBatch};
use crate::expression::{self, Context, Raised};
use crate::fields::{Fields, Found};
use crate::merge::merge;
use crate::msgpack::{self, Entry, Malformed, Token, read_token};
use crate::python::python_to_value;
use crate::time::TimeFormatter;
use template::{Compiler, Node, Part, Scope, TagParts};

/// A field that is set.
struct Set {
    /// The key as MessagePack; empty where it has placeholders.
    key: Vec<u8>,
    parts: Vec<Part>,
    field: usize,
    node: Node,
}

/// What becomes of a pair of the record.
#[derive(Clone, Copy)]
enum Edit {
    Set(usize),
    Drop,
}

/// Working memory of one batch.
#[derive(Default)]
struct Memory {
    edits: Vec<(usize, usize, usize, Edit)>,
    pairs: Vec<u8>,
    other: Vec<u8>,
    scratch: Vec<u8>,
    index: Vec<crate::merge::Field>,
}

/// Changes records by templates.
#[pyclass(frozen, module = "forwarder._native")]
pub struct RecordTransformer {
    fields: Fields,
    sets: Vec<Set>,
    /// Fields that go, at top level.
    removed: Vec<usize>,
    /// All that goes, where some of it is nested.
    nested: Vec<Accessor>,
    /// `renew_record`: the fields that stay.
    kept: Option<Vec<usize>>,
    time_key: Option<usize>,
    /// Every event takes the long way: keys with placeholders, nested removals, new records.
    slow: bool,
    hostname: String,
}

/// What a batch became.
struct Outcome {
    good: Batch,
    /// Events whose time field is none.
    failed: Batch,
    /// Events for which an expression raises, and what the first of them raises.
    raised: Batch,
    why: String,
    /// Placeholders without a value.
    missing: usize,
}

/// Why an event cannot be made.
#[derive(Debug)]
pub enum Failure {
    /// The record is broken.
    Malformed,
    /// The time field is none.
    Time,
    /// An expression raises.
    Raised(String),
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Failure::Malformed
    }
}

impl From<Raised> for Failure {
    fn from(why: Raised) -> Self {
        Failure::Raised(why.0)
    }
}

impl RecordTransformer {
    fn apply(&self, batch: &Batch) -> Outcome {
        let good = Batch { tags: batch.tags.clone(), ..Batch::default() };
        let (failed, raised) = (good.clone(), good.clone());
        let mut outcome = Outcome { failed, raised, good, missing: 0, why: String::new() };
        let out = &mut outcome.good;
        out.data.reserve(batch.data.len() + batch.data.len() / 4 + 64 * self.sets.len());
        let Ok(mut clock) = TimeFormatter::new(Some("%Y-%m-%d %H:%M:%S %z"), None) else { return outcome };
        let (mut text, mut memory, mut found) = (Vec::new(), Memory::default(), Found::default());
        let mut expressions = expression::Memory::default();
        for (run, data) in batch.iter_runs() {
            let tag = &*batch.tags[run.tag as usize];
            let parts = TagParts::new(tag);
            let mut pos = 0;
            while pos < data.len() {
                let Ok(entry) = self.fields.read(data, &mut pos, &mut found) else { break };
                let mut scope = Scope {
                    tag,
                    parts: &parts,
                    time_ns: entry.time_ns,
                    body: entry.body,
                    pairs: entry.pairs,
                    found: &found,
                    hostname: &self.hostname,
                    clock: &mut clock,
                    text: &mut text,
                    missing: &mut outcome.missing,
                    memory: &mut expressions,
                };
                let start = out.data.len();
                let written = self.write_start(&entry, &mut scope, &mut memory, &mut out.data).and_then(
                    |()| match self.slow {
                        true => self.write_slowly(&entry, &mut scope, &mut memory, &mut out.data),
                        false => self.write(&entry, &mut scope, &mut memory, &mut out.data),
                    },
                );
                let Err(why) = written else {
                    let len = out.data.len() - start;
                    out.book(run.tag, len);
                    continue;
                };
                out.data.truncate(start);
                let failed = match why {
                    Failure::Raised(why) => {
                        if outcome.raised.count == 0 {
                            outcome.why = why;
                        }
                        &mut outcome.raised
                    }
                    _ => &mut outcome.failed,
                };
                failed.data.extend_from_slice(entry.bytes);
                failed.book(run.tag, entry.bytes.len());
            }
        }
        outcome.raised = outcome.raised.without_unused_tags();
        outcome.good = outcome.good.without_unused_tags();
        outcome.failed = outcome.failed.without_unused_tags();
        outcome
    }

    /// The entry up to the record: with the time as it is, or the one of `renew_time_key`.
    #[inline]
    fn write_start<'a>(
        &'a self,
        entry: &Entry<'a>,
        scope: &mut Scope<'a, '_>,
        memory: &mut Memory,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let Some(field) = self.time_key else {
            out.push(0x92);
            out.extend_from_slice(entry.time_bytes);
            return Ok(());
        };
        memory.scratch.clear();
        let found = scope.found;
        let mut value = match &self.kept {
            Some(kept) if !kept.contains(&field) => None,
            _ => found.value(entry.body, field),
        };
        for set in &self.sets {
            let is_it = if set.key.is_empty() {
                scope.write_parts(&set.parts, &mut memory.scratch)?;
                let key = read_token(&memory.scratch, &mut 0)?;
                let is_it = crate::accessor::is_key(&key, self.fields.key(field));
                memory.scratch.clear();
                is_it
            } else {
                set.field == field
            };
            if is_it {
                memory.scratch.clear();
                set.node.write(scope, &mut memory.scratch)?;
                value = Some(&[]);
            }
        }
        if value == Some(&[]) {
            value = Some(&memory.scratch);
        }
        out.push(0x92);
        match value {
            None => out.extend_from_slice(entry.time_bytes),
            Some(value) => {
                let seconds = match read_token(value, &mut 0)? {
                    Token::Nil => 0.0,
                    Token::Uint(seconds) => seconds as f64,
                    Token::Int(seconds) => seconds as f64,
                    Token::Float(seconds) if seconds.is_finite() => seconds,
                    Token::Str(text) | Token::Bin(text) => text_to_float(text),
                    Token::Ext(0, _) => return Err(Failure::Time),
                    _ => return Err(Failure::Time),
                };
                // what an event time cannot say is the nearest that it can
                let seconds = seconds.clamp(0.0, 4_294_967_295.0);
                let whole = seconds.floor();
                msgpack::write_event_time(
                    out,
                    whole as i64 * 1_000_000_000 + ((seconds - whole) * 1e9) as i64,
                );
            }
        }
        Ok(())
    }

    /// The record: copied, with the edits at their places and new fields at the end.
    #[inline]
    fn write<'a>(
        &'a self,
        entry: &Entry<'a>,
        scope: &mut Scope<'a, '_>,
        memory: &mut Memory,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let found = scope.found;
        let mut count = entry.pairs + self.sets.len();
        memory.edits.clear();
        for (number, set) in self.sets.iter().enumerate() {
            let place = found.places[set.field];
            if place.end > 0 {
                memory.edits.push((place.start, place.value, place.end, Edit::Set(number)));
                count -= 1;
            }
        }
        for field in &self.removed {
            let place = found.places[*field];
            if place.end > 0 {
                memory.edits.push((place.start, place.value, place.end, Edit::Drop));
                count -= 1;
            }
        }
        for (field, place) in &found.again {
            if self.removed.contains(field) || self.sets.iter().any(|set| set.field == *field) {
                memory.edits.push((place.start, place.value, place.end, Edit::Drop));
                count -= 1;
            }
        }
        memory.edits.sort_unstable_by_key(|edit| edit.0);
        msgpack::write_map_header(out, count);
        let mut copied = 0;
        for (start, value, end, edit) in &memory.edits {
            match edit {
                Edit::Drop => out.extend_from_slice(&entry.body[copied..*start]),
                Edit::Set(number) => {
                    out.extend_from_slice(&entry.body[copied..*value]);
                    self.sets[*number].node.write(scope, out)?;
                }
            }
            copied = *end;
        }
        out.extend_from_slice(&entry.body[copied..]);
        for set in &self.sets {
            if found.places[set.field].end == 0 {
                out.extend_from_slice(&set.key);
                set.node.write(scope, out)?;
            }
        }
        Ok(())
    }

    /// The same for what cannot be done in one go.
    fn write_slowly<'a>(
        &'a self,
        entry: &Entry<'a>,
        scope: &mut Scope<'a, '_>,
        memory: &mut Memory,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let Memory { pairs, other, scratch, index, .. } = memory;
        pairs.clear();
        let mut count = entry.pairs;
        match &self.kept {
            None => pairs.extend_from_slice(entry.body),
            Some(kept) => {
                count = 0;
                for field in kept {
                    if let Some(value) = scope.found.value(entry.body, *field) {
                        msgpack::write_str(pairs, self.fields.key(*field));
                        pairs.extend_from_slice(value);
                        count += 1;
                    }
                }
            }
        }
        for set in &self.sets {
            scratch.clear();
            if set.key.is_empty() {
                scope.write_parts(&set.parts, scratch)?;
            } else {
                scratch.extend_from_slice(&set.key);
            }
            set.node.write(scope, scratch)?;
            other.clear();
            count = merge((pairs, count), scratch, 1, index, other)?;
            std::mem::swap(pairs, other);
        }
        for accessor in &self.nested {
            other.clear();
            count = accessor.write_without(pairs, count, other)?;
            std::mem::swap(pairs, other);
        }
        msgpack::write_map_header(out, count);
        out.extend_from_slice(pairs);
        Ok(())
    }
}

fn node(compiler: &mut Compiler<'_, '_>, value: &Bound<'_, PyAny>) -> PyResult<Node> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(compiler.text(text.to_str()?));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().map(|item| node(compiler, &item)).collect::<PyResult<_>>().map(Node::Array);
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut pairs = Vec::new();
        for (key, value) in dict {
            let key = compiler.parts(&key.extract::<String>()?);
            pairs.push((key, node(compiler, &value)?));
        }
        return Ok(Node::Map(pairs));
    }
    let mut packed = Vec::new();
    python_to_value(&mut packed, value, 1)?;
    Ok(Node::Fixed(packed))
}

/// Field, placeholder, what is wrong with the expression.
type NotKnown = (String, String, Option<String>);
type Applied = (EventBatch, EventBatch, EventBatch, String, usize);

#[pymethods]
impl RecordTransformer {
    /// `RecordTransformer(record, *, ...)`, and the placeholders that are none: (field, placeholder, what is
    /// wrong with the expression).
    #[staticmethod]
    #[pyo3(signature = (record, *, remove_keys, keep_keys, renew_time_key, auto_typecast, ruby, hostname))]
    fn compile(
        record: &Bound<'_, PyDict>,
        remove_keys: Vec<String>,
        keep_keys: Option<Vec<String>>,
        renew_time_key: Option<String>,
        auto_typecast: bool,
        ruby: bool,
        hostname: String,
    ) -> PyResult<(Self, Vec<NotKnown>)> {
        let mut fields = Fields::default();
        let mut context = Context { fields: &mut fields, hostname: hostname.clone(), patterns: 0, clocks: 0 };
        let (mut sets, mut unknown) = (Vec::new(), Vec::new());
        let mut slow = keep_keys.is_some();
        for (key, value) in record {
            let key: String = key.extract()?;
            let mut bad = Vec::new();
            let mut compiler =
                Compiler { context: &mut context, typed: auto_typecast, ruby, unknown: &mut bad };
            let parts = compiler.parts(&key);
            let node = node(&mut compiler, &value)?;
            unknown.extend(
                bad.into_iter().map(|bad| (key.clone(), bad.text, bad.why.map(|why| why.to_string()))),
            );
            let dynamic = !parts.iter().all(|part| matches!(part, Part::Literal(_)));
            slow |= dynamic;
            let mut packed = Vec::new();
            let name = match parts.as_slice() {
                [Part::Literal(name)] => name.clone(), // escapes of Ruby are gone
                _ => key.into_bytes(),
            };
            if !dynamic {
                msgpack::write_str(&mut packed, &name);
            }
            let field = context.fields.add(&name);
            sets.push(Set { key: packed, parts, field, node });
        }
        let accessors = remove_keys
            .iter()
            .map(|key| Accessor::new(key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| PyValueError::new_err((why, "remove_keys")))?;
        let mut removed = Vec::new();
        for accessor in &accessors {
            match accessor.top_level_key() {
                Some(key) => removed.push(fields.add(key)),
                None => slow = true,
            }
        }
        removed.sort_unstable();
        removed.dedup();
        // what is set and removed at once
        slow |= sets.iter().any(|set| removed.contains(&set.field));
        let kept = keep_keys.map(|keys| {
            let mut kept: Vec<usize> = Vec::new();
            for key in keys {
                let field = fields.add(key.as_bytes());
                if !kept.contains(&field) {
                    kept.push(field);
                }
            }
            kept
        });
        let time_key = renew_time_key.map(|key| fields.add(key.as_bytes()));
        let made =
            RecordTransformer { fields, sets, removed, nested: accessors, kept, time_key, slow, hostname };
        Ok((made, unknown))
    }

    /// The events that go on, those whose time field is none, those for which an expression raises with what
    /// the first one raises, and how many placeholders had no value.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch) -> Applied {
        let outcome = py.detach(|| self.apply(&batch.batch));
        (outcome.good.into(), outcome.failed.into(), outcome.raised.into(), outcome.why, outcome.missing)
    }
}

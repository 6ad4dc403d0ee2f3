//! The fields of one text that name themselves, gathered before they are written: of a name that comes again
//! the later value counts, at the place of the first.

use std::collections::HashMap;

use crate::options::{FieldCache, FieldRules};
use crate::parser::{Events, Mismatch};

/// Fields up to this number are compared with each other, more are found by hash.
const FEW_FIELDS: usize = 32;

/// Where a name is.
#[derive(Debug, Clone, Copy)]
pub enum Name {
    /// A part of the text: start and end.
    Text(usize, usize),
    /// The parser's own.
    Fixed(&'static str),
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A name without a value that says so by being there.
    True,
    /// A part of the text.
    Text(usize, usize),
    /// A part of the scratch memory: text that had to be put together.
    Scratch(usize, usize),
}

/// Memory that is used again from text to text.
#[derive(Debug, Default)]
pub struct NamedMemory {
    names: Vec<Name>,
    values: Vec<Value>,
    scratch: Vec<u8>,
}

/// The fields of one text.
pub struct Named<'a> {
    text: &'a [u8],
    memory: &'a mut NamedMemory,
    seen: HashMap<&'a [u8], usize>,
}

fn name_in(text: &[u8], name: Name) -> &[u8] {
    match name {
        Name::Text(start, end) => &text[start..end],
        Name::Fixed(name) => name.as_bytes(),
    }
}

impl<'a> Named<'a> {
    /// None yet.
    pub fn new(text: &'a [u8], memory: &'a mut NamedMemory) -> Self {
        memory.names.clear();
        memory.values.clear();
        memory.scratch.clear();
        Named { text, memory, seen: HashMap::new() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.names.is_empty()
    }

    /// A part of the text.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> &'a [u8] {
        &self.text[start..end]
    }

    /// Adds a field.
    pub fn set(&mut self, name: Name, value: Value) {
        let text = self.text;
        let names = &mut self.memory.names;
        let key = name_in(text, name);
        let known = if names.len() <= FEW_FIELDS {
            names.iter().position(|other| name_in(text, *other) == key)
        } else {
            if self.seen.is_empty() {
                self.seen.extend(names.iter().enumerate().map(|(at, name)| (name_in(text, *name), at)));
            }
            self.seen.get(key).copied()
        };
        match known {
            Some(at) => self.memory.values[at] = value,
            None => {
                if !self.seen.is_empty() {
                    self.seen.insert(key, names.len());
                }
                names.push(name);
                self.memory.values.push(value);
            }
        }
    }

    /// What `write` appends to the scratch memory, as a value.
    pub fn scratch(&mut self, write: impl FnOnce(&'a [u8], &mut Vec<u8>)) -> Value {
        let start = self.memory.scratch.len();
        write(self.text, &mut self.memory.scratch);
        Value::Scratch(start, self.memory.scratch.len())
    }

    /// Writes them as one event. `time`: the event's, where no time field gives one.
    ///
    /// # Errors
    /// `InvalidTime` for a time field that does not fit.
    pub fn write(
        self,
        rules: &FieldRules,
        mut time: Option<i64>,
        cache: &mut FieldCache,
        out: &mut Events,
    ) -> Result<(), Mismatch> {
        let start = out.fields.len();
        let mut pairs = 0;
        let valid = simdutf8::basic::from_utf8(self.text).is_ok();
        for (name, value) in self.memory.names.iter().zip(&self.memory.values) {
            let name = name_in(self.text, *name);
            let fields = &mut out.fields;
            let value = match *value {
                Value::Text(from, to) => &self.text[from..to],
                Value::Scratch(from, to) => &self.memory.scratch[from..to],
                Value::Nil => {
                    rules.write_value(name, &[0xc0], cache, fields, &mut pairs, &mut time)?;
                    continue;
                }
                Value::True => {
                    rules.write_value(name, &[0xc3], cache, fields, &mut pairs, &mut time)?;
                    continue;
                }
            };
            let rule = rules.rule(name);
            rules.write_text(&rule, name, value, valid, cache, fields, &mut pairs, &mut time)?;
        }
        out.push(start, pairs, time);
        Ok(())
    }
}

//! The parsers of delimited text: ltsv, kv, tsv, csv.
//!
//! Splitting is Ruby's `String#split`: a delimiter of one space means runs of white space, and white space at the
//! start is skipped. CSV is what Ruby's CSV library takes: RFC 4180, nil for an empty column without quotes, and
//! only the first row of a text.

mod csv;
mod split;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::extract;
use crate::named::{Name, Named, NamedMemory, Value};
use crate::options::{FieldCache, FieldRule, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp;
use split::Delimiter;

/// One column of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Nothing there.
    Nil,
    /// A part of the text.
    Text(usize, usize),
    /// A part of the scratch memory: text that had to be put together.
    Scratch(usize, usize),
}

/// One caller's columns; memory that is used again from text to text.
#[derive(Debug, Default)]
pub struct Columns {
    /// In order.
    pub list: Vec<Column>,
    /// What [`Column::Scratch`] points into.
    pub scratch: Vec<u8>,
}

impl Columns {
    fn clear(&mut self) {
        self.list.clear();
        self.scratch.clear();
    }

    fn get<'a>(&'a self, text: &'a [u8], index: usize) -> Option<&'a [u8]> {
        match *self.list.get(index)? {
            Column::Nil => None,
            Column::Text(start, end) => text.get(start..end),
            Column::Scratch(start, end) => self.scratch.get(start..end),
        }
    }
}

enum Layout {
    /// Fields that name themselves; `bare`: a name without a value is a field too.
    Labeled { delimiter: Between, label: Delimiter, bare: bool },
    /// Columns between delimiters, at most as many as there are keys.
    Plain { delimiter: Delimiter },
    /// Ruby's CSV library.
    Csv { delimiter: Vec<u8> },
    /// Fluentd's `parser_engine fast`.
    CsvFast { delimiter: Delimiter },
}

enum Between {
    Text(Delimiter),
    Pattern(Regexp),
}

struct Key {
    name: Vec<u8>,
    rule: FieldRule,
    /// Which column it is: the last one of that name.
    column: usize,
}

/// A compiled parser.
pub struct Delimited {
    layout: Layout,
    /// The columns' names; empty for fields that name themselves.
    keys: Vec<Key>,
    columns: usize,
    rules: FieldRules,
    estimate: bool,
}

impl Delimited {
    fn new(layout: Layout, names: &[String], options: &ParseOptions) -> Result<Self, Invalid> {
        let rules = FieldRules::new(options)?;
        let mut keys: Vec<Key> = Vec::new();
        for (column, name) in names.iter().enumerate() {
            match keys.iter_mut().find(|key| key.name == name.as_bytes()) {
                Some(key) => key.column = column,
                None => {
                    let name = name.as_bytes().to_vec();
                    keys.push(Key { rule: rules.rule(&name), name, column });
                }
            }
        }
        let estimate = options.estimate_current_event;
        Ok(Delimited { layout, keys, columns: names.len(), rules, estimate })
    }
}

impl Parser for Delimited {
    fn session(&self) -> Box<dyn Session + '_> {
        let matcher = match &self.layout {
            Layout::Labeled { delimiter: Between::Pattern(pattern), .. } => Some(pattern.matcher()),
            _ => None,
        };
        Box::new(DelimitedSession {
            parser: self,
            cache: self.rules.cache(),
            columns: Columns::default(),
            named: NamedMemory::default(),
            matcher,
        })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        let named = !matches!(self.layout, Layout::Labeled { .. });
        named.then(|| self.keys.iter().map(|key| key.name.clone()).collect())
    }
}

struct DelimitedSession<'a> {
    parser: &'a Delimited,
    cache: FieldCache,
    columns: Columns,
    named: NamedMemory,
    matcher: Option<Matcher>,
}

impl Session for DelimitedSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        self.columns.clear();
        let mut sets_all = true;
        match &self.parser.layout {
            Layout::Labeled { delimiter, label, bare } => {
                return self.labeled(text, delimiter, label, *bare, out);
            }
            Layout::Plain { delimiter } => {
                delimiter.split(text, Some(self.parser.columns), |start, end| {
                    self.columns.list.push(Column::Text(start, end));
                });
            }
            Layout::Csv { delimiter } => {
                if text.is_empty() {
                    return Err(Mismatch::NoMatch);
                }
                csv::row(text, delimiter, self.parser.columns, &mut self.columns)?;
            }
            Layout::CsvFast { delimiter } => {
                sets_all = false;
                csv::fast_row(text, delimiter, &mut self.columns);
            }
        }
        let start = out.fields.len();
        let (mut pairs, mut time) = (0, None);
        let valid = simdutf8::basic::from_utf8(text).is_ok();
        let rules = &self.parser.rules;
        for key in &self.parser.keys {
            if !sets_all && key.column >= self.columns.list.len() {
                continue;
            }
            match self.columns.get(text, key.column) {
                Some(value) => rules.write_text(
                    &key.rule,
                    &key.name,
                    value,
                    valid,
                    &mut self.cache,
                    &mut out.fields,
                    &mut pairs,
                    &mut time,
                )?,
                None => rules.write_value(
                    &key.name,
                    &[0xc0],
                    &mut self.cache,
                    &mut out.fields,
                    &mut pairs,
                    &mut time,
                )?,
            }
        }
        out.push(start, pairs, time);
        Ok(())
    }
}

impl DelimitedSession<'_> {
    fn labeled(
        &mut self,
        text: &[u8],
        delimiter: &Between,
        label: &Delimiter,
        bare: bool,
        out: &mut Events,
    ) -> Result<(), Mismatch> {
        let mut fields = Named::new(text, &mut self.named);
        let field = |start: usize, end: usize| {
            let (key, value) = match label.halves(&text[start..end]) {
                Some((key, value)) => (key, Value::Text(start + value.0, start + value.1)),
                None if bare && start < end => ((0, end - start), Value::Nil),
                None => return,
            };
            fields.set(Name::Text(start + key.0, start + key.1), value);
        };
        match (delimiter, &mut self.matcher) {
            (Between::Pattern(pattern), Some(matcher)) => {
                split::by_pattern(text, pattern, matcher, Script::of(text), field)?;
            }
            (Between::Text(delimiter), _) => delimiter.split(text, None, field),
            (Between::Pattern(_), None) => {}
        }
        fields.write(&self.parser.rules, None, &mut self.cache, out)
    }
}

fn delimiter(param: &str, text: &str) -> Result<Delimiter, Invalid> {
    Delimiter::new(text.as_bytes()).ok_or_else(|| Invalid::new(param, "expected at least one character"))
}

/// What stands between fields, by a regexp: `param` is the parameter that has it.
fn pattern(param: &str, written: &str) -> Result<Between, Invalid> {
    let invalid = |why: String| Invalid::new(param, why);
    let (source, flags) = ruby_regexp::split_literal(written).map_err(|why| invalid(why.to_string()))?;
    Ok(Between::Pattern(extract::compile(source, flags).map_err(invalid)?.0))
}

/// `ltsv_parser(delimiter, delimiter_pattern, label_delimiter, options) -> CompiledParser`
#[pyfunction]
#[pyo3(signature = (delimiter, delimiter_pattern, label_delimiter, options))]
pub fn ltsv_parser(
    delimiter: &str,
    delimiter_pattern: Option<&str>,
    label_delimiter: &str,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let between = match delimiter_pattern {
        None => Between::Text(self::delimiter("delimiter", delimiter)?),
        Some(written) => pattern("delimiter_pattern", written)?,
    };
    let label = self::delimiter("label_delimiter", label_delimiter)?;
    let layout = Layout::Labeled { delimiter: between, label, bare: false };
    Ok(CompiledParser::new(Delimited::new(layout, &[], &ParseOptions::from_dict(options)?)?))
}

/// The kv parser; a `kv_delimiter` between slashes is a regexp.
///
/// # Errors
/// Names the parameter and what was expected.
pub fn key_values(kv_delimiter: &str, kv_char: &str, options: &ParseOptions) -> Result<Delimited, Invalid> {
    let regexp = kv_delimiter.len() > 2 && kv_delimiter.starts_with('/') && kv_delimiter.ends_with('/');
    let between = match kv_delimiter {
        // white space needs no regexp
        r"/\s+/" => Between::Text(Delimiter::Space),
        written if regexp => pattern("kv_delimiter", written)?,
        text => Between::Text(delimiter("kv_delimiter", text)?),
    };
    let label = delimiter("kv_char", kv_char)?;
    Delimited::new(Layout::Labeled { delimiter: between, label, bare: true }, &[], options)
}

/// `kv_parser(kv_delimiter, kv_char, options) -> CompiledParser`
#[pyfunction]
pub fn kv_parser(kv_delimiter: &str, kv_char: &str, options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(key_values(kv_delimiter, kv_char, &ParseOptions::from_dict(options)?)?))
}

/// `tsv_parser(keys, delimiter, options) -> CompiledParser`
#[pyfunction]
pub fn tsv_parser(
    keys: Vec<String>,
    delimiter: &str,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let layout = Layout::Plain { delimiter: self::delimiter("delimiter", delimiter)? };
    Ok(CompiledParser::new(Delimited::new(layout, &keys, &ParseOptions::from_dict(options)?)?))
}

/// `csv_parser(keys, delimiter, fast, options) -> CompiledParser`
#[pyfunction]
pub fn csv_parser(
    keys: Vec<String>,
    delimiter: &str,
    fast: bool,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let split = self::delimiter("delimiter", delimiter)?;
    let layout = if fast {
        Layout::CsvFast { delimiter: split }
    } else if delimiter.contains(['"', '\r', '\n']) {
        let why = format!("{delimiter:?} cannot stand between columns: quotes and line ends have a meaning");
        return Err(Invalid::new("delimiter", why).into());
    } else {
        Layout::Csv { delimiter: delimiter.into() }
    };
    Ok(CompiledParser::new(Delimited::new(layout, &keys, &ParseOptions::from_dict(options)?)?))
}

#[cfg(test)]
mod tests;

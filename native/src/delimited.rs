//! The parsers of delimited text: ltsv, tsv, csv.
//!
//! Splitting is Ruby's `String#split`: a delimiter of one space means runs of white space, and white space at the
//! start is skipped. CSV is what Ruby's CSV library takes: RFC 4180, nil for an empty column without quotes, and
//! only the first row of a text.

mod csv;
mod split;

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::extract;
use crate::options::{FieldCache, FieldRule, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp;
use split::Delimiter;

/// Fields up to this number are compared with each other, more are found by hash.
const FEW_FIELDS: usize = 32;

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
    /// Fields that name themselves.
    Labeled { delimiter: Between, label: Delimiter },
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
            labels: Vec::new(),
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
    labels: Vec<(usize, usize)>,
    matcher: Option<Matcher>,
}

impl Session for DelimitedSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        self.columns.clear();
        let mut sets_all = true;
        match &self.parser.layout {
            Layout::Labeled { delimiter, label } => return self.labeled(text, delimiter, label, out),
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
        out: &mut Events,
    ) -> Result<(), Mismatch> {
        self.labels.clear();
        let (labels, columns) = (&mut self.labels, &mut self.columns.list);
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        let field = |start: usize, end: usize| {
            let Some((key, value)) = label.halves(&text[start..end]) else { return };
            let key = (start + key.0, start + key.1);
            let column = Column::Text(start + value.0, start + value.1);
            let name = &text[key.0..key.1];
            // a label that comes again keeps its place and gets the later value
            let known = if labels.len() <= FEW_FIELDS {
                labels.iter().position(|(start, end)| &text[*start..*end] == name)
            } else {
                if seen.is_empty() {
                    seen.extend(
                        labels.iter().enumerate().map(|(at, (start, end))| (&text[*start..*end], at)),
                    );
                }
                seen.get(name).copied()
            };
            match known {
                Some(place) => columns[place] = column,
                None => {
                    if !seen.is_empty() {
                        seen.insert(name, labels.len());
                    }
                    labels.push(key);
                    columns.push(column);
                }
            }
        };
        match (delimiter, &mut self.matcher) {
            (Between::Pattern(pattern), Some(matcher)) => {
                split::by_pattern(text, pattern, matcher, Script::of(text), field)?;
            }
            (Between::Text(delimiter), _) => delimiter.split(text, None, field),
            (Between::Pattern(_), None) => {}
        }
        let start = out.fields.len();
        let (mut pairs, mut time) = (0, None);
        let valid = simdutf8::basic::from_utf8(text).is_ok();
        let rules = &self.parser.rules;
        for (at, (from, to)) in self.labels.iter().enumerate() {
            let name = &text[*from..*to];
            let value = self.columns.get(text, at).unwrap_or_default();
            let rule = rules.rule(name);
            rules.write_text(
                &rule,
                name,
                value,
                valid,
                &mut self.cache,
                &mut out.fields,
                &mut pairs,
                &mut time,
            )?;
        }
        out.push(start, pairs, time);
        Ok(())
    }
}

fn delimiter(param: &str, text: &str) -> Result<Delimiter, Invalid> {
    Delimiter::new(text.as_bytes()).ok_or_else(|| Invalid::new(param, "expected at least one character"))
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
    let invalid = |why: String| Invalid::new("delimiter_pattern", why);
    let between = match delimiter_pattern {
        None => Between::Text(self::delimiter("delimiter", delimiter)?),
        Some(pattern) => {
            let (source, flags) =
                ruby_regexp::split_literal(pattern).map_err(|why| invalid(why.to_string()))?;
            Between::Pattern(extract::compile(source, flags).map_err(invalid)?.0)
        }
    };
    let label = self::delimiter("label_delimiter", label_delimiter)?;
    let layout = Layout::Labeled { delimiter: between, label };
    Ok(CompiledParser::new(Delimited::new(layout, &[], &ParseOptions::from_dict(options)?)?))
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

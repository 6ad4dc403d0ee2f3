//! Fluentd's common parse parameters, as every compiled parser takes them.
//!
//! The order of work is Fluentd's: first the time field is read (and taken out unless `keep_time_key`),
//! then nil-like texts become nil, then `types` are applied.

use std::collections::HashMap;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{Convert, token_text};
use crate::extract::NullPattern;
use crate::msgpack::{self, Token, read_token, write_str_header, write_text};
use crate::parser::Mismatch;
use crate::pcre::Matcher;
use crate::time::{TimeCache, TimeParser, TimeSpec};

/// A parameter that cannot be used, as compilers of parsers report it. In Python a `ValueError` with
/// the arguments (message, parameter).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The parameter at fault.
    pub param: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Invalid {
    /// For a parameter.
    pub fn new(param: &str, message: impl Into<String>) -> Self {
        Invalid { param: param.to_owned(), message: message.into() }
    }
}

impl From<Invalid> for PyErr {
    fn from(invalid: Invalid) -> PyErr {
        PyValueError::new_err((invalid.message, invalid.param))
    }
}

/// `check_parse_options(options)`: raises for what no parser takes, for one that does not use it too.
#[pyfunction]
pub fn check_parse_options(options: &Bound<'_, PyDict>) -> PyResult<()> {
    FieldRules::new(&ParseOptions::from_dict(options)?)?;
    Ok(())
}

/// The common parameters of a `<parse>` section.
#[derive(Debug, Clone)]
pub struct ParseOptions {
    /// field -> type as written ("integer", "float", "bool", "string", "time:%Y", "array:,").
    pub types: HashMap<String, String>,
    /// The field that holds the event's time.
    pub time_key: Option<String>,
    /// How it is written.
    pub time: TimeSpec,
    /// Leave the time field in the record.
    pub keep_time_key: bool,
    /// Texts that match become nil. As written, slashes and flags included.
    pub null_value_pattern: Option<String>,
    /// Empty texts become nil.
    pub null_empty_string: bool,
    /// Events without a time get the present one.
    pub estimate_current_event: bool,
    /// Longest search of a pattern.
    pub timeout: Option<Duration>,
}

impl Default for ParseOptions {
    fn default() -> Self {
        ParseOptions {
            types: HashMap::new(),
            time_key: None,
            time: TimeSpec::default(),
            keep_time_key: false,
            null_value_pattern: None,
            null_empty_string: false,
            estimate_current_event: true,
            timeout: None,
        }
    }
}

impl ParseOptions {
    /// From what `CommonParser.options()` gives. Absent keys have their defaults.
    ///
    /// # Errors
    /// `TypeError` for values of another type.
    pub fn from_dict(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        fn get<'py, T: FromPyObjectOwned<'py>>(
            options: &Bound<'py, PyDict>,
            key: &str,
        ) -> PyResult<Option<T>> {
            match options.get_item(key)? {
                Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
                _ => Ok(None),
            }
        }
        Ok(ParseOptions {
            types: get(options, "types")?.unwrap_or_default(),
            time_key: get(options, "time_key")?,
            time: TimeSpec {
                kind: get(options, "time_type")?.unwrap_or_default(),
                format: get(options, "time_format")?,
                fallbacks: get(options, "time_format_fallbacks")?.unwrap_or_default(),
                zone: get(options, "timezone")?,
            },
            keep_time_key: get(options, "keep_time_key")?.unwrap_or(false),
            null_value_pattern: get(options, "null_value_pattern")?,
            null_empty_string: get(options, "null_empty_string")?.unwrap_or(false),
            estimate_current_event: get(options, "estimate_current_event")?.unwrap_or(true),
            timeout: get::<f64>(options, "timeout")?
                .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
        })
    }
}

/// What to do with one field; looked up once per field name at compile time, or per key for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldRule {
    time: bool,
    keep: bool,
    convert: Option<u32>,
    nullable: bool,
}

impl FieldRule {
    /// Whether a text goes into the record as it is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.time && self.convert.is_none() && !self.nullable
    }
}

/// One caller's working memory over [`FieldRules`]; belongs into a parser's session.
#[derive(Default)]
pub struct FieldCache {
    /// For [`FieldRules::time`].
    pub time: TimeCache,
    converts: Vec<TimeCache>,
    null: Option<Matcher>,
}

/// Compiled [`ParseOptions`].
pub struct FieldRules {
    /// The time field's parser; there even where no `time_key` is set (syslog has its own time).
    pub time: TimeParser,
    rules: HashMap<Vec<u8>, FieldRule>,
    converts: Vec<Convert>,
    other: FieldRule,
    null_empty_string: bool,
    null_pattern: Option<NullPattern>,
}

impl FieldRules {
    /// Compiles.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        let time = TimeParser::new(&options.time).map_err(|why| Invalid::new(time_param(&why), why))?;
        let nullable = options.null_empty_string || options.null_value_pattern.is_some();
        let other = FieldRule { time: false, keep: true, convert: None, nullable };
        let mut rules = HashMap::new();
        let mut converts = Vec::new();
        for (field, kind) in &options.types {
            let convert = Convert::new(field, kind, options.time.zone.as_deref())?;
            rules.insert(
                field.as_bytes().to_vec(),
                FieldRule { convert: Some(converts.len() as u32), ..other },
            );
            converts.push(convert);
        }
        if let Some(key) = &options.time_key {
            let rule = rules.entry(key.as_bytes().to_vec()).or_insert(other);
            rule.time = true;
            rule.keep = options.keep_time_key;
        }
        let null_pattern = options.null_value_pattern.as_deref().map(NullPattern::new).transpose()?;
        let null_empty_string = options.null_empty_string;
        Ok(FieldRules { time, rules, converts, other, null_empty_string, null_pattern })
    }

    /// Working memory for one caller.
    #[must_use]
    pub fn cache(&self) -> FieldCache {
        FieldCache {
            time: TimeCache::default(),
            converts: vec![TimeCache::default(); self.converts.len()],
            null: self.null_pattern.as_ref().map(NullPattern::matcher),
        }
    }

    /// Whether no field has a rule: values can be written as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.other.is_plain()
    }

    /// The rule for a field, to be kept by parsers whose field names are fixed.
    #[must_use]
    #[inline]
    pub fn rule(&self, field: &[u8]) -> FieldRule {
        if self.rules.is_empty() {
            return self.other;
        }
        self.rules.get(field).copied().unwrap_or(self.other)
    }

    /// Applies `rule` to a text value: appends key and converted value to `fields` and counts the pair,
    /// or takes the value as the event's time.
    ///
    /// # Errors
    /// `InvalidTime` for a time field that does not fit.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub fn write_text(
        &self,
        rule: &FieldRule,
        key: &[u8],
        value: &[u8],
        known_valid_utf8: bool,
        cache: &mut FieldCache,
        fields: &mut Vec<u8>,
        pairs: &mut u32,
        time_ns: &mut Option<i64>,
    ) -> Result<(), Mismatch> {
        if rule.time {
            let time = self.time.parse(value, &mut cache.time).ok_or(Mismatch::InvalidTime)?;
            *time_ns = Some(time);
            if !rule.keep {
                return Ok(());
            }
        }
        write_key(fields, key);
        *pairs += 1;
        if rule.nullable && self.is_null(value, cache) {
            msgpack::write_nil(fields);
        } else if let Some(index) = rule.convert {
            let index = index as usize;
            self.converts[index].write_text(value, known_valid_utf8, &mut cache.converts[index], fields);
        } else {
            write_text(fields, value, known_valid_utf8);
        }
        Ok(())
    }

    /// The same for a value that has a type already (JSON and its like): `value` is one MessagePack value.
    /// Nil and false stay as they are, whatever the rules say.
    ///
    /// # Errors
    /// `InvalidTime` for a time field that does not fit (nil included), `Limit` for malformed `value`.
    pub fn write_value(
        &self,
        key: &[u8],
        value: &[u8],
        cache: &mut FieldCache,
        fields: &mut Vec<u8>,
        pairs: &mut u32,
        time_ns: &mut Option<i64>,
    ) -> Result<(), Mismatch> {
        let rule = self.rule(key);
        if rule.is_plain() {
            write_key(fields, key);
            fields.extend_from_slice(value);
            *pairs += 1;
            return Ok(());
        }
        let token = read_token(value, &mut 0).map_err(|_| Mismatch::Limit)?;
        if rule.time {
            let time = match token {
                Token::Str(text) | Token::Bin(text) => self.time.parse(text, &mut cache.time),
                Token::Uint(seconds) => {
                    i64::try_from(seconds).ok().and_then(|seconds| self.time.from_integer(seconds))
                }
                Token::Int(seconds) => self.time.from_integer(seconds),
                Token::Float(seconds) => self.time.from_number(seconds),
                _ => None,
            };
            *time_ns = Some(time.ok_or(Mismatch::InvalidTime)?);
            if !rule.keep {
                return Ok(());
            }
        }
        write_key(fields, key);
        *pairs += 1;
        match token {
            Token::Str(text) | Token::Bin(text) if rule.nullable && self.is_null(text, cache) => {
                msgpack::write_nil(fields);
            }
            Token::Nil | Token::Bool(false) => fields.extend_from_slice(value),
            _ => match rule.convert {
                None => fields.extend_from_slice(value),
                Some(index) => {
                    let index = index as usize;
                    let cache = &mut cache.converts[index];
                    match token {
                        Token::Str(text) => self.converts[index].write_text(text, false, cache, fields),
                        Token::Bin(text) => self.converts[index].write_text(text, false, cache, fields),
                        _ => {
                            let text = token_text(value);
                            self.converts[index].write_typed(&token, &text, cache, fields);
                        }
                    }
                }
            },
        }
        Ok(())
    }

    #[inline]
    fn is_null(&self, value: &[u8], cache: &mut FieldCache) -> bool {
        if self.null_empty_string && value.is_empty() {
            return true;
        }
        match (&self.null_pattern, &mut cache.null) {
            (Some(pattern), Some(matcher)) => pattern.matches(value, matcher),
            _ => false,
        }
    }
}

fn time_param(why: &str) -> &'static str {
    if why.starts_with("unknown time_type") || why.contains("time_type mixed") {
        "time_type"
    } else if why.starts_with("unknown timezone") {
        "timezone"
    } else {
        "time_format"
    }
}

/// Appends a field name; one that is not UTF-8 goes out as `str` all the same, since a key that is `bin`
/// is no key to most peers.
#[inline]
pub fn write_key(out: &mut Vec<u8>, key: &[u8]) {
    write_str_header(out, key.len());
    out.extend_from_slice(key);
}

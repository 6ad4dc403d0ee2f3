//! Fluentd's common parse parameters, as every compiled parser takes them.
//! (Contract first; the body is written next.)

use std::collections::HashMap;

use crate::parser::Mismatch;
use crate::time::{TimeParser, TimeSpec};

/// The common parameters of a `<parse>` section.
#[derive(Debug, Clone, Default)]
pub struct ParseOptions {
    /// field -> type as written ("integer", "float", "bool", "string", "time:%Y", "array:,", "size").
    pub types: HashMap<String, String>,
    /// The field that holds the event's time.
    pub time_key: Option<String>,
    /// How it is written.
    pub time: TimeSpec,
    /// Leave the time field in the record.
    pub keep_time_key: bool,
    /// Values that match become nil (dropped from the record as Fluentd does).
    pub null_value_pattern: Option<String>,
    /// Empty values become nil.
    pub null_empty_string: bool,
    /// Events without a time get the present one.
    pub estimate_current_event: bool,
}

/// What to do with one field; looked up once per field name at compile time, or per key for JSON.
pub struct FieldRule {}

/// Compiled [`ParseOptions`].
pub struct FieldRules {
    /// The time field's parser.
    pub time: Option<TimeParser>,
}

impl FieldRules {
    /// Compiles.
    ///
    /// # Errors
    /// A message that names the parameter and what was expected.
    pub fn new(_options: &ParseOptions) -> Result<Self, String> {
        todo!()
    }

    /// The rule for a field, to be kept by parsers whose field names are fixed.
    #[must_use]
    pub fn rule(&self, _field: &[u8]) -> FieldRule {
        todo!()
    }

    /// Applies `rule` to a text value: appends key and converted value to `fields` and counts the pair,
    /// or takes the value as the event's time.
    ///
    /// # Errors
    /// `InvalidTime` for a time field that does not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn write_text(
        &self,
        _rule: &FieldRule,
        _key: &[u8],
        _value: &[u8],
        _known_valid_utf8: bool,
        _fields: &mut Vec<u8>,
        _pairs: &mut u32,
        _time_ns: &mut Option<i64>,
    ) -> Result<(), Mismatch> {
        todo!()
    }
}

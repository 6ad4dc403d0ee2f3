//! The options of a [`super::BulkEncoder`], under the names that fluent-plugin-elasticsearch gives them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::expression::Template;
use crate::accessor::Accessor;

/// The bulk API's action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// Adds or replaces.
    #[default]
    Index,
    /// Adds; an id that is there already is a conflict.
    Create,
    /// Changes fields of what is there.
    Update,
    /// Changes, or adds where nothing is there.
    Upsert,
}

impl Operation {
    /// The key of the action line.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Operation::Index => "index",
            Operation::Create => "create",
            Operation::Update | Operation::Upsert => "update",
        }
    }
}

/// What happens to every event.
#[derive(Debug, Clone)]
pub struct Config {
    /// `write_operation`
    pub operation: Operation,
    /// `logstash_format`: the index has the event's date, and `@timestamp` is added.
    pub logstash_format: bool,
    /// `utc_index`: that date in UTC, not in the machine's zone.
    pub utc_index: bool,
    /// `include_timestamp`: `@timestamp` is added.
    pub include_timestamp: bool,
    /// `time_precision`: digits of its fraction.
    pub time_precision: usize,
    /// `time_key`: the field to make it of.
    pub time_key: Option<String>,
    /// `time_key_format`: strptime format of that field.
    pub time_key_format: Option<String>,
    /// `time_key_exclude_timestamp`: such a field only gives the index its date.
    pub time_key_exclude_timestamp: bool,
    /// `tag_key`, where `include_tag_key` is set.
    pub tag_key: Option<String>,
    /// `chunk_id_key` of `<metadata>`, where `include_chunk_id` is set.
    pub chunk_id_key: Option<String>,
    /// `id_key`: a record accessor.
    pub id_key: Option<Accessor>,
    /// `parent_key`
    pub parent_key: Option<Accessor>,
    /// `routing_key`
    pub routing_key: Option<Accessor>,
    /// What servers call it: `routing`, before version 7 `_routing`.
    pub routing_name: String,
    /// `remove_keys`
    pub remove_keys: Vec<String>,
    /// `remove_keys_on_update`
    pub remove_keys_on_update: Vec<String>,
    /// `remove_keys_on_update_key`: the field that holds such a list.
    pub remove_keys_on_update_key: Option<String>,
    /// `suppress_doc_wrap`: updates without `doc` around them.
    pub suppress_doc_wrap: bool,
    /// `flatten_hashes_separator`, where `flatten_hashes` is set.
    pub flatten: Option<String>,
    /// `target_index_key`, split at its dots.
    pub target_index_key: Vec<String>,
    /// The index, or with `logstash_format` what stands before it, where it differs from event to event.
    pub index_template: Option<Template>,
    /// `target_type_key`, split at its dots: only taken out of the record.
    pub target_type_key: Vec<String>,
    /// `include_index_in_url`: one request per index.
    pub include_index_in_url: bool,
    /// Whether the action line has a `_type`: servers before version 8.
    pub with_type: bool,
    /// An id that is the same at every retry, for events without one.
    pub deterministic_id: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            operation: Operation::Index,
            logstash_format: false,
            utc_index: true,
            include_timestamp: false,
            time_precision: 9,
            time_key: None,
            time_key_format: None,
            time_key_exclude_timestamp: false,
            tag_key: None,
            chunk_id_key: None,
            id_key: None,
            parent_key: None,
            routing_key: None,
            routing_name: "routing".to_owned(),
            remove_keys: Vec::new(),
            remove_keys_on_update: Vec::new(),
            remove_keys_on_update_key: None,
            suppress_doc_wrap: false,
            flatten: None,
            target_index_key: Vec::new(),
            index_template: None,
            target_type_key: Vec::new(),
            include_index_in_url: false,
            with_type: false,
            deterministic_id: false,
        }
    }
}

/// As `$.key` where a key has a dot and is no bracket notation: nested keys may lack the prefix.
fn accessor(key: &str) -> PyResult<Accessor> {
    let nested = key.contains('.') && !key.starts_with("$[") && !key.starts_with("$.");
    let accessor = if nested { Accessor::new(&format!("$.{key}")) } else { Accessor::new(key) };
    accessor.map_err(PyValueError::new_err)
}

impl Config {
    /// From Python. None counts as absent, absent as the default.
    ///
    /// # Errors
    /// `ValueError` for an unknown option or value, `TypeError` for one of another type.
    pub fn from_dict(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut config = Config::default();
        for (name, value) in options {
            let name: String = name.extract()?;
            if value.is_none() {
                continue;
            }
            match name.as_str() {
                "write_operation" => {
                    config.operation = match value.extract::<&str>()? {
                        "index" => Operation::Index,
                        "create" => Operation::Create,
                        "update" => Operation::Update,
                        "upsert" => Operation::Upsert,
                        other => {
                            return Err(PyValueError::new_err(format!(
                                "unknown write_operation \"{other}\": expected index, create, update or upsert"
                            )));
                        }
                    }
                }
                "logstash_format" => config.logstash_format = value.extract()?,
                "utc_index" => config.utc_index = value.extract()?,
                "include_timestamp" => config.include_timestamp = value.extract()?,
                "time_precision" => config.time_precision = value.extract::<i64>()?.clamp(0, 64) as usize,
                "time_key" => config.time_key = value.extract()?,
                "time_key_format" => config.time_key_format = value.extract()?,
                "time_key_exclude_timestamp" => config.time_key_exclude_timestamp = value.extract()?,
                "tag_key" => config.tag_key = value.extract()?,
                "chunk_id_key" => config.chunk_id_key = value.extract()?,
                "id_key" => config.id_key = Some(accessor(value.extract()?)?),
                "parent_key" => config.parent_key = Some(accessor(value.extract()?)?),
                "routing_key" => config.routing_key = Some(accessor(value.extract()?)?),
                "routing_name" => config.routing_name = value.extract()?,
                "remove_keys" => config.remove_keys = value.extract()?,
                "remove_keys_on_update" => config.remove_keys_on_update = value.extract()?,
                "remove_keys_on_update_key" => config.remove_keys_on_update_key = value.extract()?,
                "suppress_doc_wrap" => config.suppress_doc_wrap = value.extract()?,
                "flatten_hashes_separator" => config.flatten = value.extract()?,
                "target_index_key" => config.target_index_key = value.extract()?,
                "target_type_key" => config.target_type_key = value.extract()?,
                "index_template" => {
                    let (text, delimiter): (String, String) = value.extract()?;
                    config.index_template =
                        Some(Template::new(&text, &delimiter).map_err(PyValueError::new_err)?);
                }
                "include_index_in_url" => config.include_index_in_url = value.extract()?,
                "with_type" => config.with_type = value.extract()?,
                "deterministic_id" => config.deterministic_id = value.extract()?,
                _ => return Err(PyValueError::new_err(format!("unknown option \"{name}\""))),
            }
        }
        Ok(config)
    }
}

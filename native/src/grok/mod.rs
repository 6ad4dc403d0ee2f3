//! The grok parser, as fluent-plugin-grok-parser has it: patterns of named patterns, tried in order. Each
//! is expanded once into one regexp.

mod expand;
mod explain;

use pyo3::prelude::*;
use pyo3::types::PyDict;

pub use expand::{Expanded, Library};
pub use explain::grok_explain;

use crate::compiled::CompiledParser;
use crate::convert::TYPES;
use crate::extract::{Extractor, ExtractorMemory};
use crate::msgpack::{write_str, write_text};
use crate::options::{Invalid, ParseOptions};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::pcre::Script;
use crate::ruby_regexp;

/// One pattern of the configuration.
pub struct GrokPattern {
    /// As written.
    pub pattern: String,
    /// MessagePack value for `grok_name_key`.
    pub name: Vec<u8>,
    /// Types in the pattern replace `types` here.
    pub options: ParseOptions,
}

struct Compiled {
    extractor: Extractor,
    /// Appended to each match: the pair of `grok_name_key`.
    name_pair: Vec<u8>,
    /// A match without a time counts as none (`estimate_current_event false`), as in the plugin.
    needs_time: bool,
}

/// The compiled parser.
pub struct GrokParser {
    patterns: Vec<Compiled>,
    message_key: Vec<u8>,
    /// Appended to a text that nothing matches: the pair of `grok_failure_key`.
    failure_pair: Vec<u8>,
    /// Whether the failure pair takes the place of the message.
    failure_only: bool,
    keys: Vec<Vec<u8>>,
}

const FAILURE: &[u8] = b"No grok pattern matched";

impl GrokParser {
    /// Compiles; patterns that do not compile are left out and come back with (index, why).
    ///
    /// # Errors
    /// A pattern name that the library has not; no pattern that compiles.
    pub fn new(
        library: &Library,
        patterns: &[GrokPattern],
        multiline: bool,
        name_key: Option<&str>,
        failure_key: Option<&str>,
    ) -> Result<(Self, Vec<(usize, String)>), Invalid> {
        let mut compiled = Vec::new();
        let mut bad = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let expanded =
                library.expand(&pattern.pattern).map_err(|why| Invalid::new("grok_pattern", why))?;
            match compile(&expanded, pattern, multiline) {
                Ok(mut extractor) => {
                    let mut name_pair = Vec::new();
                    if let Some(key) = name_key {
                        extractor.leave_out(key);
                        write_str(&mut name_pair, key.as_bytes());
                        name_pair.extend_from_slice(&pattern.name);
                    }
                    let needs_time = !pattern.options.estimate_current_event;
                    compiled.push(Compiled { extractor, name_pair, needs_time });
                }
                Err(why) => bad.push((index, why.message)),
            }
        }
        if compiled.is_empty() {
            let why = bad
                .first()
                .map_or("expected grok_pattern or a <grok> section with a pattern", |(_, why)| why);
            return Err(Invalid::new("grok_pattern", format!("no grok patterns: {why}")));
        }
        let mut failure_pair = Vec::new();
        if let Some(key) = failure_key {
            write_str(&mut failure_pair, key.as_bytes());
            write_str(&mut failure_pair, FAILURE);
        }
        let mut message_key = Vec::new();
        write_str(&mut message_key, b"message");
        let failure_only = failure_key == Some("message");
        let mut keys: Vec<_> = compiled.iter().flat_map(|pattern| pattern.extractor.keys()).collect();
        keys.extend([name_key, failure_key, Some("message")].into_iter().flatten().map(|key| key.into()));
        Ok((GrokParser { patterns: compiled, message_key, failure_pair, failure_only, keys }, bad))
    }
}

fn compile(expanded: &Expanded, pattern: &GrokPattern, multiline: bool) -> Result<Extractor, Invalid> {
    let (source, mut flags) = ruby_regexp::split_literal(&expanded.source)
        .map_err(|why| Invalid::new("grok_pattern", format!("invalid regexp: {why}")))?;
    flags.multiline |= multiline;
    for (field, _) in &expanded.types {
        // `%{PATH:path:foo}`: a colon in a field's name is a type that does not exist
        if let Some((field, kind)) = field.split_once(':')
            && let kind = kind.split(':').next().unwrap_or_default()
            && !TYPES.contains(&kind)
        {
            let why = format!("unknown type \"{kind}\" for field \"{field}\": expected {}", TYPES.join(", "));
            return Err(Invalid::new("grok_pattern", why));
        }
    }
    let mut options = pattern.options.clone();
    if !expanded.types.is_empty() {
        // "string" is what a text is anyway
        let typed = expanded.types.iter().filter(|(_, kind)| kind != "string");
        options.types = typed.cloned().collect();
    }
    Extractor::new(source, flags, &options, "grok_pattern")
}

impl Parser for GrokParser {
    fn session(&self) -> Box<dyn Session + '_> {
        let memories = self.patterns.iter().map(|_| None).collect();
        Box::new(GrokSession { parser: self, memories })
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        Some(self.keys.clone())
    }
}

struct GrokSession<'a> {
    parser: &'a GrokParser,
    /// Made when a pattern is tried for the first time.
    memories: Vec<Option<ExtractorMemory>>,
}

impl Session for GrokSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let start = out.fields.len();
        let script = Script::of(text);
        let mut given_up = false;
        for (pattern, memory) in self.parser.patterns.iter().zip(&mut self.memories) {
            let memory = memory.get_or_insert_with(|| pattern.extractor.memory());
            match pattern.extractor.extract(text, script, memory, out) {
                Ok(Some((_, None))) if pattern.needs_time => out.fields.truncate(start),
                Ok(Some((mut pairs, time))) => {
                    if !pattern.name_pair.is_empty() {
                        out.fields.extend_from_slice(&pattern.name_pair);
                        pairs += 1;
                    }
                    out.push(start, pairs, time);
                    return Ok(());
                }
                Ok(None) => {}
                Err(Mismatch::MatchLimit) => given_up = true,
                Err(why) => return Err(why),
            }
        }
        if given_up {
            return Err(Mismatch::MatchLimit);
        }
        let mut pairs = 0;
        if !self.parser.failure_only {
            out.fields.extend_from_slice(&self.parser.message_key);
            write_text(&mut out.fields, text, script.is_text());
            pairs += 1;
        }
        if !self.parser.failure_pair.is_empty() {
            out.fields.extend_from_slice(&self.parser.failure_pair);
            pairs += 1;
        }
        out.push(start, pairs, None);
        Ok(())
    }
}

/// `grok_parser(library, patterns, multiline, name_key, failure_key) -> (CompiledParser, [(index, why)])`
#[pyfunction]
pub fn grok_parser(
    library: Vec<String>,
    patterns: Vec<(String, Bound<'_, PyAny>, Bound<'_, PyDict>)>,
    multiline: bool,
    name_key: Option<&str>,
    failure_key: Option<&str>,
) -> PyResult<(CompiledParser, Vec<(usize, String)>)> {
    let library = Library::new(&library);
    let patterns = patterns
        .into_iter()
        .map(|(pattern, name, options)| {
            let mut value = Vec::new();
            match name.extract::<u64>() {
                Ok(index) => crate::msgpack::write_uint(&mut value, index),
                Err(_) => write_str(&mut value, name.extract::<String>()?.as_bytes()),
            }
            Ok(GrokPattern { pattern, name: value, options: ParseOptions::from_dict(&options)? })
        })
        .collect::<PyResult<Vec<_>>>()?;
    let (parser, bad) = GrokParser::new(&library, &patterns, multiline, name_key, failure_key)?;
    Ok((CompiledParser::new(parser), bad))
}

#[cfg(test)]
mod tests;

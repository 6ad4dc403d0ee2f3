//! The lines of container runtimes: CRI (`TIME STREAM TAGS CONTENT`) and Docker's json-file driver.
//!
//! What they cut into parts is put together before it comes here (`tail/join.rs`).

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compiled::CompiledParser;
use crate::ingest::edit::{find_value, walk, write_replaced};
use crate::json_parser::JsonParser;
use crate::msgpack::{self, Token, read_token};
use crate::options::{FieldCache, FieldRules, Invalid, ParseOptions, write_key};
use crate::parser::{Events, Mismatch, Parser, Partial, Session};

/// The four parts of a CRI line: time and stream, the stream, the tags, the content.
#[must_use]
#[inline]
pub fn cri_parts(line: &[u8]) -> Option<[&[u8]; 4]> {
    let time = memchr::memchr(b' ', line)?;
    let stream = time + 1 + memchr::memchr(b' ', &line[time + 1..])?;
    let tags = stream + 1 + memchr::memchr(b' ', &line[stream + 1..])?;
    Some([&line[..stream], &line[time + 1..stream], &line[stream + 1..tags], &line[tags + 1..]])
}

/// The CRI parser.
pub struct CriParser {
    rules: FieldRules,
    time_key: Vec<u8>,
    keep_time_key: bool,
    content: Option<Arc<dyn Parser>>,
    merge_cri_fields: bool,
    estimate: bool,
}

impl CriParser {
    /// `content`: parses what the container wrote; `merge_cri_fields`: adds stream and tags to what it gives.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(
        options: &ParseOptions,
        content: Option<Arc<dyn Parser>>,
        merge_cri_fields: bool,
    ) -> Result<Self, Invalid> {
        Ok(CriParser {
            rules: FieldRules::new(options)?,
            time_key: options.time_key.clone().unwrap_or_else(|| "time".to_owned()).into_bytes(),
            keep_time_key: options.keep_time_key,
            content,
            merge_cri_fields,
            estimate: options.estimate_current_event,
        })
    }
}

impl Parser for CriParser {
    fn session(&self) -> Box<dyn Session + '_> {
        let content = self.content.as_deref().map(|parser| (parser.session(), Events::default()));
        Box::new(CriSession { parser: self, content, cache: self.rules.cache() })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate
    }

    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        if self.content.is_some() {
            return None;
        }
        Some(vec![b"stream".to_vec(), b"logtag".to_vec(), b"message".to_vec(), self.time_key.clone()])
    }

    fn partial(&self) -> Option<Partial> {
        Some(Partial::Cri)
    }

    fn needs_python(&self) -> bool {
        self.content.as_deref().is_some_and(Parser::needs_python)
    }
}

struct CriSession<'a> {
    parser: &'a CriParser,
    content: Option<(Box<dyn Session + 'a>, Events)>,
    cache: FieldCache,
}

impl Session for CriSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let Some([head, stream, tags, content]) = cri_parts(text) else { return Err(Mismatch::NoMatch) };
        let written = &head[..head.len() - stream.len() - 1];
        let time = self.parser.rules.time.parse(written, &mut self.cache.time);
        let Some((session, events)) = &mut self.content else {
            let time = time.ok_or(Mismatch::InvalidTime)?;
            let start = out.fields.len();
            for (key, value) in [(&b"stream"[..], stream), (b"logtag", tags), (b"message", content)] {
                write_key(&mut out.fields, key);
                msgpack::write_text(&mut out.fields, value, false);
            }
            if self.parser.keep_time_key {
                write_key(&mut out.fields, &self.parser.time_key);
                msgpack::write_text(&mut out.fields, written, false);
            }
            out.push(start, 3 + u32::from(self.parser.keep_time_key), Some(time));
            return Ok(());
        };
        events.clear();
        session.parse(content, events)?;
        out.unmatched += events.unmatched;
        for item in &events.items {
            let start = out.fields.len();
            out.fields.extend_from_slice(&events.fields[item.start..item.end]);
            let mut pairs = item.pairs;
            if self.parser.merge_cri_fields {
                for (key, value) in [(&b"stream"[..], stream), (b"logtag", tags)] {
                    pairs += set(&mut out.fields, start, key, value);
                }
            }
            out.push(start, pairs, item.time_ns.or(time));
        }
        Ok(())
    }
}

/// Sets a text field of the pairs from `start` on; how many pairs were added.
fn set(fields: &mut Vec<u8>, start: usize, key: &[u8], text: &[u8]) -> u32 {
    let mut value = Vec::with_capacity(text.len() + 5);
    msgpack::write_text(&mut value, text, false);
    if find_value(&fields[start..], &[], key).is_none() {
        write_key(fields, key);
        fields.extend_from_slice(&value);
        return 1;
    }
    let pairs = fields.split_off(start);
    write_replaced(fields, &pairs, key, &value);
    0
}

/// The parser for Docker's json-file driver: JSON whose field `log` ends with a newline, which is taken off.
pub struct DockerParser {
    json: JsonParser,
}

impl DockerParser {
    /// As the JSON parser.
    ///
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn new(options: &ParseOptions) -> Result<Self, Invalid> {
        Ok(DockerParser { json: JsonParser::new(options)? })
    }
}

impl Parser for DockerParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(DockerSession { json: self.json.session(), events: Events::default() })
    }

    fn estimate_current_event(&self) -> bool {
        self.json.estimate_current_event()
    }

    fn partial(&self) -> Option<Partial> {
        Some(Partial::Docker)
    }
}

struct DockerSession<'a> {
    json: Box<dyn Session + 'a>,
    events: Events,
}

impl Session for DockerSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        self.events.clear();
        self.json.parse(text, &mut self.events)?;
        out.unmatched += self.events.unmatched;
        for item in &self.events.items {
            let start = out.fields.len();
            let fields = &self.events.fields[item.start..item.end];
            let mut done = 0;
            walk(fields, |key, _, value, end| {
                if key == b"log"
                    && let Ok(Token::Str(text)) = read_token(&fields[value..end], &mut 0)
                    && let Some(text) = text.strip_suffix(b"\n")
                {
                    out.fields.extend_from_slice(&fields[done..value]);
                    msgpack::write_str(&mut out.fields, text.strip_suffix(b"\r").unwrap_or(text));
                    done = end;
                }
                true
            });
            out.fields.extend_from_slice(&fields[done..]);
            out.push(start, item.pairs, item.time_ns);
        }
        Ok(())
    }
}

/// `cri_parser(content, merge_cri_fields, options) -> CompiledParser`
#[pyfunction]
#[pyo3(signature = (content, merge_cri_fields, options))]
pub fn cri_parser(
    content: Option<&CompiledParser>,
    merge_cri_fields: bool,
    options: &Bound<'_, PyDict>,
) -> PyResult<CompiledParser> {
    let content = content.map(|parser| Arc::clone(&parser.inner));
    let parser = CriParser::new(&ParseOptions::from_dict(options)?, content, merge_cri_fields)?;
    Ok(CompiledParser::new(parser))
}

/// `docker_parser(options) -> CompiledParser`
#[pyfunction]
pub fn docker_parser(options: &Bound<'_, PyDict>) -> PyResult<CompiledParser> {
    Ok(CompiledParser::new(DockerParser::new(&ParseOptions::from_dict(options)?)?))
}

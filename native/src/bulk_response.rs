//! Answers to bulk requests: which items failed, and why.
//!
//! An answer without errors is read no further than to `"errors":false`. Items with errors are grouped by
//! status, type and field, so that five thousand equal rejections are one group. Formats: Elasticsearch
//! reference, "Bulk API", versions 2 to 9, and OpenSearch.

use std::collections::HashMap;

use memchr::{memchr2, memmem};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::json_in;
use crate::msgpack::{Token, read_token};

/// Deeper answers are refused; the deepest chains of causes have some ten levels.
const MAX_DEPTH: u32 = 200;
/// Reasons quote values of documents; longer ones are cut.
const REASON_MAX_BYTES: usize = 2000;

/// Items that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// HTTP status of the items; 0: the answer names none.
    pub status: u16,
    /// The server's name for the error.
    pub kind: String,
    /// The first item's reason, with its causes.
    pub reason: String,
    /// The document's field, where the reason names one.
    pub field: Option<String>,
    /// Numbers of the items, from 0.
    pub items: Vec<usize>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Milliseconds that the server needed, where it says so.
    pub took_ms: Option<u64>,
    /// Items of `create` whose id was there already.
    pub duplicates: usize,
    /// The items that failed.
    pub failures: Vec<Group>,
}

/// Reads the answer to a request of `sent` items. Without errors its items are not counted.
///
/// # Errors
/// A message that says what is wrong with the answer.
pub fn parse(text: &[u8], sent: usize) -> Result<Answer, String> {
    let mut walk = Walk { text, at: 0 };
    let mut answer = Answer::default();
    let mut errors = None;
    let mut items = None;
    walk.expect(b'{')?;
    let mut more = walk.first(b'}')?;
    while more {
        match walk.key()? {
            b"errors" => match walk.peek()? {
                b't' if walk.word(b"true") => errors = Some(true),
                b'f' if walk.word(b"false") => errors = Some(false),
                _ => return Err(walk.wrong("expected true or false for \"errors\"")),
            },
            b"took" if walk.peek()?.is_ascii_digit() => answer.took_ms = number(walk.value()?),
            b"items" if errors == Some(true) => {
                answer = walk.items(answer, sent)?;
                items = Some(None);
            }
            b"items" => {
                let start = walk.at;
                if errors.is_none() {
                    walk.value()?;
                    items = Some(Some(start));
                }
            }
            _ => {
                walk.value()?;
            }
        }
        if errors == Some(false) {
            return match text.trim_ascii_end().last() {
                Some(b'}') => Ok(answer),
                _ => Err(format!("a bulk answer of {} bytes does not end with a brace", text.len())),
            };
        }
        more = walk.next(b'}')?;
    }
    walk.end()?;
    match (errors, items) {
        (None, _) => Err(format!("no bulk answer: no \"errors\" in {}", start_of(text))),
        (Some(_), None) => Err("a bulk answer with errors but without \"items\"".to_owned()),
        (Some(_), Some(None)) => Ok(answer),
        (Some(_), Some(Some(start))) => Walk { text, at: start }.items(answer, sent),
    }
}

fn start_of(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A string's text, from its JSON with quotes; other values as they are written.
fn decode(raw: &[u8]) -> String {
    if raw == b"null" {
        return String::new();
    }
    let mut value = Vec::new();
    let known = json_in::transcode(raw, &mut value).is_ok();
    match read_token(&value, &mut 0) {
        Ok(Token::Str(text) | Token::Bin(text)) if known => String::from_utf8_lossy(text).into_owned(),
        _ => String::from_utf8_lossy(raw).into_owned(),
    }
}

/// The parts of one error, as they stand in the answer.
#[derive(Debug, Default, Clone, Copy)]
struct Cause<'a> {
    kind: &'a [u8],
    reason: &'a [u8],
}

/// The field that a reason is about, as it stands there.
fn field(reason: &[u8]) -> Option<&[u8]> {
    for (before, behind) in [
        (&b"object mapping for ["[..], &b"]"[..]),
        (b"field [", b"]"),
        (b"failed to parse [", b"]"),
        (b"introduction of [", b"]"),
        (b"mapper [", b"]"),
        (b"term in field=\\\"", b"\\\""),
    ] {
        if let Some(at) = memmem::find(reason, before) {
            let rest = &reason[at + before.len()..];
            return memmem::find(rest, behind).map(|end| &rest[..end]).filter(|name| !name.is_empty());
        }
    }
    None
}

fn describe(causes: &[Cause<'_>]) -> String {
    let mut text = String::new();
    for (depth, cause) in causes.iter().enumerate() {
        let reason = decode(cause.reason);
        if depth > 0 && text.ends_with(&reason) {
            continue; // the same again, which older servers do
        }
        if depth > 0 {
            text.push_str(": ");
            if !cause.kind.is_empty() {
                text.push_str(&decode(cause.kind));
                text.push_str(": ");
            }
        }
        text.push_str(&reason);
    }
    if text.len() > REASON_MAX_BYTES {
        let end = (0..=REASON_MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// What the items of a group have in common: status, type, field.
type Alike<'a> = (u16, &'a [u8], Option<&'a [u8]>);

/// Goes over JSON without decoding it.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    #[cold]
    fn wrong(&self, what: &str) -> String {
        let from = self.at.min(self.text.len());
        let near = String::from_utf8_lossy(&self.text[from..self.text.len().min(from + 40)]);
        format!("bulk answer broken at byte {from}: {what}, not {near:?}")
    }

    fn peek(&mut self) -> Result<u8, String> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(format!("bulk answer cut off after {} bytes", self.text.len()))
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek()? != byte {
            return Err(self.wrong(&format!("expected '{}'", byte as char)));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// After an opening bracket: whether anything is inside; takes `close` if not.
    fn first(&mut self, close: u8) -> Result<bool, String> {
        let empty = self.peek()? == close;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// After a value: whether another follows; takes the comma or `close`.
    fn next(&mut self, close: u8) -> Result<bool, String> {
        let byte = self.peek()?;
        if byte != b',' && byte != close {
            return Err(self.wrong(&format!("expected ',' or '{}'", close as char)));
        }
        self.at += 1;
        Ok(byte == b',')
    }

    fn end(&mut self) -> Result<(), String> {
        match self.peek() {
            Ok(_) => Err(self.wrong("expected the end")),
            Err(_) => Ok(()),
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a [u8], String> {
        self.expect(b'"')?;
        let start = self.at - 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                self.at = start;
                return Err(self.wrong("a string without an end"));
            };
            self.at += found + 1;
            if rest[found] == b'"' {
                return Ok(&self.text[start..self.at]);
            }
            self.at += 1;
        }
    }

    /// A key without its quotes, and the colon.
    fn key(&mut self) -> Result<&'a [u8], String> {
        let quoted = self.string()?;
        self.expect(b':')?;
        Ok(&quoted[1..quoted.len() - 1])
    }

    /// A whole value.
    fn value(&mut self) -> Result<&'a [u8], String> {
        self.peek()?;
        let start = self.at;
        self.skip(0)?;
        Ok(&self.text[start..self.at])
    }

    fn skip(&mut self, depth: u32) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("nested too deeply"));
        }
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                self.at += 1;
                let mut more = self.first(b'}')?;
                while more {
                    self.key()?;
                    self.skip(depth + 1)?;
                    more = self.next(b'}')?;
                }
            }
            b'[' => {
                self.at += 1;
                let mut more = self.first(b']')?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.next(b']')?;
                }
            }
            b'-' | b'0'..=b'9' => {
                let digits = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                self.at += self.text[self.at..].iter().take_while(digits).count();
            }
            _ => {
                if !(self.word(b"true") || self.word(b"false") || self.word(b"null")) {
                    return Err(self.wrong("expected a value"));
                }
            }
        }
        Ok(())
    }

    /// The array of items.
    fn items(&mut self, mut answer: Answer, sent: usize) -> Result<Answer, String> {
        let mut groups: HashMap<Alike<'a>, usize> = HashMap::new();
        let mut causes = Vec::new();
        let mut count = 0;
        self.expect(b'[')?;
        let mut more = self.first(b']')?;
        while more {
            causes.clear();
            self.expect(b'{')?;
            let action = self.key()?;
            let status = self.item(&mut causes)?;
            self.expect(b'}')?;
            let conflict = status == Some(409) && action == b"create";
            answer.duplicates += usize::from(conflict);
            if !conflict && !matches!(status, Some(200..=299)) {
                let status = status.unwrap_or(0);
                let kind = causes.first().map_or(&b""[..], |cause| cause.kind);
                let field = causes.iter().find_map(|cause| field(cause.reason));
                let index = *groups.entry((status, kind, field)).or_insert_with(|| {
                    answer.failures.push(Group {
                        status,
                        kind: decode(kind),
                        reason: describe(&causes),
                        field: field.map(|name| decode(&[b"\"", name, b"\""].concat())),
                        items: Vec::new(),
                    });
                    answer.failures.len() - 1
                });
                answer.failures[index].items.push(count);
            }
            count += 1;
            more = self.next(b']')?;
        }
        if count != sent {
            return Err(format!("a bulk answer of {count} items to a request of {sent}"));
        }
        Ok(answer)
    }

    /// One item's object; gives its status.
    fn item(&mut self, causes: &mut Vec<Cause<'a>>) -> Result<Option<u16>, String> {
        let mut status = None;
        self.expect(b'{')?;
        let mut more = self.first(b'}')?;
        while more {
            match self.key()? {
                b"status" => status = number(self.value()?).and_then(|status| u16::try_from(status).ok()),
                b"error" => self.error(causes, 0)?,
                _ => {
                    self.value()?;
                }
            }
            more = self.next(b'}')?;
        }
        Ok(status)
    }

    /// An error: an object with a cause each, or a text (servers before version 5).
    fn error(&mut self, causes: &mut Vec<Cause<'a>>, depth: u32) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("nested too deeply"));
        }
        let at = causes.len();
        causes.push(Cause::default());
        if self.peek()? != b'{' {
            causes[at].reason = self.value()?;
            return Ok(());
        }
        self.at += 1;
        let mut more = self.first(b'}')?;
        while more {
            match self.key()? {
                b"type" => causes[at].kind = self.value()?,
                b"reason" => causes[at].reason = self.value()?,
                b"caused_by" => self.error(causes, depth + 1)?,
                _ => {
                    self.value()?;
                }
            }
            more = self.next(b'}')?;
        }
        Ok(())
    }
}

/// A [`Group`] for Python: status, type, reason, field, numbers of the items.
type Failure = (u16, String, String, Option<String>, Vec<usize>);

/// What a bulk answer says. Immutable.
#[pyclass(frozen, get_all, module = "forwarder._native")]
pub struct BulkOutcome {
    /// Milliseconds that the server needed.
    took_ms: Option<u64>,
    /// Items of `create` whose id was there already.
    duplicates: usize,
    /// (status, type, reason, field, numbers of the items)
    failures: Vec<Failure>,
}

/// `parse_bulk_response(body, sent) -> BulkOutcome`
///
/// # Errors
/// `ValueError` says what is wrong with the answer.
#[pyfunction]
pub fn parse_bulk_response(py: Python<'_>, body: &Bound<'_, PyAny>, sent: usize) -> PyResult<BulkOutcome> {
    let body = match body.cast::<PyBytes>() {
        Ok(bytes) => bytes.clone(),
        Err(_) => PyBytes::new(py, &PyBuffer::<u8>::get(body)?.to_vec(py)?),
    };
    let text = body.as_bytes();
    let answer = py.detach(|| parse(text, sent)).map_err(PyValueError::new_err)?;
    Ok(BulkOutcome {
        took_ms: answer.took_ms,
        duplicates: answer.duplicates,
        failures: answer
            .failures
            .into_iter()
            .map(|group| (group.status, group.kind, group.reason, group.field, group.items))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(action: &str, status: u16, error: &str) -> String {
        let error = if error.is_empty() { String::new() } else { format!(",\"error\":{error}") };
        format!("{{\"{action}\":{{\"_index\":\"a\",\"_id\":\"\\\"1\",\"status\":{status}{error}}}}}")
    }

    fn answer(items: &[String]) -> String {
        format!("{{\"took\":7,\"errors\":true,\"items\":[{}]}}", items.join(","))
    }

    #[test]
    fn an_answer_without_errors_is_not_read_on() {
        for text in [
            r#"{"took":3,"errors":false,"items":[nonsense]}"#,
            r#"{"ingest_took": 1, "took": 3, "errors" : false , "items": [...}"#,
            r#"{"items":[{"index":{"status":201,"errors":true}}],"took":3,"errors":false}"#,
        ] {
            let expected = Answer { took_ms: Some(3), ..Answer::default() };
            assert_eq!(parse(text.as_bytes(), 1), Ok(expected), "{text}");
        }
    }

    #[test]
    fn failures_are_grouped() {
        let conflict = r#"{"type":"mapper_parsing_exception","reason":"failed to parse field [a.b] of type [long] in document with id 'x'. Preview of field's value: 'y\"'","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"y\""}}"#;
        let busy = r#"{"type":"es_rejected_execution_exception","reason":"queue full","x":[{"y":[]}]}"#;
        let items = [
            item("index", 201, ""),
            item("index", 400, conflict),
            item("index", 429, busy),
            item("index", 400, &conflict.replace("'x'", "'z'")),
            item("index", 400, &conflict.replace("a.b", "c")),
        ];
        let read = parse(answer(&items).as_bytes(), 5).unwrap();
        let kinds: Vec<_> = read
            .failures
            .iter()
            .map(|group| (group.status, group.kind.as_str(), group.field.as_deref(), group.items.as_slice()))
            .collect();
        let mapping = "mapper_parsing_exception";
        assert_eq!(
            kinds,
            [
                (400, mapping, Some("a.b"), &[1, 3][..]),
                (429, "es_rejected_execution_exception", None, &[2]),
                (400, mapping, Some("c"), &[4]),
            ]
        );
        assert_eq!(
            read.failures[0].reason,
            "failed to parse field [a.b] of type [long] in document with id 'x'. Preview of field's value: \
             'y\"': illegal_argument_exception: For input string: \"y\""
        );
        assert_eq!(read.took_ms, Some(7));
        let later = format!("{{\"items\":[{}],\"errors\":true}}", items.join(","));
        assert_eq!(parse(later.as_bytes(), 5).unwrap().failures, read.failures);
    }

    #[test]
    fn a_conflict_of_create_is_a_duplicate() {
        let error = r#"{"type":"version_conflict_engine_exception","reason":"document already exists"}"#;
        let items = [item("create", 409, error), item("create", 201, ""), item("update", 409, error)];
        let read = parse(answer(&items).as_bytes(), 3).unwrap();
        assert_eq!(read.duplicates, 1);
        assert_eq!(read.failures.len(), 1);
        assert_eq!((read.failures[0].status, read.failures[0].items.as_slice()), (409, &[2][..]));
    }

    #[test]
    fn fields_that_reasons_name() {
        for (reason, expected) in [
            (
                "object mapping for [a] tried to parse field [b] as object, but found a concrete value",
                Some("a"),
            ),
            ("mapper [a.b] cannot be changed from type [long] to [text]", Some("a.b")),
            ("Could not dynamically add mapping for field [x.y]. Existing mapping for [x]", Some("x.y")),
            ("mapping set to strict, dynamic introduction of [n] within [_doc] is not allowed", Some("n")),
            ("failed to parse [old]", Some("old")),
            (r#"Document contains at least one immense term in field=\"msg\" (whose"#, Some("msg")),
            ("Limit of total fields [1000] has been exceeded", None),
            ("field [", None),
            ("field []", None),
        ] {
            assert_eq!(field(reason.as_bytes()), expected.map(str::as_bytes), "{reason}");
        }
    }

    #[test]
    fn odd_items() {
        for (text, group) in [
            (r#"{"index":{"status":500,"error":"boom \u00e9"}}"#, (500, "", "boom é")),
            (r#"{"index":{"_id":"1"}}"#, (0, "", "")),
            (r#"{"index":{"status":"x","error":{}}}"#, (0, "", "")),
            (r#"{"index":{"status":503,"error":{"type":null,"reason":null}}}"#, (503, "", "")),
        ] {
            let read = parse(answer(&[text.to_owned()]).as_bytes(), 1).unwrap();
            let found = &read.failures[0];
            assert_eq!((found.status, found.kind.as_str(), found.reason.as_str()), group, "{text}");
        }
        let long = format!(r#"{{"type":"t","reason":"{}"}}"#, "é".repeat(2000));
        let read = parse(answer(&[item("index", 400, &long)]).as_bytes(), 1).unwrap();
        assert!(read.failures[0].reason.len() <= REASON_MAX_BYTES + 3);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (text, what) in [
            ("", "cut off"),
            ("[]", "expected '{'"),
            ("{}", "no \"errors\""),
            (r#"{"error":{"type":"x"},"status":400}"#, "no \"errors\""),
            (r#"{"errors":1}"#, "true or false"),
            (r#"{"errors":true}"#, "without \"items\""),
            (r#"{"errors":false"#, "brace"),
            (r#"{"errors":true,"items":[]}"#, "0 items to a request of 1"),
            (r#"{"errors":true,"items":[{"index":{}}"#, "cut off"),
            (r#"{"errors":true,"items":[{"index":{}}]} x"#, "the end"),
            (r#"{"errors":true,"items":[{}]}"#, "expected '\"'"),
            (r#"{"errors":true,"items":{"a":1}}"#, "expected '['"),
            (r#"{"errors":true "items":[]}"#, "expected ',' or '}'"),
            (r#"{"errors":true,"items":[{"index":{"a":"b\"}}]}"#, "without an end"),
            (r#"{"a":nul}"#, "expected a value"),
        ] {
            let why = parse(text.as_bytes(), 1).unwrap_err();
            assert!(why.contains(what), "{text}: {why}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(parse(deep.as_bytes(), 1).unwrap_err().contains("deeply"));
        let deep = format!(
            "{{\"errors\":true,\"items\":[{{\"index\":{{\"error\":{}",
            "{\"caused_by\":".repeat(100_000)
        );
        assert!(parse(deep.as_bytes(), 1).unwrap_err().contains("deeply"));
    }
}

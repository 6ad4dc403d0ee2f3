//! The grep filter: which events go on, by regexps over their fields.
//!
//! Semantics: Fluentd's filter_grep. A missing field is matched as an empty text, values other than text by
//! their `to_s`, and each invalid sequence of a text counts as `?`. An event goes on where Ruby raises: the match
//! had to be given up, or a text is on the way to a nested field.

use std::borrow::Cow;

use memchr::memmem::Finder;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::accessor::Accessor;
use crate::event::{Batch, EventBatch};
use crate::extract::compile;
use crate::fields::{Fields, Found};
use crate::keep::keep_by_fields;
use crate::msgpack::{Entry, Token, read_token};
use crate::parser::Mismatch;
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_inspect::write_to_s;
use crate::ruby_regexp::{self, Flags};

/// Where a value is.
enum Key {
    /// A top-level field.
    Field(usize),
    /// Deeper.
    Nested(Accessor),
}

/// What is searched for.
enum Pattern {
    /// A text as it is; without `?`, which stands for what is no UTF-8.
    Literal(Box<Finder<'static>>),
    /// A regexp.
    Regexp(Box<Regexp>),
}

/// One regexp over one field.
struct Condition {
    key: Key,
    pattern: Pattern,
}

impl Condition {
    /// `literal`: the pattern may stand in slashes with flags; otherwise it is source as it is.
    fn new(key: &str, pattern: &str, literal: bool, fields: &mut Fields) -> Result<Self, String> {
        let (source, flags) = if literal {
            ruby_regexp::split_literal(pattern).map_err(|why| format!("invalid regexp: {why}"))?
        } else {
            (pattern, Flags::default())
        };
        let (regexp, _) = compile(source, flags)?;
        let accessor = Accessor::new(key)?;
        let key = match accessor.top_level_key() {
            Some(key) => Key::Field(fields.add(key)),
            None => Key::Nested(accessor),
        };
        let pattern = match plain_text(source) {
            Some(text) if flags == Flags::default() => {
                Pattern::Literal(Box::new(Finder::new(&text).into_owned()))
            }
            _ => Pattern::Regexp(Box::new(regexp)),
        };
        Ok(Condition { key, pattern })
    }

    fn matcher(&self) -> Option<Matcher> {
        match &self.pattern {
            Pattern::Literal(_) => None,
            Pattern::Regexp(regexp) => Some(regexp.matcher()),
        }
    }

    #[inline]
    fn matches(
        &self,
        entry: &Entry<'_>,
        found: &Found,
        matcher: &mut Option<Matcher>,
    ) -> Result<bool, Mismatch> {
        let value = match &self.key {
            Key::Field(field) => found.value(entry.body, *field),
            Key::Nested(accessor) => {
                accessor.dig(entry.body, entry.pairs).map_err(|_| Mismatch::Malformed)?
            }
        };
        let text = match value.map(|value| (value, read_token(value, &mut 0))) {
            None => Cow::Borrowed(&b""[..]),
            Some((_, Ok(Token::Str(text) | Token::Bin(text)))) => Cow::Borrowed(text),
            Some((value, Ok(_))) => {
                let mut printed = Vec::new();
                write_to_s(&mut printed, value, &mut 0).map_err(|_| Mismatch::Malformed)?;
                Cow::Owned(printed)
            }
            Some((_, Err(_))) => return Err(Mismatch::Malformed),
        };
        match (&self.pattern, matcher) {
            (Pattern::Literal(finder), _) => Ok(finder.find(&text).is_some()),
            (Pattern::Regexp(regexp), Some(matcher)) => match Script::of(&text) {
                Script::Bytes => {
                    let text = scrub(&text);
                    matcher.search(regexp, &text, Script::of(&text))
                }
                script => matcher.search(regexp, &text, script),
            },
            (Pattern::Regexp(_), None) => Ok(false),
        }
    }
}

/// The text that a pattern without any special character stands for.
fn plain_text(source: &str) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(source.len());
    let mut letters = source.bytes();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            b'\\' => letters.next().filter(|next| next.is_ascii_punctuation() && *next != b'?')?,
            b'.' | b'*' | b'+' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'$' => {
                return None;
            }
            letter => letter,
        });
    }
    Some(text)
}

/// The text with `?` in the place of what is no UTF-8.
fn scrub(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.push(b'?');
        }
    }
    out
}

/// Conditions with working memory of their own.
type Matchers<'a> = Vec<(&'a Condition, Option<Matcher>)>;

/// Keeps and drops events by regexps.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Grep {
    fields: Fields,
    /// All must match. An event goes on only if every group is content.
    regexp_and: Vec<Condition>,
    /// One at least must match.
    regexp_or: Vec<Condition>,
    /// Not all may match.
    exclude_and: Vec<Condition>,
    /// None may match.
    exclude_or: Vec<Condition>,
}

impl Grep {
    /// The events that go on (None: all), and how many of them could not be matched.
    #[must_use]
    pub fn apply(&self, batch: &Batch) -> (Option<Batch>, usize) {
        let mut groups: [Matchers<'_>; 4] =
            [&self.regexp_and, &self.regexp_or, &self.exclude_and, &self.exclude_or]
                .map(|group| group.iter().map(|one| (one, one.matcher())).collect());
        let mut failed = 0;
        let kept = keep_by_fields(batch, &self.fields, |entry, found| {
            goes_on(&mut groups, entry, found).unwrap_or_else(|_| {
                failed += 1;
                true
            })
        });
        (kept, failed)
    }
}

#[inline]
fn goes_on(groups: &mut [Matchers<'_>; 4], entry: &Entry<'_>, found: &Found) -> Result<bool, Mismatch> {
    let [regexp_and, regexp_or, exclude_and, exclude_or] = groups;
    if first(regexp_and, entry, found, false)?
        || (!regexp_or.is_empty() && !first(regexp_or, entry, found, true)?)
        || (!exclude_and.is_empty() && !first(exclude_and, entry, found, false)?)
    {
        return Ok(false);
    }
    Ok(!first(exclude_or, entry, found, true)?)
}

/// Whether a condition of the group has this outcome.
#[inline]
fn first(
    group: &mut Matchers<'_>,
    entry: &Entry<'_>,
    found: &Found,
    outcome: bool,
) -> Result<bool, Mismatch> {
    for (condition, matcher) in group {
        if condition.matches(entry, found, matcher)? == outcome {
            return Ok(true);
        }
    }
    Ok(false)
}

/// (key, pattern, whether the pattern may stand in slashes) per condition.
type Given = Vec<(String, String, bool)>;

#[pymethods]
impl Grep {
    /// `Grep(regexp_and, regexp_or, exclude_and, exclude_or)`
    #[new]
    fn new(regexp_and: Given, regexp_or: Given, exclude_and: Given, exclude_or: Given) -> PyResult<Self> {
        let mut fields = Fields::default();
        let mut compiled = |given: Given| {
            given
                .iter()
                .map(|(key, pattern, literal)| Condition::new(key, pattern, *literal, &mut fields))
                .collect::<Result<Vec<_>, _>>()
                .map_err(PyValueError::new_err)
        };
        let groups =
            (compiled(regexp_and)?, compiled(regexp_or)?, compiled(exclude_and)?, compiled(exclude_or)?);
        let (regexp_and, regexp_or, exclude_and, exclude_or) = groups;
        Ok(Grep { fields, regexp_and, regexp_or, exclude_and, exclude_or })
    }

    /// The events that go on (None: all of them), and how many of them could not be matched.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch) -> (Option<EventBatch>, usize) {
        let (kept, failed) = py.detach(|| self.apply(&batch.batch));
        (kept.map(EventBatch::from), failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    fn batch(values: &[&[u8]]) -> Batch {
        let mut batch = Batch { tags: vec!["t".into()], ..Batch::default() };
        for value in values {
            let start = batch.data.len();
            msgpack::write_entry_start(&mut batch.data, 1);
            msgpack::write_map_header(&mut batch.data, 1);
            msgpack::write_str(&mut batch.data, b"a");
            batch.data.extend_from_slice(value);
            batch.book(0, batch.data.len() - start);
        }
        batch
    }

    fn kept(pattern: &str, value: &[u8]) -> bool {
        let given = vec![("a".to_owned(), pattern.to_owned(), true)];
        let grep = Grep::new(given, vec![], vec![], vec![]).unwrap();
        let (result, failed) = grep.apply(&batch(&[value]));
        assert_eq!(failed, 0);
        result.is_none_or(|batch| batch.count == 1)
    }

    #[test]
    fn values_are_matched_by_their_to_s() {
        for (value, pattern, expected) in [
            (&b"\xa2ab"[..], "b$", true),
            (b"\xa2ab", "/B/", false),
            (b"\xa2ab", "/B/i", true),
            (b"\x2a", "^42$", true),
            (b"\xc0", "^$", true),
            (b"\xc3", "^true$", true),
            (b"\x92\xa1a\xa1b", r#"^\["a", "b"\]$"#, true),
            (b"\x81\xa1k\x01", r#"\{"k"=>1\}"#, true),
            (b"\xcb\x3f\xf8\0\0\0\0\0\0", r"^1\.5$", true),
            (b"\xc4\x02a\xff", r"^a\?$", true),
            (b"\xa2\xc3\xa9", "^.$", true),
            (b"\xa2\xc3\xa9", "/\u{e9}/", true),
            (b"\xa4/a.b", r"/\/a\.b/", true),
            (b"\xa4/axb", r"/\/a\.b/", false),
            (b"\xa3a\\b", r"a\\b", true),
            (b"\xa3a b", r"a\sb", true),
            (b"\xa1?", r"\?", true),
            (b"\x2a", "42", true),
        ] {
            assert_eq!(kept(pattern, value), expected, "{pattern} {value:?}");
        }
    }

    #[test]
    fn what_stays_is_copied_whole_and_in_order() {
        let all = batch(&[b"\x01", b"\x02", b"\x03", b"\x02", b"\x05"]);
        let given = vec![("a".to_owned(), "2".to_owned(), true)];
        let grep = Grep::new(vec![], vec![], vec![], given).unwrap();
        let (kept, _) = grep.apply(&all);
        assert_eq!(kept.unwrap().data, batch(&[b"\x01", b"\x03", b"\x05"]).data);
    }
}

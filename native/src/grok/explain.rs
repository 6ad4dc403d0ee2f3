//! How far a text matches a grok pattern, for `forwarder grok`.

use pyo3::prelude::*;

use super::expand::{Library, next_reference};
use crate::extract::compile;
use crate::options::Invalid;
use crate::pcre::Script;
use crate::ruby_regexp::Flags;

/// The pattern's elements: `%{...}`, groups, classes, escapes and characters, each with its quantifier;
/// characters that stand for themselves are taken together. One element where alternatives stand at the
/// top.
pub(super) fn elements(pattern: &str) -> Vec<&str> {
    let bytes = pattern.as_bytes();
    let mut found: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let mut literal = false;
        match bytes[at] {
            b'%' if pattern[at..].starts_with("%{") => {
                at += match next_reference(&pattern[at..]).filter(|reference| reference.start == 0) {
                    Some(reference) => reference.end,
                    None => 1,
                };
            }
            b'(' => at = closing(bytes, at),
            b'[' => at = class_end(bytes, at),
            b'\\' => at = (at + 2).min(bytes.len()),
            b'|' => return vec![pattern],
            b'^' | b'$' | b'.' => at += 1,
            _ => {
                literal = true;
                at += 1;
            }
        }
        while at < bytes.len() && !pattern.is_char_boundary(at) {
            at += 1;
        }
        let atom_end = at;
        while at < bytes.len() && matches!(bytes[at], b'*' | b'+' | b'?') {
            at += 1;
        }
        if bytes.get(at) == Some(&b'{') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at = bytes[at..].iter().position(|byte| *byte == b'}').map_or(bytes.len(), |end| at + end + 1);
        }
        literal &= at == atom_end;
        match found.last_mut() {
            Some(last) if literal && last.2 => last.1 = at,
            _ => found.push((start, at, literal)),
        }
    }
    found.into_iter().map(|(start, end, _)| &pattern[start..end]).collect()
}

fn closing(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => at = class_end(bytes, at) - 1,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn class_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// What [`grok_explain`] gives: the elements, how many of them match together, and where (start, end) in
/// bytes of the text.
pub type Explanation = (Vec<String>, usize, usize, usize);

/// How much of `pattern` matches `text`: the longest run of elements from the first one.
///
/// # Errors
/// Unknown names; a pattern that does not compile.
pub fn explain(library: &Library, pattern: &str, text: &[u8]) -> Result<Explanation, Invalid> {
    let invalid = |why: String| Invalid::new("grok_pattern", why);
    let all = library.expand(pattern).map_err(invalid)?;
    compile(&all.source, Flags::default()).map_err(invalid)?;
    let parts = elements(pattern);
    let owned = parts.iter().map(|part| (*part).to_owned()).collect();
    for count in (1..=parts.len()).rev() {
        let Ok(expanded) = library.expand(&parts[..count].concat()) else { continue };
        let Ok((regexp, _)) = compile(&expanded.source, Flags::default()) else { continue };
        let mut matcher = regexp.matcher();
        if matcher.search(&regexp, text, Script::of(text)) == Ok(true) {
            let found = matcher.capture(text, 0).unwrap_or_default();
            let start = found.as_ptr() as usize - text.as_ptr() as usize;
            return Ok((owned, count, start, start + found.len()));
        }
    }
    Ok((owned, 0, 0, 0))
}

/// `grok_explain(library, pattern, text) -> (elements, matched, start, end)`
#[pyfunction]
pub fn grok_explain(library: Vec<String>, pattern: &str, text: &[u8]) -> PyResult<Explanation> {
    Ok(explain(&Library::new(&library), pattern, text)?)
}

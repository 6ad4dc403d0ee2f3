//! Record accessors: Fluentd's `key`, `$.a.b[0]` and `$['a']["b"][0]`, compiled, over MessagePack pairs.

use crate::msgpack::{self, Malformed, Token, read_token, skip_value};

/// One step into a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of a map's key.
    Key(Vec<u8>),
    /// An array's element; negative counts from the end.
    Index(i64),
}

/// Where a field is in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accessor {
    steps: Vec<Step>,
}

/// There is something on the way to a field that has no fields or elements, or others: a text, or an array
/// where a hash is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoWay;

impl From<Malformed> for NoWay {
    fn from(_: Malformed) -> Self {
        NoWay
    }
}

/// Whether `token` is a key that is written `key` in a configuration.
#[inline]
#[must_use]
pub fn is_key(token: &Token<'_>, key: &[u8]) -> bool {
    matches!(token, Token::Str(raw) | Token::Bin(raw) if *raw == key)
}

impl Accessor {
    /// Compiles the accessor syntax; what starts with neither `$.` nor `$[` is a plain key.
    ///
    /// # Errors
    /// A message that says what is wrong with `text`.
    pub fn new(text: &str) -> Result<Self, String> {
        let steps = if let Some(rest) = text.strip_prefix("$.") {
            dotted(rest, text)?
        } else if text.starts_with("$[") {
            bracketed(&text[1..], text)?
        } else {
            vec![Step::Key(text.as_bytes().to_vec())]
        };
        Ok(Accessor { steps })
    }

    /// From steps that are known. None at all is no field.
    #[must_use]
    pub fn from_steps(steps: Vec<Step>) -> Self {
        Accessor { steps }
    }

    /// The key, where the accessor is one top-level key.
    #[must_use]
    pub fn top_level_key(&self) -> Option<&[u8]> {
        match self.steps.as_slice() {
            [Step::Key(key)] => Some(key),
            _ => None,
        }
    }

    /// The steps, at least one.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The value (its MessagePack bytes) in a record of `pairs` pairs; None where there is none.
    #[must_use]
    pub fn get<'a>(&self, body: &'a [u8], pairs: usize) -> Option<&'a [u8]> {
        self.dig(body, pairs).ok().flatten()
    }

    /// The same as Ruby's `dig`.
    ///
    /// # Errors
    /// [`NoWay`] where a step does not fit the value that it starts from.
    pub fn dig<'a>(&self, body: &'a [u8], pairs: usize) -> Result<Option<&'a [u8]>, NoWay> {
        let Some((first, rest)) = self.steps.split_first() else { return Ok(None) };
        let mut pos = 0;
        if seek(body, &mut pos, Token::Map(pairs), first)?.is_none() {
            return Ok(None);
        }
        for step in rest {
            let head = read_token(body, &mut pos)?;
            if seek(body, &mut pos, head, step)?.is_none() {
                return match (head, step) {
                    (Token::Nil | Token::Map(_), _) | (Token::Array(_), Step::Index(_)) => Ok(None),
                    _ => Err(NoWay),
                };
            }
        }
        let start = pos;
        skip_value(body, &mut pos)?;
        Ok(Some(&body[start..pos]))
    }

    /// Appends the pairs of a record without the accessor's field, and says how many they are. A record
    /// that has no such field is appended as it is; an emptied map or array stays, empty.
    ///
    /// # Errors
    /// [`Malformed`] for broken bytes; `out` then has a part of the record.
    pub fn write_without(&self, body: &[u8], pairs: usize, out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut pos = 0;
        if self.steps.len() == 1 || self.get(body, pairs).is_none() {
            let Some(Step::Key(key)) = self.steps.first() else {
                out.extend_from_slice(body);
                return Ok(pairs);
            };
            return if self.steps.len() == 1 {
                write_map_without(body, &mut pos, pairs, key, out)
            } else {
                out.extend_from_slice(body);
                Ok(pairs)
            };
        }
        write_inner(body, &mut pos, Token::Map(pairs), &self.steps, out)?;
        Ok(pairs)
    }
}

/// Moves `pos`, which stands on the first child of `head`, to the value that `step` names.
fn seek(data: &[u8], pos: &mut usize, head: Token<'_>, step: &Step) -> Result<Option<()>, Malformed> {
    match (head, step) {
        (Token::Map(pairs), Step::Key(key)) => {
            for _ in 0..pairs {
                if is_key(&next_key(data, pos)?, key) {
                    return Ok(Some(()));
                }
                skip_value(data, pos)?;
            }
        }
        (Token::Array(len), Step::Index(index)) => {
            if let Some(index) = resolve(*index, len) {
                for _ in 0..index {
                    skip_value(data, pos)?;
                }
                return Ok(Some(()));
            }
        }
        _ => {}
    }
    Ok(None)
}

/// Reads a key; one that is an array or map is passed as a whole and gives Nil, which no step names.
#[inline]
fn next_key<'a>(data: &'a [u8], pos: &mut usize) -> Result<Token<'a>, Malformed> {
    let start = *pos;
    match read_token(data, pos)? {
        Token::Array(_) | Token::Map(_) => {
            *pos = start;
            skip_value(data, pos)?;
            Ok(Token::Nil)
        }
        token => Ok(token),
    }
}

fn resolve(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

fn write_map_without(
    data: &[u8],
    pos: &mut usize,
    pairs: usize,
    key: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize, Malformed> {
    let mut kept = 0;
    let mut start = *pos;
    for _ in 0..pairs {
        let pair = *pos;
        let drop = is_key(&next_key(data, pos)?, key);
        skip_value(data, pos)?;
        if drop {
            out.extend_from_slice(&data[start..pair]);
            start = *pos;
        } else {
            kept += 1;
        }
    }
    out.extend_from_slice(&data[start..*pos]);
    Ok(kept)
}

/// Copies the children of `head` without what `steps` leads to, which is known to be there.
fn write_inner(
    data: &[u8],
    pos: &mut usize,
    head: Token<'_>,
    steps: &[Step],
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    let (count, is_map) = match head {
        Token::Map(pairs) => (pairs, true),
        Token::Array(len) => (len, false),
        _ => return Ok(()),
    };
    let wanted = if let Step::Index(index) = step { resolve(*index, count) } else { None };
    let mut found = false;
    for at in 0..count {
        let start = *pos;
        let hit = if is_map {
            let token = next_key(data, pos)?;
            matches!(step, Step::Key(key) if is_key(&token, key))
        } else {
            wanted == Some(at)
        };
        if !hit || found {
            skip_value(data, pos)?;
            out.extend_from_slice(&data[start..*pos]);
            continue;
        }
        found = true;
        out.extend_from_slice(&data[start..*pos]);
        match (read_token(data, pos)?, rest) {
            (Token::Map(pairs), [Step::Key(key)]) => {
                let mut inner = Vec::new();
                let kept = write_map_without(data, pos, pairs, key, &mut inner)?;
                msgpack::write_map_header(out, kept);
                out.extend_from_slice(&inner);
            }
            (Token::Array(len), [Step::Index(index)]) => {
                let gone = resolve(*index, len);
                msgpack::write_array_header(out, len - usize::from(gone.is_some()));
                for at in 0..len {
                    let start = *pos;
                    skip_value(data, pos)?;
                    if gone != Some(at) {
                        out.extend_from_slice(&data[start..*pos]);
                    }
                }
            }
            (head, rest) => {
                match head {
                    Token::Map(pairs) => msgpack::write_map_header(out, pairs),
                    Token::Array(len) => msgpack::write_array_header(out, len),
                    _ => {}
                }
                write_inner(data, pos, head, rest, out)?;
            }
        }
    }
    Ok(())
}

fn dotted(rest: &str, whole: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    // as in Ruby's split, empty keys at the end do not count
    for key in rest.trim_end_matches('.').split('.') {
        let (name, mut brackets) = key.find('[').map_or((key, ""), |at| key.split_at(at));
        if name.contains(char::is_whitespace) {
            return Err(format!("{whole}: white space in dot notation; write $['{name}']"));
        }
        if !name.is_empty() || brackets.is_empty() {
            steps.push(Step::Key(name.as_bytes().to_vec()));
        }
        while !brackets.is_empty() {
            let (index, after) = bracket(brackets, whole)?;
            steps.push(Step::Index(number(index, whole)?));
            brackets = after;
        }
    }
    if rest.trim_end_matches('.').is_empty() {
        return Err(format!("{whole}: a key is missing after \"$.\""));
    }
    Ok(steps)
}

fn bracketed(mut rest: &str, whole: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('[').and_then(|inner| {
            let quote = inner.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
            Some((&inner[1..], quote))
        });
        if let Some((inner, quote)) = quoted {
            let end = inner
                .find(&format!("{quote}]"))
                .ok_or_else(|| format!("{whole}: {quote} and ] are missing after [{quote}{inner}"))?;
            steps.push(Step::Key(inner.as_bytes()[..end].to_vec()));
            rest = &inner[end + 2..];
        } else {
            let (index, after) = bracket(rest, whole)?;
            steps.push(Step::Index(number(index, whole)?));
            rest = after;
        }
    }
    Ok(steps)
}

/// `[index]rest` as (index, rest).
fn bracket<'a>(text: &'a str, whole: &str) -> Result<(&'a str, &'a str), String> {
    let inner = text.strip_prefix('[').ok_or_else(|| format!("{whole}: expected [ before {text}"))?;
    inner.split_once(']').ok_or_else(|| format!("{whole}: ] is missing after [{inner}"))
}

fn number(text: &str, whole: &str) -> Result<i64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{whole}: [{text}] is neither a number nor a key in quotes, as in ['{text}']"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack::{write_array_header, write_map_header, write_str, write_uint};

    fn key(name: &str) -> Step {
        Step::Key(name.as_bytes().to_vec())
    }

    #[test]
    fn the_syntax_is_fluentds() {
        for (text, steps) in [
            ("log", vec![key("log")]),
            ("$log", vec![key("$log")]),
            ("a.b", vec![key("a.b")]),
            ("$.a.b", vec![key("a"), key("b")]),
            ("$.a[0][-1].b", vec![key("a"), Step::Index(0), Step::Index(-1), key("b")]),
            ("$.[2].b", vec![Step::Index(2), key("b")]),
            ("$['a.b']['c d']", vec![key("a.b"), key("c d")]),
            ("$[\"a\"][3]['b']", vec![key("a"), Step::Index(3), key("b")]),
        ] {
            assert_eq!(Accessor::new(text).unwrap().steps(), steps, "{text}");
        }
        for text in ["$.", "$.a b", "$.a[", "$.a[x]", "$.a[0]b", "$['a", "$['a\"]", "$[a]", "$['a']b", "$[]"]
        {
            assert!(Accessor::new(text).unwrap_err().starts_with(text), "{text}");
        }
    }

    /// {"x": 1, "a": {"b": [5, {"c": "v"}], "d": 2}}
    fn record() -> Vec<u8> {
        let mut out = Vec::new();
        write_str(&mut out, b"x");
        write_uint(&mut out, 1);
        write_str(&mut out, b"a");
        write_map_header(&mut out, 2);
        write_str(&mut out, b"b");
        write_array_header(&mut out, 2);
        write_uint(&mut out, 5);
        write_map_header(&mut out, 1);
        write_str(&mut out, b"c");
        write_str(&mut out, b"v");
        write_str(&mut out, b"d");
        write_uint(&mut out, 2);
        out
    }

    #[test]
    fn fields_are_found_and_left_out() {
        let body = record();
        for (text, value, shorter) in [
            ("x", Some(&[1u8][..]), 3),
            ("y", None, 0),
            ("$.a.d", Some(&[2]), 3),
            ("$.a.b[0]", Some(&[5]), 1),
            ("$.a.b[-1].c", Some(b"\xa1v"), 4),
            ("$.a.b[2]", None, 0),
            ("$.x.y", None, 0),
            ("$.a.b.c", None, 0),
            ("$[0]", None, 0),
        ] {
            let accessor = Accessor::new(text).unwrap();
            assert_eq!(accessor.get(&body, 2), value, "{text}");
            let mut out = Vec::new();
            let pairs = accessor.write_without(&body, 2, &mut out).unwrap();
            assert_eq!(pairs, if text == "x" { 1 } else { 2 }, "{text}");
            assert_eq!(out.len(), body.len() - shorter, "{text}");
            assert_eq!(
                accessor.get(&out, pairs),
                if text == "$.a.b[0]" { accessor.get(&out, 2) } else { None }
            );
            let mut pos = 0;
            for _ in 0..pairs * 2 {
                skip_value(&out, &mut pos).unwrap();
            }
            assert_eq!(pos, out.len(), "{text}");
        }
    }

    #[test]
    fn broken_records_are_refused_not_read_past() {
        let body = record();
        for len in 0..body.len() {
            for text in ["d", "$.a.d", "$.a.b[-1].c"] {
                let accessor = Accessor::new(text).unwrap();
                let _ = accessor.get(&body[..len], 2);
                let _ = accessor.write_without(&body[..len], 2, &mut Vec::new());
            }
        }
    }
}

//! Methods of texts that search, cut and replace.

use std::borrow::Cow;

use super::eval::{Given, groups, search, wrong_arguments};
use super::node::{Method, Pattern};
use super::text::{char_end, char_len, count_chars, letters};
use super::{Env, Match, Raised, Value, data, limited};
use crate::msgpack;

/// `text[...]`
pub fn index<'a>(
    text: &Cow<'a, [u8]>,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Value<'a>, Raised> {
    match arguments {
        [Given::Pattern(pattern), group @ ..] => {
            let Some(found) = matched(env, pattern, text, 0)? else { return Ok(Value::Nil) };
            match group {
                [] => Ok(data::optional(found.group(0))),
                [group] => data::group(&found, group),
                _ => Err(wrong_arguments(arguments.len())),
            }
        }
        [Given::Value(Value::Text(part))] => {
            let found = memchr::memmem::find(text, part).is_some();
            Ok(if found { Value::Text(part.clone()) } else { Value::Nil })
        }
        [Given::Value(Value::Range(_))] | [_, _] => {
            let Some((start, count)) = data::stretch(arguments, count_chars(text))? else {
                return Ok(Value::Nil);
            };
            let from = char_end(text, start);
            let to = from + char_end(&text[from..], count);
            Ok(Value::text(&text[from..to]))
        }
        [at] => {
            let len = count_chars(text) as i64;
            let at = at.int()?;
            let at = if at < 0 { at + len } else { at };
            if at < 0 || at >= len {
                return Ok(Value::Nil);
            }
            let from = char_end(text, at as usize);
            Ok(Value::text(&text[from..from + char_len(&text[from..])]))
        }
        [..] => Err(wrong_arguments(arguments.len())),
    }
}

fn matched(
    env: &mut Env<'_, '_>,
    pattern: &Pattern,
    text: &[u8],
    from: usize,
) -> Result<Option<Match>, Raised> {
    Ok(search(env, pattern, text, from)?.map(|_| groups(env, pattern, text)))
}

/// Where a text or regexp is found from `from` on.
fn find(
    env: &mut Env<'_, '_>,
    what: &Given<'_>,
    text: &[u8],
    from: usize,
) -> Result<Option<(usize, usize)>, Raised> {
    match what {
        Given::Pattern(pattern) => search(env, pattern, text, from),
        _ => {
            let part = what.text()?;
            Ok(memchr::memmem::find(&text[from..], part).map(|at| (from + at, from + at + part.len())))
        }
    }
}

/// Methods that search. None: it is none of them.
pub fn call<'a>(
    text: &Cow<'a, [u8]>,
    method: Method,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Option<Value<'a>>, Raised> {
    Ok(Some(match (method, arguments) {
        (Method::Sub, [what, with]) => Value::text(replaced(text, what, with.text()?, false, env)?),
        (Method::Gsub, [what, with]) => Value::text(replaced(text, what, with.text()?, true, env)?),
        (Method::StartsWith, _) => {
            let mut found = false;
            for start in arguments {
                found |= match start {
                    Given::Pattern(_) => find(env, start, text, 0)?.is_some_and(|(from, _)| from == 0),
                    _ => text.starts_with(start.text()?),
                };
            }
            Value::Bool(found)
        }
        (Method::Matches, [what]) => Value::Bool(find(env, what, text, 0)?.is_some()),
        (Method::Match, [Given::Pattern(pattern)]) => match matched(env, pattern, text, 0)? {
            Some(found) => Value::Match(Box::new(found)),
            None => Value::Nil,
        },
        (Method::Match, [what]) => match find(env, what, text, 0)? {
            Some((from, to)) => {
                Value::Match(Box::new(Match { groups: vec![Some(text[from..to].to_vec())], names: vec![] }))
            }
            None => Value::Nil,
        },
        (Method::Index, [what]) => match find(env, what, text, 0)? {
            Some((from, _)) => Value::Int(count_chars(&text[..from]) as i128),
            None => Value::Nil,
        },
        (Method::Count, [set]) => {
            let rest = translated(text, set.text()?, None)?;
            Value::Int((count_chars(text) - count_chars(&rest)) as i128)
        }
        (Method::Squeeze, [set]) => {
            let mut out: Vec<u8> = Vec::with_capacity(text.len());
            let mut last = &[][..];
            for letter in letters(text) {
                if letter != last || !translated(letter, set.text()?, None)?.is_empty() {
                    out.extend_from_slice(letter);
                }
                last = letter;
            }
            Value::text(out)
        }
        (Method::Partition, [what]) => match find(env, what, text, 0)? {
            Some((from, to)) => three(&text[..from], &text[from..to], &text[to..]),
            None => three(text, b"", b""),
        },
        (Method::Rpartition, [Given::Value(Value::Text(part))]) => match memchr::memmem::rfind(text, part) {
            Some(from) => three(&text[..from], part, &text[from + part.len()..]),
            None => three(b"", b"", text),
        },
        (Method::Scan, [what]) => scan(text, what, env)?,
        (Method::Split, _) => split(text, arguments, env)?,
        (Method::Tr, [from, to]) => Value::text(translated(text, from.text()?, Some(to.text()?))?),
        (Method::Delete, [what]) => Value::text(translated(text, what.text()?, None)?),
        _ => return Ok(None),
    }))
}

fn three<'a>(before: &[u8], part: &[u8], behind: &[u8]) -> Value<'a> {
    data::texts([before, part, behind].into_iter().map(Some))
}

fn replaced(
    text: &[u8],
    what: &Given<'_>,
    with: &[u8],
    all: bool,
    env: &mut Env<'_, '_>,
) -> Result<Vec<u8>, Raised> {
    let mut out = Vec::with_capacity(text.len());
    let (mut from, mut copied) = (0, 0);
    while let Some((start, end)) = find(env, what, text, from)? {
        out.extend_from_slice(&text[copied..start]);
        expand(with, text, (start, end), what, env, &mut out)?;
        limited(out.len())?;
        copied = end;
        if !all {
            break;
        }
        from = end;
        if start == end {
            let next = char_len(&text[end..]);
            if next == 0 {
                break;
            }
            out.extend_from_slice(&text[end..end + next]);
            copied = end + next;
            from = copied;
        }
    }
    out.extend_from_slice(&text[copied.min(text.len())..]);
    Ok(out)
}

/// Appends a replacement, with what `\1`, `\0`, `\k<name>` and their like stand for.
fn expand(
    with: &[u8],
    text: &[u8],
    (start, end): (usize, usize),
    what: &Given<'_>,
    env: &Env<'_, '_>,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    if !with.contains(&b'\\') {
        out.extend_from_slice(with);
        return Ok(());
    }
    let found = match what {
        Given::Pattern(pattern) => groups(env, pattern, text),
        _ => Match { groups: vec![Some(text[start..end].to_vec())], names: vec![] },
    };
    let mut at = 0;
    while at < with.len() {
        let next = with.get(at + 1);
        let (part, taken): (&[u8], usize) = match (with[at], next) {
            (b'\\', Some(digit @ b'0'..=b'9')) => {
                (found.group(usize::from(digit - b'0')).unwrap_or_default(), 2)
            }
            (b'\\', Some(b'&')) => (&text[start..end], 2),
            (b'\\', Some(b'`')) => (&text[..start], 2),
            (b'\\', Some(b'\'')) => (&text[end..], 2),
            (b'\\', Some(b'\\')) => (b"\\", 2),
            (b'\\', Some(b'k')) if with.get(at + 2) == Some(&b'<') => {
                match with[at + 3..].iter().position(|byte| *byte == b'>') {
                    Some(len) => (found.named(&with[at + 3..at + 3 + len])?.unwrap_or_default(), len + 4),
                    None => (&with[at..=at], 1),
                }
            }
            _ => (&with[at..=at], 1),
        };
        out.extend_from_slice(part);
        at += taken;
    }
    Ok(())
}

fn scan<'a>(text: &[u8], what: &Given<'a>, env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let (mut out, mut count, mut from) = (Vec::new(), 0, 0);
    while from <= text.len()
        && let Some((start, end)) = find(env, what, text, from)?
    {
        let groups = match what {
            Given::Pattern(pattern) => groups(env, pattern, text).groups,
            _ => vec![Some(text[start..end].to_vec())],
        };
        if groups.len() > 1 {
            if let Value::Data(row) = data::texts(groups[1..].iter().map(Option::as_deref)) {
                out.extend_from_slice(&row);
            }
        } else {
            msgpack::write_text(&mut out, &text[start..end], false);
        }
        limited(out.len())?;
        count += 1;
        from = if start == end { end + char_len(&text[end..]).max(1) } else { end };
    }
    Ok(array(count, &out))
}

fn array<'a>(count: usize, items: &[u8]) -> Value<'a> {
    let mut out = Vec::with_capacity(items.len() + 5);
    msgpack::write_array_header(&mut out, count);
    out.extend_from_slice(items);
    Value::Data(Cow::Owned(out))
}

fn split<'a>(text: &[u8], arguments: &[Given<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let limit = match arguments {
        [_, limit] => limit.int()?,
        _ => 0,
    };
    let white: &[Given<'a>] = &[Given::Value(Value::text(" "))];
    let what = match arguments {
        [] | [Given::Value(Value::Nil), ..] => &white[0],
        [what, ..] => what,
    };
    if limit == 1 {
        let mut out = Vec::new();
        msgpack::write_text(&mut out, text, false);
        return Ok(if text.is_empty() { array(0, &[]) } else { array(1, &out) });
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let owned;
    match what {
        Given::Value(Value::Text(separator)) if &separator[..] == b" " => {
            split_words(text, limit, &mut parts)
        }
        Given::Value(Value::Text(separator)) if !separator.is_empty() => {
            split_by(text, separator, limit, &mut parts);
        }
        Given::Pattern(pattern) => {
            owned = split_pattern(text, pattern, limit, env)?;
            parts.extend(owned.iter().map(Vec::as_slice));
        }
        _ => {
            what.text()?;
            let mut at = 0;
            while at < text.len() && (limit <= 0 || parts.len() as i64 + 1 < limit) {
                let len = char_len(&text[at..]);
                parts.push(&text[at..at + len]);
                at += len;
            }
            if !text.is_empty() && (limit != 0 || at < text.len()) {
                parts.push(&text[at..]);
            }
        }
    }
    if limit == 0 {
        while parts.last().is_some_and(|part| part.is_empty()) {
            parts.pop();
        }
    }
    let mut out = Vec::with_capacity(text.len() + parts.len());
    for part in &parts {
        msgpack::write_text(&mut out, part, false);
    }
    Ok(array(parts.len(), &out))
}

/// By white space, as awk does.
fn split_words<'t>(text: &'t [u8], limit: i64, parts: &mut Vec<&'t [u8]>) {
    let is_space = |byte: &u8| matches!(byte, b' ' | 9..=13);
    let mut rest = text;
    loop {
        let Some(start) = rest.iter().position(|byte| !is_space(byte)) else {
            if !text.is_empty() && limit != 0 && (limit < 0 || (parts.len() as i64) < limit) {
                parts.push(b"");
            }
            return;
        };
        rest = &rest[start..];
        if limit > 0 && parts.len() as i64 + 1 == limit {
            parts.push(rest);
            return;
        }
        let Some(end) = rest.iter().position(is_space) else {
            parts.push(rest);
            return;
        };
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
}

fn split_by<'t>(text: &'t [u8], separator: &[u8], limit: i64, parts: &mut Vec<&'t [u8]>) {
    let mut from = 0;
    while (limit <= 0 || parts.len() as i64 + 1 < limit)
        && let Some(at) = memchr::memmem::find(&text[from..], separator)
    {
        parts.push(&text[from..from + at]);
        from += at + separator.len();
    }
    if !text.is_empty() {
        parts.push(&text[from..]);
    }
}

/// As `rb_str_split_m` in Ruby's string.c: empty matches part characters, groups come between the parts.
fn split_pattern(
    text: &[u8],
    pattern: &Pattern,
    limit: i64,
    env: &mut Env<'_, '_>,
) -> Result<Vec<Vec<u8>>, Raised> {
    let mut parts = Vec::new();
    let (mut begin, mut start, mut last_empty, mut made) = (0, 0, false, 1);
    while start <= text.len()
        && let Some((from, to)) = search(env, pattern, text, start)?
    {
        if start == to && from == to {
            if text.is_empty() {
                break;
            }
            if !last_empty {
                start += char_len(&text[start..]).max(1);
                last_empty = true;
                continue;
            }
            parts.push(text[begin..begin + char_len(&text[begin..])].to_vec());
            begin = start;
        } else {
            parts.push(text[begin..from].to_vec());
            begin = to;
            start = to;
        }
        last_empty = false;
        parts.extend(groups(env, pattern, text).groups.into_iter().skip(1).flatten());
        made += 1;
        if limit > 0 && limit <= made {
            break;
        }
    }
    if !text.is_empty() && (limit != 0 || text.len() > begin) {
        parts.push(text[begin.min(text.len())..].to_vec());
    }
    Ok(parts)
}

/// `tr` (None: `delete`).
fn translated(text: &[u8], from: &[u8], to: Option<&[u8]>) -> Result<Vec<u8>, Raised> {
    let chars = |text: &[u8]| String::from_utf8_lossy(text).chars().collect::<Vec<char>>();
    let (from, to) = (chars(from), to.map(chars));
    let negated = from.len() > 1 && from[0] == '^';
    let set = spread(&from[usize::from(negated)..])?;
    let to = to.map(|to| spread(&to)).transpose()?;
    let mut out = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let place = set.iter().rposition(|known| *known == letter);
            let hit = place.is_some() != negated;
            let letter = match (&to, hit) {
                (_, false) => letter,
                (None, true) => continue,
                (Some(to), true) => match (to.last(), place) {
                    (None, _) => continue,
                    (Some(last), None) => *last,
                    (Some(last), Some(place)) => *to.get(place).unwrap_or(last),
                },
            };
            out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    Ok(out)
}

/// `a-z` as the letters that it stands for.
fn spread(letters: &[char]) -> Result<Vec<char>, Raised> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let escaped = letters[at] == '\\' && at + 1 < letters.len();
        at += usize::from(escaped);
        let from = letters[at];
        match (letters.get(at + 1), letters.get(at + 2)) {
            (Some('-'), Some(to)) => {
                let to = if *to == '\\' { letters.get(at + 3).copied().unwrap_or('\\') } else { *to };
                if from > to {
                    return Err(Raised(format!(
                        "ArgumentError: invalid range \"{from}-{to}\" in string transliteration"
                    )));
                }
                if to as u32 - from as u32 > 65_536 {
                    return Err(Raised("ArgumentError: too large a range".to_owned()));
                }
                out.extend(from..=to);
                at += if letters[at + 2] == '\\' && letters.len() > at + 3 { 4 } else { 3 };
            }
            _ => {
                out.push(from);
                at += 1;
            }
        }
    }
    Ok(out)
}

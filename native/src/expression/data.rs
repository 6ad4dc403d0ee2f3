//! Arrays and hashes: as MessagePack, made anew where something is made of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::eval::{self, Given, wrong_arguments};
use super::node::{Method, Node, Operator};
use super::{Env, Match, Raised, Value, children, text};
use crate::json_out::{self, Floats};
use crate::msgpack::{self, Token, read_token};
use crate::ruby_inspect::{inspect_pairs, write_float, write_to_s};

type Called<'a> = Result<Option<Value<'a>>, Raised>;

/// A group's text, or nil.
pub fn optional<'a>(text: Option<&[u8]>) -> Value<'a> {
    text.map_or(Value::Nil, Value::text)
}

/// `match[name]`, `match[number]`: from the end where the number is negative.
pub fn group<'a>(found: &Match, which: &Given<'a>) -> Result<Value<'a>, Raised> {
    if let Given::Value(Value::Text(name)) = which {
        return Ok(optional(found.named(name)?));
    }
    let number = which.int()?;
    let number = if number < 0 { number + found.groups.len() as i64 } else { number };
    Ok(optional(usize::try_from(number).ok().and_then(|number| found.group(number))))
}

/// An array of texts and nils.
pub fn texts<'t, 'a>(texts: impl ExactSizeIterator<Item = Option<&'t [u8]>>) -> Value<'a> {
    let mut out = Vec::new();
    msgpack::write_array_header(&mut out, texts.len());
    for text in texts {
        match text {
            Some(text) => msgpack::write_text(&mut out, text, false),
            None => msgpack::write_nil(&mut out),
        }
    }
    Value::Data(Cow::Owned(out))
}

/// An array of values.
fn array<'a>(values: &[Value<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let mut out = Vec::new();
    msgpack::write_array_header(&mut out, values.len());
    for value in values {
        value.write(env, &mut out)?;
    }
    Ok(Value::Data(Cow::Owned(out)))
}

/// A hash; of equal keys the first has the place and the last the value.
pub fn hash<'a>(pairs: &'a [(Node, Node)], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let mut written: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        key.eval(env)?.write(env, &mut key_bytes)?;
        value.eval(env)?.write(env, &mut value_bytes)?;
        match written.iter_mut().find(|(known, _)| *known == key_bytes) {
            Some((_, known)) => *known = value_bytes,
            None => written.push((key_bytes, value_bytes)),
        }
    }
    let mut out = Vec::new();
    msgpack::write_map_header(&mut out, written.len());
    for (key, value) in &written {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    super::limited(out.len())?;
    Ok(Value::Data(Cow::Owned(out)))
}

/// An empty hash or array.
pub fn empty<'a>(hash: bool) -> Value<'a> {
    Value::Data(Cow::Borrowed(if hash { b"\x80" } else { b"\x90" }))
}

/// `(from..to).to_a` of whole numbers.
pub fn range<'a>(range: &(Value<'_>, Value<'_>, bool)) -> Result<Value<'a>, Raised> {
    let (Value::Int(from), Value::Int(to)) = (&range.0, &range.1) else {
        return Err(Raised(format!("TypeError: can't iterate from {}", range.0.class())));
    };
    let count = to.saturating_sub(*from).saturating_add(i128::from(!range.2));
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    super::limited(count.saturating_mul(9))?;
    let mut out = Vec::new();
    msgpack::write_array_header(&mut out, count);
    for number in (*from..).take(count) {
        let number = i64::try_from(number).map_err(|_| Raised("RangeError: bignum too big".to_owned()))?;
        msgpack::write_int(&mut out, number);
    }
    Ok(Value::Data(Cow::Owned(out)))
}

/// Whether this is a hash.
pub fn is_hash(value: &Value<'_>) -> bool {
    match value {
        Value::Data(data) => is_map(data),
        _ => *value == Value::Record,
    }
}

fn is_map(data: &[u8]) -> bool {
    matches!(read_token(data, &mut 0), Ok(Token::Map(_)))
}

fn is_array(data: &[u8]) -> bool {
    matches!(read_token(data, &mut 0), Ok(Token::Array(_)))
}

/// The elements of an array; None: it is none.
pub fn elements<'a>(value: &Value<'a>) -> Result<Option<Vec<Value<'a>>>, Raised> {
    let Value::Data(data) = value else { return Ok(None) };
    if !is_array(data) {
        return Ok(None);
    }
    Ok(Some(children(data)?.into_iter().map(|(start, end)| Value::part(data, start, end)).collect()))
}

/// The value of a key in a map.
fn map_value<'a>(
    data: &Cow<'a, [u8]>,
    key: &Value<'_>,
    env: &mut Env<'a, '_>,
) -> Result<Option<Value<'a>>, Raised> {
    let places = children(data)?;
    let mut found = None;
    for pair in places.chunks_exact(2) {
        let known = Value::of(&data[pair[0].0..pair[0].1]);
        let same = match (&known, key) {
            (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => false,
            _ => eval::equal(&known, key, env),
        };
        if same {
            found = Some(pair[1]);
        }
    }
    Ok(found.map(|(start, end)| Value::part(data, start, end)))
}

/// `record[key]` for a key that is not known beforehand.
pub fn record_value<'a>(env: &mut Env<'a, '_>, key: &Value<'_>) -> Result<Value<'a>, Raised> {
    Ok(record_entry(env, key)?.unwrap_or(Value::Nil))
}

fn record_entry<'a>(env: &mut Env<'a, '_>, key: &Value<'_>) -> Result<Option<Value<'a>>, Raised> {
    let Value::Text(key) = key else { return Ok(None) };
    let (mut pos, mut found) = (0, None);
    for _ in 0..env.pairs {
        let token = read_token(env.body, &mut pos)?;
        let is_it = crate::accessor::is_key(&token, key);
        if matches!(token, Token::Array(_) | Token::Map(_)) {
            return Ok(None);
        }
        let start = pos;
        msgpack::skip_value(env.body, &mut pos)?;
        if is_it {
            found = Some(Value::of(&env.body[start..pos]));
        }
    }
    Ok(found)
}

/// Resolves a start and a length, or a range, as Ruby does. None: nil.
pub fn stretch(arguments: &[Given<'_>], len: usize) -> Result<Option<(usize, usize)>, Raised> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at + len } else { at };
    let (start, count) = match arguments {
        [Given::Value(Value::Range(range))] => {
            let bound = |value: &Value<'_>, missing: i64| match value {
                Value::Nil => Ok(missing),
                other => Given::Value(other.clone()).int(),
            };
            let start = from_end(bound(&range.0, 0)?);
            let end = from_end(bound(&range.1, -1)?);
            let open = range.2 && range.1 != Value::Nil;
            (start, (end - start).saturating_add(i64::from(!open)).max(0))
        }
        [start, count] => (from_end(start.int()?), count.int()?),
        _ => return Err(wrong_arguments(arguments.len())),
    };
    if start < 0 || start > len || count < 0 {
        return Ok(None);
    }
    Ok(Some((start as usize, count.min(len - start) as usize)))
}

/// `array[...]`, `hash[key]`
pub fn index<'a>(
    data: &Cow<'a, [u8]>,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Value<'a>, Raised> {
    if is_map(data) {
        let [key] = arguments else { return Err(wrong_arguments(arguments.len())) };
        return Ok(map_value(data, key.value()?, env)?.unwrap_or(Value::Nil));
    }
    if !is_array(data) {
        return Err(Value::Data(data.clone()).no_method("[]"));
    }
    let places = children(data)?;
    if let [Given::Value(single)] = arguments
        && !matches!(single, Value::Range(_))
    {
        let at = arguments[0].int()?;
        let at = if at < 0 { at + places.len() as i64 } else { at };
        let place = usize::try_from(at).ok().and_then(|at| places.get(at));
        return Ok(place.map_or(Value::Nil, |(start, end)| Value::part(data, *start, *end)));
    }
    let Some((start, count)) = stretch(arguments, places.len())? else { return Ok(Value::Nil) };
    Ok(part_of(data, &places[start..start + count]))
}

fn part_of<'a>(data: &[u8], places: &[(usize, usize)]) -> Value<'a> {
    let mut out = Vec::new();
    msgpack::write_array_header(&mut out, places.len());
    for (start, end) in places {
        out.extend_from_slice(&data[*start..*end]);
    }
    Value::Data(Cow::Owned(out))
}

/// `array + array`
pub fn joined<'a>(left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>, Raised> {
    let (Value::Data(one), Value::Data(other)) = (left, right) else {
        return Err(right.no_conversion("Array"));
    };
    if !is_array(one) {
        return Err(left.no_method("+"));
    }
    if !is_array(other) {
        return Err(right.no_conversion("Array"));
    }
    let (ones, others) = (children(one)?, children(other)?);
    let mut out = Vec::new();
    msgpack::write_array_header(&mut out, ones.len() + others.len());
    for (data, places) in [(one, ones), (other, others)] {
        for (start, end) in places {
            out.extend_from_slice(&data[start..end]);
        }
    }
    super::limited(out.len())?;
    Ok(Value::Data(Cow::Owned(out)))
}

/// `==` of arrays and hashes; the order of a hash does not count.
pub fn equal(left: &[u8], right: &[u8], env: &Env<'_, '_>) -> bool {
    if left == right {
        return true;
    }
    let (Ok(ones), Ok(others)) = (children(left), children(right)) else { return false };
    if is_map(left) != is_map(right) || is_array(left) != is_array(right) || ones.len() != others.len() {
        return false;
    }
    let same = |one: &(usize, usize), other: &(usize, usize)| {
        eval::equal(&Value::of(&left[one.0..one.1]), &Value::of(&right[other.0..other.1]), env)
    };
    if is_map(left) {
        let mut pairs = ones.chunks_exact(2);
        return pairs.all(|one| {
            let mut others = others.chunks_exact(2);
            others.any(|other| same(&one[0], &other[0]) && same(&one[1], &other[1]))
        });
    }
    is_array(left) && ones.iter().zip(&others).all(|(one, other)| same(one, other))
}

/// As the JSON library of Ruby writes it.
pub fn to_json<'a>(value: &Value<'a>, env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let mut out = Vec::new();
    match value {
        Value::Record => json_out::write_record_at(&mut out, env.body, &mut 0, env.pairs, Floats::Ruby)?,
        Value::Data(data) => json_out::write_value(&mut out, data, &mut 0, Floats::Ruby)?,
        Value::Text(text) => json_out::write_string(&mut out, text),
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Float(number) if !number.is_finite() => {
            return Err(Raised("JSON::GeneratorError: not allowed in JSON".to_owned()));
        }
        Value::Float(number) => write_float(&mut out, *number),
        Value::Int(_) | Value::Bool(_) => value.write_to_s(env, &mut out)?,
        other => {
            let mut text = Vec::new();
            other.write_to_s(env, &mut text)?;
            json_out::write_string(&mut out, &text);
        }
    }
    super::limited(out.len())?;
    Ok(Value::text(out))
}

/// As `inspect` writes it.
pub fn inspect<'a>(value: &Value<'a>, env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let mut out = Vec::new();
    match value {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Record => inspect_pairs(&mut out, env.body, &mut 0, env.pairs, 1)?,
        Value::Text(_) => {
            // as the element of an array, without the brackets
            let mut packed = vec![0x91];
            value.write(env, &mut packed)?;
            write_to_s(&mut out, &packed, &mut 0)?;
            out = out[1..out.len() - 1].to_vec();
        }
        other => other.write_to_s(env, &mut out)?,
    }
    Ok(Value::text(out))
}

/// Methods of arrays and hashes.
pub fn call<'a>(
    value: &Value<'a>,
    method: Method,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Called<'a> {
    if let (Method::Dig, [first, rest @ ..]) = (method, arguments) {
        let inner = match value {
            Value::Data(data) => index(data, std::slice::from_ref(first), env)?,
            _ => record_value(env, first.value()?)?,
        };
        return match (&inner, rest) {
            (_, []) | (Value::Nil, _) => Ok(Some(inner)),
            (Value::Data(_) | Value::Record, _) => call(&inner, method, rest, env),
            _ => Err(Raised(format!("TypeError: {} does not have #dig method", inner.class()))),
        };
    }
    if let Value::Data(data) = value
        && !is_map(data)
    {
        return if is_array(data) { call_array(value, data, method, arguments, env) } else { Ok(None) };
    }
    let entry = |key: &Given<'a>, env: &mut Env<'a, '_>| match value {
        Value::Data(data) => map_value(data, key.value()?, env),
        _ => record_entry(env, key.value()?),
    };
    let column = |which: usize, env: &Env<'a, '_>| -> Result<Value<'a>, Raised> {
        let whole = whole(value, env);
        let places: Vec<_> = children(&whole)?.chunks_exact(2).map(|pair| pair[which]).collect();
        Ok(part_of(&whole, &places))
    };
    Ok(Some(match (method, arguments) {
        (Method::HasKey | Method::Includes, [key]) => Value::Bool(entry(key, env)?.is_some()),
        (Method::Fetch, [key, default @ ..]) => match (entry(key, env)?, default) {
            (Some(found), _) => found,
            (None, [default]) => default.value()?.clone(),
            (None, _) => {
                let shown = inspect(key.value()?, env)?.to_s(env)?;
                return Err(Raised(format!("KeyError: key not found: {}", String::from_utf8_lossy(&shown))));
            }
        },
        (Method::ToH, _) => value.clone(),
        (Method::ToA, _) => {
            let whole = whole(value, env);
            let mut out = Vec::new();
            let pairs = children(&whole)?;
            msgpack::write_array_header(&mut out, pairs.len() / 2);
            for pair in pairs.chunks_exact(2) {
                msgpack::write_array_header(&mut out, 2);
                out.extend_from_slice(&whole[pair[0].0..pair[1].1]);
            }
            Value::Data(Cow::Owned(out))
        }
        (Method::Count, []) => Value::Int(eval::count(&whole(value, env))? as i128),
        (Method::Any, _) => Value::Bool(eval::count(&whole(value, env))? > 0),
        (Method::Slice, keys) => {
            let mut pairs = Vec::new();
            for key in keys {
                if let Some(found) = entry(key, env)? {
                    pairs.push((key.value()?.clone(), found));
                }
            }
            hash_of(&pairs, env)?
        }
        (Method::Except, keys) => {
            let mut pairs = pairs_of(value, env)?;
            for key in keys {
                let key = key.value()?;
                pairs.retain(|(known, _)| !eval::equal(known, key, env));
            }
            hash_of(&pairs, env)?
        }
        (Method::Merge, others) => {
            let mut pairs = Pairs::default();
            pairs.set_all(pairs_of(value, env)?, env)?;
            for other in others {
                let other = other.value()?;
                if !is_hash(other) {
                    return Err(other.no_conversion("Hash"));
                }
                pairs.set_all(pairs_of(other, env)?, env)?;
            }
            hash_of(&pairs.list, env)?
        }
        (Method::Keys, _) => column(0, env)?,
        (Method::Values, _) => column(1, env)?,
        (Method::Length, _) => Value::Int(eval::count(&whole(value, env))? as i128),
        (Method::IsEmpty, _) => Value::Bool(eval::count(&whole(value, env))? == 0),
        _ => return Ok(None),
    }))
}

/// The pairs of a hash that grows: a key that is there already gets another value.
#[derive(Default)]
struct Pairs<'a> {
    list: Vec<(Value<'a>, Value<'a>)>,
    places: HashMap<Vec<u8>, usize>,
}

impl<'a> Pairs<'a> {
    fn set(&mut self, key: Value<'a>, value: Value<'a>, env: &mut Env<'a, '_>) -> Result<(), Raised> {
        match self.places.entry(written(&key, env)?) {
            Entry::Occupied(place) => self.list[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push((key, value));
            }
        }
        Ok(())
    }

    fn set_all(&mut self, pairs: Vec<(Value<'a>, Value<'a>)>, env: &mut Env<'a, '_>) -> Result<(), Raised> {
        pairs.into_iter().try_for_each(|(key, value)| self.set(key, value, env))
    }
}

/// What tells a value from others, as keys of hashes are told apart: `1` is not `1.0`.
fn written<'a>(value: &Value<'a>, env: &mut Env<'a, '_>) -> Result<Vec<u8>, Raised> {
    let mut out = Vec::new();
    value.write(env, &mut out)?;
    Ok(out)
}

fn pairs_of<'a>(value: &Value<'a>, env: &Env<'a, '_>) -> Result<Vec<(Value<'a>, Value<'a>)>, Raised> {
    let whole = whole(value, env);
    let part = |(start, end): (usize, usize)| Value::part(&whole, start, end);
    Ok(children(&whole)?.chunks_exact(2).map(|pair| (part(pair[0]), part(pair[1]))).collect())
}

fn hash_of<'a>(pairs: &[(Value<'a>, Value<'a>)], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    let mut out = Vec::new();
    msgpack::write_map_header(&mut out, pairs.len());
    for (key, value) in pairs {
        key.write(env, &mut out)?;
        value.write(env, &mut out)?;
    }
    super::limited(out.len())?;
    Ok(Value::Data(Cow::Owned(out)))
}

fn whole<'a>(value: &Value<'a>, env: &Env<'a, '_>) -> Cow<'a, [u8]> {
    if let Value::Data(data) = value {
        return data.clone();
    }
    let mut record = Vec::new();
    msgpack::write_map_header(&mut record, env.pairs);
    record.extend_from_slice(env.body);
    Cow::Owned(record)
}

fn call_array<'a>(
    value: &Value<'a>,
    data: &Cow<'a, [u8]>,
    method: Method,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Called<'a> {
    let items = elements(value)?.unwrap_or_default();
    let places = children(data)?;
    let some = |given: &Given<'_>| {
        let count = given.int()?;
        usize::try_from(count).map_err(|_| Raised("ArgumentError: negative array size".to_owned()))
    };
    Ok(Some(match (method, arguments) {
        (Method::ToA, _) => value.clone(),
        (Method::ToH, _) => {
            let mut pairs = Pairs::default();
            for item in &items {
                let Some([key, value]) = elements(item)?.and_then(|pair| <[_; 2]>::try_from(pair).ok())
                else {
                    return Err(Raised(format!("TypeError: wrong element type {}", item.class())));
                };
                pairs.set(key, value, env)?;
            }
            hash_of(&pairs.list, env)?
        }
        (Method::Take, [count]) => part_of(data, &places[..some(count)?.min(places.len())]),
        (Method::Drop, [count]) => part_of(data, &places[some(count)?.min(places.len())..]),
        (Method::Count, []) => Value::Int(items.len() as i128),
        (Method::Count, [item]) => {
            let item = item.value()?;
            Value::Int(items.iter().filter(|each| eval::equal(each, item, env)).count() as i128)
        }
        (Method::Any, _) => Value::Bool(items.iter().any(Value::is_true)),
        (Method::Sum, _) => {
            let mut sum = Value::Int(0);
            for item in items {
                sum = eval::binary(Operator::Add, sum, item, env)?;
            }
            sum
        }
        (Method::Sort, _) => {
            let sorted = sorted(items)?;
            array(&sorted, env)?
        }
        (Method::Flatten, _) => {
            let depth = match arguments {
                [Given::Value(Value::Nil)] | [] => i64::MAX,
                [depth, ..] => depth.int()?,
            };
            let mut flat = Vec::new();
            flatten(items, if depth < 0 { i64::MAX } else { depth }, &mut flat)?;
            array(&flat, env)?
        }
        (Method::First, []) => items.into_iter().next().unwrap_or(Value::Nil),
        (Method::Last, []) => items.into_iter().next_back().unwrap_or(Value::Nil),
        (Method::First, [count]) => part_of(data, &places[..some(count)?.min(places.len())]),
        (Method::Last, [count]) => part_of(data, &places[places.len() - some(count)?.min(places.len())..]),
        (Method::Length, _) => Value::Int(items.len() as i128),
        (Method::IsEmpty, _) => Value::Bool(items.is_empty()),
        (Method::Includes, [item]) => {
            let item = item.value()?;
            Value::Bool(items.iter().any(|each| eval::equal(each, item, env)))
        }
        (Method::Index, [item]) => {
            let item = item.value()?;
            let at = items.iter().position(|each| eval::equal(each, item, env));
            at.map_or(Value::Nil, |at| Value::Int(at as i128))
        }
        (Method::Reverse, _) => part_of(data, &places.iter().rev().copied().collect::<Vec<_>>()),
        (Method::Compact, _) => {
            let kept: Vec<_> = places.iter().filter(|(start, _)| data[*start] != 0xc0).copied().collect();
            part_of(data, &kept)
        }
        (Method::Uniq, _) => {
            let mut kept = Pairs::default();
            for item in items {
                kept.set(item, Value::Nil, env)?;
            }
            let kept: Vec<_> = kept.list.into_iter().map(|(item, _)| item).collect();
            array(&kept, env)?
        }
        (Method::Min | Method::Max, []) => {
            let operator = if method == Method::Min { Operator::Less } else { Operator::Greater };
            let mut best: Option<Value<'a>> = None;
            for item in items {
                best = match best {
                    Some(best) if !eval::ordered(operator, &item, &best)? => Some(best),
                    _ => Some(item),
                };
            }
            best.unwrap_or(Value::Nil)
        }
        (Method::Fetch, [at, default @ ..]) => match (index(data, std::slice::from_ref(at), env)?, default) {
            (Value::Nil, [default]) if !within(at.int()?, items.len()) => default.value()?.clone(),
            (Value::Nil, []) if !within(at.int()?, items.len()) => {
                return Err(Raised(format!("IndexError: index {} outside of array bounds", at.int()?)));
            }
            (found, _) => found,
        },
        (Method::Join, _) => {
            let separator = match arguments {
                [Given::Value(Value::Nil)] | [] => &[][..],
                [separator, ..] => separator.text()?,
            };
            let mut out = Vec::new();
            join(&items, separator, env, &mut out)?;
            Value::text(out)
        }
        (Method::Keys | Method::Values, _) => return Ok(None),
        _ => return Ok(None),
    }))
}

/// In order, by merging: the standard library's sort wants an order that cannot fail, and may panic where numbers
/// of both kinds have none.
fn sorted<'a>(mut items: Vec<Value<'a>>) -> Result<Vec<Value<'a>>, Raised> {
    if items.len() < 2 {
        return Ok(items);
    }
    let mut merged = Vec::with_capacity(items.len());
    let mut right = sorted(items.split_off(items.len() / 2))?.into_iter().peekable();
    let mut left = sorted(items)?.into_iter().peekable();
    while let (Some(first), Some(other)) = (left.peek(), right.peek()) {
        let next = if eval::ordered(Operator::Greater, first, other)? { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

fn flatten<'a>(items: Vec<Value<'a>>, depth: i64, flat: &mut Vec<Value<'a>>) -> Result<(), Raised> {
    for item in items {
        match elements(&item)? {
            Some(inner) if depth > 0 => flatten(inner, depth - 1, flat)?,
            _ => flat.push(item),
        }
    }
    Ok(())
}

fn within(at: i64, len: usize) -> bool {
    let len = len as i64;
    (-len..len).contains(&at)
}

/// Arrays within are joined likewise.
fn join<'a>(
    items: &[Value<'a>],
    separator: &[u8],
    env: &mut Env<'a, '_>,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(separator);
        }
        match elements(item)? {
            Some(inner) => join(&inner, separator, env, out)?,
            None => item.write_to_s(env, out)?,
        }
    }
    super::limited(out.len())
}

/// How many characters a text has.
pub fn length(text: &[u8]) -> i128 {
    text::count_chars(text) as i128
}

//! Evaluation of an expression over one event.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::node::{List, Method, Node, Operator, Pattern};
use super::{Env, Match, Raised, Value, children, data, number, text, text_edit, time};
use crate::json_in;
use crate::msgpack::{self, Token, read_token};
use crate::pcre::Script;

/// An argument of a method.
pub enum Given<'a> {
    /// A value.
    Value(Value<'a>),
    /// A regexp.
    Pattern(&'a Pattern),
    /// A class.
    Class(&'static str),
}

impl<'a> Given<'a> {
    /// The value; a regexp where a value is needed is an error, as of another type.
    pub fn value(&self) -> Result<&Value<'a>, Raised> {
        match self {
            Given::Value(value) => Ok(value),
            Given::Pattern(_) => {
                Err(Raised("TypeError: no implicit conversion of Regexp into String".to_owned()))
            }
            Given::Class(_) => {
                Err(Raised("TypeError: no implicit conversion of Class into String".to_owned()))
            }
        }
    }

    /// A text, without conversion.
    pub fn text(&self) -> Result<&[u8], Raised> {
        match self.value()? {
            Value::Text(text) => Ok(text),
            other => Err(other.no_conversion("String")),
        }
    }

    /// A whole number, without conversion but of floats.
    pub fn int(&self) -> Result<i64, Raised> {
        match self.value()? {
            Value::Int(value) => {
                i64::try_from(*value).map_err(|_| Raised("RangeError: bignum too big".to_owned()))
            }
            Value::Float(value) if value.is_finite() && value.abs() < 9e18 => Ok(value.trunc() as i64),
            Value::Nil => Err(Raised("TypeError: no implicit conversion from nil to integer".to_owned())),
            other => Err(other.no_conversion("Integer")),
        }
    }
}

impl Value<'static> {
    fn borrowed(&self) -> Value<'_> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Data(data) => Value::Data(Cow::Borrowed(data)),
            other => other.clone(),
        }
    }
}

impl Node {
    /// The value for an event.
    ///
    /// # Errors
    /// What Ruby would raise.
    pub fn eval<'a>(&'a self, env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
        Ok(match self {
            Node::Fixed(value) => value.borrowed(),
            Node::Field(field) => env.found.value(env.body, *field).map_or(Value::Nil, Value::of),
            Node::Record => Value::Record,
            Node::Tag => Value::Text(Cow::Borrowed(env.tag.as_bytes())),
            Node::Tags(list) => tags(env.tag, *list),
            Node::Time => Value::Time(time::Moment { ns: env.time_ns, zone: time::ZoneOf::Local }),
            Node::Now => time::now(),
            Node::TimeAt(node) => time::at(&node.eval(env)?)?,
            Node::Json(node) => json(&node.eval(env)?)?,
            Node::Regexp(_) | Node::Class(_) => {
                return Err(Raised("TypeError: a regexp or class is no value of a field".to_owned()));
            }
            Node::Range(from, to, open) => Value::Range(Box::new((from.eval(env)?, to.eval(env)?, *open))),
            Node::Array(nodes) => {
                let mut out = Vec::new();
                msgpack::write_array_header(&mut out, nodes.len());
                for node in nodes {
                    node.eval(env)?.write(env, &mut out)?;
                }
                Value::Data(Cow::Owned(out))
            }
            Node::Hash(pairs) => data::hash(pairs, env)?,
            Node::Text(nodes) => {
                let mut out = Vec::new();
                for node in nodes {
                    node.eval(env)?.write_to_s(env, &mut out)?;
                }
                Value::Text(Cow::Owned(out))
            }
            Node::Index(node, arguments) => {
                let value = node.eval(env)?;
                index(value, &given(arguments, env)?, env)?
            }
            Node::Call(node, method, arguments, safe) => {
                let value = node.eval(env)?;
                if *safe && value == Value::Nil {
                    return Ok(Value::Nil);
                }
                let arguments = given(arguments, env)?;
                call(value, *method, &arguments, env)?
            }
            Node::Format(arguments) => {
                let arguments = given(arguments, env)?;
                let values = arguments[1..].iter().map(Given::value).collect::<Result<Vec<_>, _>>()?;
                let format = arguments[0].text()?.to_vec();
                number::format(&format, &values, env)?
            }
            Node::Not(node) => Value::Bool(!node.eval(env)?.is_true()),
            Node::Minus(node) => match node.eval(env)? {
                Value::Int(value) => Value::Int(-value),
                Value::Float(value) => Value::Float(-value),
                other => return Err(other.no_method("-@")),
            },
            Node::And(left, right) => {
                let left = left.eval(env)?;
                if left.is_true() { right.eval(env)? } else { left }
            }
            Node::Or(left, right) => {
                let left = left.eval(env)?;
                if left.is_true() { left } else { right.eval(env)? }
            }
            Node::Binary(operator, left, right) => {
                let left = left.eval(env)?;
                let right = right.eval(env)?;
                binary(*operator, left, right, env)?
            }
            Node::Matches(node, pattern, negated) => {
                let value = node.eval(env)?;
                let found = match &value {
                    Value::Text(text) => {
                        search(env, pattern, text, 0)?.map(|(start, _)| text::count_chars(&text[..start]))
                    }
                    _ => None, // Object#=~
                };
                match found {
                    _ if *negated => Value::Bool(found.is_none()),
                    None => Value::Nil,
                    Some(at) => Value::Int(at as i128),
                }
            }
            Node::If(condition, yes, no) => {
                if condition.eval(env)?.is_true() {
                    yes.eval(env)?
                } else {
                    no.eval(env)?
                }
            }
            Node::Case(subject, cases, otherwise) => {
                let subject = subject.eval(env)?;
                for (patterns, value) in cases {
                    for pattern in patterns {
                        if is_case(pattern, &subject, env)? {
                            return value.eval(env);
                        }
                    }
                }
                otherwise.eval(env)?
            }
            Node::Rescue(node, other) => match node.eval(env) {
                Ok(value) => value,
                Err(_) => other.eval(env)?,
            },
            Node::Strftime(node, format, slot, safe) => match node.eval(env)? {
                Value::Time(moment) => {
                    let mut out = Vec::new();
                    env.memory.clocks.write(*slot, format, moment, &mut out);
                    Value::Text(Cow::Owned(out))
                }
                Value::Nil if *safe => Value::Nil,
                other => return Err(other.no_method("strftime")),
            },
        })
    }
}

/// `pattern === subject`
fn is_case<'a>(pattern: &'a Node, subject: &Value<'a>, env: &mut Env<'a, '_>) -> Result<bool, Raised> {
    Ok(match (pattern, subject) {
        (Node::Regexp(pattern), Value::Text(text)) => search(env, pattern, text, 0)?.is_some(),
        (Node::Regexp(_), _) => false,
        (Node::Class(class), _) => is_a(subject, class),
        _ => match pattern.eval(env)? {
            Value::Range(range) => covers(&range, subject),
            value => equal(&value, subject, env),
        },
    })
}

fn is_a(value: &Value<'_>, class: &str) -> bool {
    let numeric = class == "Numeric" && matches!(value, Value::Int(_) | Value::Float(_));
    numeric || value.class() == class
}

fn covers(range: &(Value<'_>, Value<'_>, bool), item: &Value<'_>) -> bool {
    let end = if range.2 { Operator::Less } else { Operator::LessOrEqual };
    let within =
        |operator, bound: &Value<'_>| *bound == Value::Nil || ordered(operator, item, bound).unwrap_or(false);
    within(Operator::GreaterOrEqual, &range.0) && within(end, &range.1)
}

fn given<'a>(nodes: &'a [Node], env: &mut Env<'a, '_>) -> Result<Vec<Given<'a>>, Raised> {
    nodes
        .iter()
        .map(|node| {
            Ok(match node {
                Node::Regexp(pattern) => Given::Pattern(pattern),
                Node::Class(class) => Given::Class(class),
                node => Given::Value(node.eval(env)?),
            })
        })
        .collect()
}

/// Where the pattern matches from byte `from` on. Its groups are then in the memory, for [`groups`].
pub fn search(
    env: &mut Env<'_, '_>,
    pattern: &Pattern,
    text: &[u8],
    from: usize,
) -> Result<Option<(usize, usize)>, Raised> {
    let matchers = &mut env.memory.matchers;
    if matchers.len() <= pattern.slot {
        matchers.resize_with(pattern.slot + 1, || None);
    }
    let matcher = matchers[pattern.slot].get_or_insert_with(|| pattern.regexp.matcher());
    match matcher.search_from(&pattern.regexp, text, Script::of(text), from) {
        Ok(true) => Ok(matcher.span(0)),
        Ok(false) => Ok(None),
        Err(_) => Err(Raised("Regexp::TimeoutError: regexp match timeout".to_owned())),
    }
}

/// The groups of the last match of a pattern in `text`.
pub fn groups(env: &Env<'_, '_>, pattern: &Pattern, text: &[u8]) -> Match {
    let matcher = env.memory.matchers.get(pattern.slot).and_then(Option::as_ref);
    let count = matcher.map_or(0, |matcher| matcher.groups());
    let groups = (0..count)
        .map(|number| matcher.and_then(|matcher| matcher.capture(text, number)).map(<[u8]>::to_vec))
        .collect();
    Match { groups, names: pattern.names.clone() }
}

fn index<'a>(value: Value<'a>, arguments: &[Given<'a>], env: &mut Env<'a, '_>) -> Result<Value<'a>, Raised> {
    match value {
        Value::Text(text) => text_edit::index(&text, arguments, env),
        Value::Record => match arguments {
            [key] => data::record_value(env, key.value()?),
            _ => Err(wrong_arguments(arguments.len())),
        },
        Value::Data(data) => data::index(&data, arguments, env),
        Value::Match(found) => match arguments {
            [group] => data::group(&found, group),
            _ => Err(wrong_arguments(arguments.len())),
        },
        other => Err(other.no_method("[]")),
    }
}

/// The error of a call with too many or too few arguments.
pub fn wrong_arguments(count: usize) -> Raised {
    Raised(format!("ArgumentError: wrong number of arguments (given {count})"))
}

fn call<'a>(
    value: Value<'a>,
    method: Method,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Value<'a>, Raised> {
    match (method, arguments) {
        (Method::IsNil, _) => return Ok(Value::Bool(value == Value::Nil)),
        (Method::Itself, _) => return Ok(value),
        (Method::IsA, [Given::Class(class)]) => return Ok(Value::Bool(is_a(&value, class))),
        (Method::IsA, _) => return Err(Raised("TypeError: class or module required".to_owned())),
        (Method::ToS, []) => return Ok(Value::Text(value.to_s(env)?)),
        (Method::ToJson, _) => return data::to_json(&value, env),
        (Method::Inspect, _) if !matches!(value, Value::Time(_)) => return data::inspect(&value, env),
        (Method::Between, [least, most]) => {
            let (least, most) = (least.value()?, most.value()?);
            let above = ordered(Operator::GreaterOrEqual, &value, least)?;
            return Ok(Value::Bool(above && ordered(Operator::LessOrEqual, &value, most)?));
        }
        (Method::Slice, _) if !data::is_hash(&value) => return index(value, arguments, env),
        (Method::Dig, _) if !matches!(value, Value::Nil | Value::Record | Value::Data(_)) => {
            return Err(Raised(format!("TypeError: {} does not have #dig method", value.class())));
        }
        _ => {}
    }
    let outcome = match &value {
        Value::Nil => match (method, arguments) {
            (Method::ToI, []) => Some(Value::Int(0)),
            (Method::ToF, _) => Some(Value::Float(0.0)),
            (Method::ToI, _) => return Err(wrong_arguments(arguments.len())),
            (Method::ToA, _) => Some(data::empty(false)),
            (Method::ToH, _) => Some(data::empty(true)),
            _ => None,
        },
        Value::Int(_) | Value::Float(_) if method == Method::Clamp => {
            let [least, most] = arguments else { return Err(wrong_arguments(arguments.len())) };
            let (least, most) = (least.value()?, most.value()?);
            if ordered(Operator::Greater, least, most)? {
                return Err(Raised(
                    "ArgumentError: min argument must be smaller than max argument".to_owned(),
                ));
            }
            let bound = if ordered(Operator::Less, &value, least)? {
                least
            } else if ordered(Operator::Greater, &value, most)? {
                most
            } else {
                &value
            };
            Some(bound.clone())
        }
        Value::Int(_) | Value::Float(_) => number::call(&value, method, arguments)?,
        Value::Text(text) => match text::call(text, method, arguments)? {
            Some(value) => Some(value),
            None => text_edit::call(text, method, arguments, env)?,
        },
        Value::Record | Value::Data(_) => data::call(&value, method, arguments, env)?,
        Value::Time(moment) => time::call(*moment, method, arguments, env)?,
        Value::Match(found) if method == Method::Captures => {
            Some(data::texts(found.groups.iter().skip(1).map(Option::as_deref)))
        }
        Value::Range(range) if method == Method::Includes => {
            let [item] = arguments else { return Err(wrong_arguments(arguments.len())) };
            Some(Value::Bool(covers(range, item.value()?)))
        }
        Value::Range(range) if method == Method::ToA => Some(data::range(range)?),
        _ => None,
    };
    outcome.ok_or_else(|| value.no_method(method.name()))
}

/// `left + right` and the like.
pub fn binary<'a>(
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
    env: &mut Env<'a, '_>,
) -> Result<Value<'a>, Raised> {
    match operator {
        Operator::Equal => return Ok(Value::Bool(equal(&left, &right, env))),
        Operator::Unequal => return Ok(Value::Bool(!equal(&left, &right, env))),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            return ordered(operator, &left, &right).map(Value::Bool);
        }
        _ => {}
    }
    match (&left, operator) {
        (Value::Int(_) | Value::Float(_), _) => number::arithmetic(operator, &left, &right),
        (Value::Text(text), Operator::Add) => match &right {
            Value::Text(more) => Ok(Value::text([&text[..], &more[..]].concat())),
            other => Err(other.no_conversion("String")),
        },
        (Value::Text(text), Operator::Multiply) => {
            let times = Given::Value(right).int()?;
            let times = usize::try_from(times)
                .map_err(|_| Raised("ArgumentError: argument must be non-negative".to_owned()))?;
            super::limited(text.len().saturating_mul(times))?;
            Ok(Value::text(text.repeat(times)))
        }
        (Value::Text(text), Operator::Modulo) => {
            let values = data::elements(&right)?.unwrap_or_else(|| vec![right.clone()]);
            number::format(text, &values.iter().collect::<Vec<_>>(), env)
        }
        (Value::Time(moment), Operator::Add | Operator::Subtract) => time::moved(*moment, operator, &right),
        (Value::Data(_), Operator::Add) => data::joined(&left, &right),
        _ => Err(left.no_method(operator.name())),
    }
}

/// `==`
pub fn equal(left: &Value<'_>, right: &Value<'_>, env: &Env<'_, '_>) -> bool {
    match (left, right) {
        (Value::Int(left), Value::Float(right)) | (Value::Float(right), Value::Int(left)) => {
            *left as f64 == *right
        }
        (Value::Time(left), Value::Time(right)) => left.ns == right.ns,
        (Value::Data(left), Value::Data(right)) => data::equal(left, right, env),
        (Value::Data(data), Value::Record) | (Value::Record, Value::Data(data)) => {
            let mut record = Vec::new();
            msgpack::write_map_header(&mut record, env.pairs);
            record.extend_from_slice(env.body);
            data::equal(data, &record, env)
        }
        _ => left == right,
    }
}

/// Whether `<` and its like hold.
pub fn ordered(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Raised> {
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Time(left), Value::Time(right)) => Some(left.ns.cmp(&right.ns)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            match number::float(left).partial_cmp(&number::float(right)) {
                Some(order) => Some(order),
                None => return Ok(false), // NaN
            }
        }
        (Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Time(_), _) => None,
        _ => return Err(left.no_method(operator.name())),
    };
    let Some(order) = order else {
        let right = match right {
            Value::Nil | Value::Bool(_) => right.conversion_name().to_owned(),
            Value::Int(value) => value.to_string(),
            other => other.class().to_owned(),
        };
        return Err(Raised(format!("ArgumentError: comparison of {} with {right} failed", left.class())));
    };
    Ok(match operator {
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn tags(tag: &str, list: List) -> Value<'static> {
    let whole = tag.trim_end_matches('.');
    let parts: Vec<&str> = if whole.is_empty() { vec![] } else { whole.split('.').collect() };
    let starts = parts.iter().scan(0, |at, part| {
        let start = *at;
        *at += part.len() + 1;
        Some((start, start + part.len()))
    });
    let texts = starts.map(|(start, end)| match list {
        List::Parts => Some(whole.as_bytes()[start..end].to_vec()),
        List::Prefix => Some(whole.as_bytes()[..end].to_vec()),
        List::Suffix => Some(whole.as_bytes()[start..].to_vec()),
    });
    data::texts(texts.collect::<Vec<_>>().iter().map(Option::as_deref))
}

fn json<'a>(value: &Value<'_>) -> Result<Value<'a>, Raised> {
    let Value::Text(text) = value else { return Err(value.no_conversion("String")) };
    let mut out = Vec::new();
    if json_in::transcode(text, &mut out).is_err() {
        return Err(Raised("JSON::ParserError: unexpected token".to_owned()));
    }
    let mut pos = 0;
    let container = matches!(read_token(&out, &mut pos), Ok(Token::Map(_) | Token::Array(_)));
    Ok(if container { Value::Data(Cow::Owned(out)) } else { Value::of(&out).into_owned() })
}

/// How many values `data` has.
pub fn count(data: &[u8]) -> Result<usize, Raised> {
    let pairs = matches!(read_token(data, &mut 0), Ok(Token::Map(_)));
    Ok(children(data)?.len() / if pairs { 2 } else { 1 })
}

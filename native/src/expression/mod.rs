//! Expressions in `${...}`: the part of Ruby that record_transformer's users write, evaluated for each event.
//!
//! An expression is parsed once ([`parse`]), against a fixed list of methods ([`Method`]), and evaluated over one event
//! ([`Env`]). What it gives is what Ruby 3.1 gives; where Ruby raises, the evaluation ends with [`Raised`], with
//! Ruby's words. Nothing can be changed, no block or loop can be written, so every expression ends.

mod calls;
mod data;
mod eval;
mod literal;
mod node;
mod number;
mod parse;
mod quoted;
mod suggest;
mod text;
mod text_edit;
mod time;

use std::borrow::Cow;

pub use node::{List, Method, Node};
pub use parse::{Context, Refused, interpolated, parse};
pub use time::{Moment, ZoneOf};

use crate::fields::Found;
use crate::framer::HARD_LIMIT;
use crate::msgpack::{self, Malformed, Token, read_token, skip_value};
use crate::pcre::Matcher;
use crate::ruby_inspect::{inspect_pairs, write_float, write_to_s};
use time::Clocks;

/// What a Ruby program would raise: the event cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised(pub String);

impl From<Malformed> for Raised {
    fn from(why: Malformed) -> Self {
        Raised(why.to_string())
    }
}

/// What an expression gives for an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// nil
    Nil,
    /// true, false
    Bool(bool),
    /// An Integer.
    Int(i128),
    /// A Float.
    Float(f64),
    /// A String.
    Text(Cow<'a, [u8]>),
    /// An Array, a Hash, or a value of an extension type, as MessagePack.
    Data(Cow<'a, [u8]>),
    /// The record.
    Record,
    /// A Time.
    Time(Moment),
    /// A MatchData.
    Match(Box<Match>),
    /// A Range: from, to, without its end.
    Range(Box<(Value<'a>, Value<'a>, bool)>),
}

/// The groups of a match.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// By number; None: it took no part.
    pub groups: Vec<Option<Vec<u8>>>,
    /// Numbers by name.
    pub names: Vec<(String, Vec<usize>)>,
}

/// Working memory, used again from event to event.
#[derive(Default)]
pub struct Memory {
    matchers: Vec<Option<Matcher>>,
    clocks: Clocks,
}

/// One event.
pub struct Env<'a, 'm> {
    /// The tag.
    pub tag: &'a str,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The record's pairs.
    pub body: &'a [u8],
    /// How many they are.
    pub pairs: usize,
    /// Where the fields are in it.
    pub found: &'a Found,
    /// Working memory.
    pub memory: &'m mut Memory,
}

impl<'a> Value<'a> {
    /// Of one MessagePack value.
    #[must_use]
    pub fn of(raw: &'a [u8]) -> Self {
        match read_token(raw, &mut 0) {
            Ok(Token::Nil) | Err(_) => Value::Nil,
            Ok(Token::Bool(value)) => Value::Bool(value),
            Ok(Token::Uint(value)) => Value::Int(i128::from(value)),
            Ok(Token::Int(value)) => Value::Int(i128::from(value)),
            Ok(Token::Float(value)) => Value::Float(value),
            Ok(Token::Str(text) | Token::Bin(text)) => Value::Text(Cow::Borrowed(text)),
            Ok(Token::Ext(..) | Token::Array(_) | Token::Map(_)) => Value::Data(Cow::Borrowed(raw)),
        }
    }

    /// The same for a part of what somebody else may own.
    fn part(whole: &Cow<'a, [u8]>, start: usize, end: usize) -> Self {
        match whole {
            Cow::Borrowed(whole) => Value::of(&whole[start..end]),
            Cow::Owned(whole) => Value::of(&whole[start..end]).into_owned(),
        }
    }

    fn into_owned<'b>(self) -> Value<'b> {
        match self {
            Value::Nil => Value::Nil,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Float(value) => Value::Float(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Data(data) => Value::Data(Cow::Owned(data.into_owned())),
            Value::Record => Value::Record,
            Value::Time(moment) => Value::Time(moment),
            Value::Match(found) => Value::Match(found),
            Value::Range(range) => {
                Value::Range(Box::new((range.0.into_owned(), range.1.into_owned(), range.2)))
            }
        }
    }

    fn text(text: impl Into<Vec<u8>>) -> Self {
        Value::Text(Cow::Owned(text.into()))
    }

    /// Everything but nil and false.
    #[must_use]
    pub fn is_true(&self) -> bool {
        !matches!(self, Value::Nil | Value::Bool(false))
    }

    /// The name of Ruby's class.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Value::Nil => "NilClass",
            Value::Bool(true) => "TrueClass",
            Value::Bool(false) => "FalseClass",
            Value::Int(_) => "Integer",
            Value::Float(_) => "Float",
            Value::Text(_) => "String",
            Value::Record => "Hash",
            Value::Data(data) => match read_token(data, &mut 0) {
                Ok(Token::Array(_)) => "Array",
                Ok(Token::Map(_)) => "Hash",
                _ => "Fluent::EventTime",
            },
            Value::Time(_) => "Time",
            Value::Match(_) => "MatchData",
            Value::Range(_) => "Range",
        }
    }

    /// As messages of Ruby name a value that is converted: `nil`, `true`, or its class.
    fn conversion_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            _ => self.class(),
        }
    }

    /// Appends what `to_s` gives.
    ///
    /// # Errors
    /// A broken record.
    pub fn write_to_s(&self, env: &mut Env<'a, '_>, out: &mut Vec<u8>) -> Result<(), Raised> {
        match self {
            Value::Nil => {}
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes()),
            Value::Float(value) => write_float(out, *value),
            Value::Text(text) => out.extend_from_slice(text),
            Value::Data(data) => write_to_s(out, data, &mut 0)?,
            Value::Record => inspect_pairs(out, env.body, &mut 0, env.pairs, 1)?,
            Value::Time(moment) => env.memory.clocks.write_to_s(*moment, out),
            Value::Match(found) => out.extend_from_slice(found.group(0).unwrap_or_default()),
            Value::Range(range) => {
                range.0.write_to_s(env, out)?;
                out.extend_from_slice(if range.2 { b"..." } else { b".." });
                range.1.write_to_s(env, out)?;
            }
        }
        limited(out.len())
    }

    fn to_s(&self, env: &mut Env<'a, '_>) -> Result<Cow<'a, [u8]>, Raised> {
        if let Value::Text(text) = self {
            return Ok(text.clone());
        }
        let mut out = Vec::new();
        self.write_to_s(env, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Appends the value as it goes into a record.
    ///
    /// # Errors
    /// What MessagePack cannot hold.
    pub fn write(&self, env: &mut Env<'a, '_>, out: &mut Vec<u8>) -> Result<(), Raised> {
        match self {
            Value::Nil => msgpack::write_nil(out),
            Value::Bool(value) => msgpack::write_bool(out, *value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => msgpack::write_int(out, value),
                (_, Ok(value)) => msgpack::write_uint(out, value),
                _ => return Err(Raised("RangeError: bignum too big to convert into 64 bits".to_owned())),
            },
            Value::Float(value) => msgpack::write_float(out, *value),
            Value::Text(text) => msgpack::write_text(out, text, false),
            Value::Data(data) => out.extend_from_slice(data),
            Value::Record => {
                msgpack::write_map_header(out, env.pairs);
                out.extend_from_slice(env.body);
            }
            Value::Time(moment) => {
                let mut text = Vec::new();
                env.memory.clocks.write_to_s(*moment, &mut text);
                msgpack::write_str(out, &text);
            }
            Value::Match(_) | Value::Range(_) => return Err(self.no_method("to_msgpack")),
        }
        limited(out.len())
    }

    fn no_method(&self, name: &str) -> Raised {
        let shown = match self {
            Value::Nil => "nil:NilClass".to_owned(),
            Value::Bool(value) => format!("{value}:{}", self.class()),
            Value::Int(value) => format!("{value}:Integer"),
            _ => format!("an instance of {}", self.class()),
        };
        Raised(format!("NoMethodError: undefined method `{name}' for {shown}"))
    }

    fn no_conversion(&self, to: &str) -> Raised {
        Raised(format!("TypeError: no implicit conversion of {} into {to}", self.conversion_name()))
    }
}

impl Match {
    /// A group's text.
    #[must_use]
    pub fn group(&self, number: usize) -> Option<&[u8]> {
        self.groups.get(number)?.as_deref()
    }

    /// The last group of that name that took part. Err: there is no such name.
    fn named(&self, name: &[u8]) -> Result<Option<&[u8]>, Raised> {
        let Some((_, numbers)) = self.names.iter().find(|(known, _)| known.as_bytes() == name) else {
            let name = String::from_utf8_lossy(name);
            return Err(Raised(format!("IndexError: undefined group name reference: {name}")));
        };
        Ok(numbers.iter().rev().find_map(|number| self.group(*number)))
    }
}

/// Nothing that an expression makes may exceed what a message may.
fn limited(size: usize) -> Result<(), Raised> {
    if size > HARD_LIMIT {
        return Err(Raised(format!("NoMemoryError: more than {HARD_LIMIT} bytes")));
    }
    Ok(())
}

/// The values of an array, or pairs of values of a map: (start, end) each.
fn children(data: &[u8]) -> Result<Vec<(usize, usize)>, Raised> {
    let mut pos = 0;
    let count = match read_token(data, &mut pos)? {
        Token::Array(len) => len,
        Token::Map(len) => len * 2,
        _ => 0,
    };
    let mut found = Vec::with_capacity(count.min(data.len()));
    for _ in 0..count {
        let start = pos;
        skip_value(data, &mut pos)?;
        found.push((start, pos));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

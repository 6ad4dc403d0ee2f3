//! The values of `<record>`: texts with placeholders, compiled, over the parts of an event.
//!
//! A placeholder is `${...}` up to the first brace, or a word such as `__NAME__`. Known are `${tag}`,
//! `${tag_parts[n]}`, `${tag_prefix[n]}`, `${tag_suffix[n]}`, `${time}`, `${hostname}` and
//! `${record["key"]}`; any other is nil. With `enable_ruby` it is an expression ([`crate::expression`]); the
//! simplest of those take the same short way.

use super::Failure;
use crate::expression::{self, Context, Env, List, Method, Refused, Value};
use crate::fields::Found;
use crate::msgpack::{self, write_text};
use crate::ruby_inspect::write_to_s;
use crate::time::TimeFormatter;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A top-level field.
    Field(usize),
    /// The tag.
    Tag,
    /// One part of the tag.
    TagPart(i64),
    /// The tag up to one of its parts.
    TagPrefix(i64),
    /// The tag from one of its parts on.
    TagSuffix(i64),
    /// The event's time as text.
    Time,
    /// The event's time in whole seconds.
    Seconds,
    /// The host's name.
    Hostname,
    /// nil.
    Unknown,
}

/// A piece of a text.
pub enum Part {
    /// As it is.
    Literal(Vec<u8>),
    /// What a placeholder gives, as text.
    Placeholder(Source),
    /// What an expression gives, as text.
    Expression(Box<expression::Node>),
}

/// A compiled value.
pub enum Node {
    /// The same for all events, as MessagePack.
    Fixed(Vec<u8>),
    /// One placeholder, whose value keeps its type.
    Whole(Source),
    /// One expression, whose value keeps its type.
    Expression(Box<expression::Node>),
    /// A text.
    Text(Vec<Part>),
    /// An array.
    Array(Vec<Node>),
    /// A hash; keys are texts.
    Map(Vec<(Vec<Part>, Node)>),
}

/// A text that cannot be compiled.
pub struct Unknown {
    /// The placeholder, or the text with expressions.
    pub text: String,
    /// What is wrong with an expression.
    pub why: Option<Refused>,
}

/// Compiles texts.
pub struct Compiler<'a, 'f> {
    /// What expressions share; gets the fields that are needed.
    pub context: &'a mut Context<'f>,
    /// `auto_typecast`: a text that is one placeholder keeps the value's type.
    pub typed: bool,
    /// `enable_ruby`: placeholders are expressions.
    pub ruby: bool,
    /// Gets the placeholders that are none.
    pub unknown: &'a mut Vec<Unknown>,
}

impl Compiler<'_, '_> {
    /// A text as a value.
    pub fn text(&mut self, text: &str) -> Node {
        if self.ruby && self.typed && text.matches("${").count() == 1 {
            let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            if let Some(inner) = whole {
                let parsed = expression::parse(inner, self.context);
                return self.understood(inner, parsed).map_or_else(|| fixed(b""), whole_node);
            }
        }
        let mut parts = self.parts(text);
        if self.typed
            && !self.ruby
            && let [Part::Placeholder(source)] = parts.as_slice()
        {
            return Node::Whole(*source);
        }
        match parts.as_mut_slice() {
            [] => fixed(b""),
            [Part::Literal(literal)] => fixed(literal),
            _ => Node::Text(parts),
        }
    }

    fn understood<T>(&mut self, text: &str, parsed: Result<T, Refused>) -> Option<T> {
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.unknown.push(Unknown { text: text.to_owned(), why: Some(why) });
                None
            }
        }
    }

    /// A text's pieces.
    pub fn parts(&mut self, text: &str) -> Vec<Part> {
        if self.ruby {
            let parsed = expression::interpolated(text, self.context);
            let nodes = self.understood(text, parsed).unwrap_or_default();
            return nodes.into_iter().map(part).collect();
        }
        let mut parts = Vec::new();
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            let Some(len) = placeholder_len(&text.as_bytes()[at..]) else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            if from < at {
                parts.push(Part::Literal(text.as_bytes()[from..at].to_vec()));
            }
            let source = self.source(&text[at..at + len]);
            parts.push(Part::Placeholder(source));
            at += len;
            from = at;
        }
        if from < text.len() {
            parts.push(Part::Literal(text.as_bytes()[from..].to_vec()));
        }
        parts
    }

    fn source(&mut self, placeholder: &str) -> Source {
        let inner = placeholder.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or("");
        let source = self.known(inner);
        if source.is_none() {
            self.unknown.push(Unknown { text: placeholder.to_owned(), why: None });
        }
        source.unwrap_or(Source::Unknown)
    }

    fn known(&mut self, inner: &str) -> Option<Source> {
        match inner {
            "tag" => return Some(Source::Tag),
            "time" => return Some(Source::Time),
            "hostname" => return Some(Source::Hostname),
            _ => {}
        }
        for (name, make) in [
            ("tag_parts[", Source::TagPart as fn(i64) -> Source),
            ("tag_prefix[", Source::TagPrefix),
            ("tag_suffix[", Source::TagSuffix),
        ] {
            if let Some(index) = inner.strip_prefix(name).and_then(|rest| rest.strip_suffix(']')) {
                let number: i64 = index.parse().ok()?;
                return (number.to_string() == index).then(|| make(number));
            }
        }
        let key = inner.strip_prefix("record[\"")?.strip_suffix("\"]")?;
        Some(Source::Field(self.context.fields.add(key.as_bytes())))
    }
}

/// The simplest expressions as what they stand for, which needs no evaluation.
fn simple(node: &expression::Node) -> Option<Source> {
    use expression::Node as Is;
    Some(match node {
        Is::Field(field) => Source::Field(*field),
        Is::Tag => Source::Tag,
        Is::Time => Source::Time,
        Is::Call(inner, Method::ToI, arguments, false) if arguments.is_empty() => match **inner {
            Is::Time => Source::Seconds,
            _ => return None,
        },
        Is::Index(inner, arguments) => {
            let [Is::Fixed(Value::Int(index))] = arguments.as_slice() else { return None };
            let index = i64::try_from(*index).ok()?;
            match **inner {
                Is::Tags(List::Parts) => Source::TagPart(index),
                Is::Tags(List::Prefix) => Source::TagPrefix(index),
                Is::Tags(List::Suffix) => Source::TagSuffix(index),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn whole_node(node: expression::Node) -> Node {
    if let expression::Node::Fixed(Value::Text(text)) = &node {
        return fixed(text);
    }
    simple(&node).map_or_else(|| Node::Expression(Box::new(node)), Node::Whole)
}

fn part(node: expression::Node) -> Part {
    if let expression::Node::Fixed(Value::Text(text)) = &node {
        return Part::Literal(text.to_vec());
    }
    simple(&node).map_or_else(|| Part::Expression(Box::new(node)), Part::Placeholder)
}

fn fixed(text: &[u8]) -> Node {
    let mut packed = Vec::new();
    msgpack::write_str(&mut packed, text);
    Node::Fixed(packed)
}

/// How long the placeholder is that `text` starts with.
fn placeholder_len(text: &[u8]) -> Option<usize> {
    if let Some(rest) = text.strip_prefix(b"${") {
        let end = memchr::memchr(b'}', rest)?;
        return (end > 0).then_some(end + 3);
    }
    if !text.starts_with(b"__") {
        return None;
    }
    let run = text.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'_').count();
    (5..=run).rev().find(|end| &text[end - 2..*end] == b"__")
}

/// A tag's parts, as positions in it.
#[derive(Debug, Default)]
pub struct TagParts {
    parts: Vec<(usize, usize)>,
}

impl TagParts {
    /// Splits as Ruby does: empty parts at the end do not count.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let mut parts = Vec::new();
        let mut start = 0;
        for part in tag.trim_end_matches('.').split('.') {
            parts.push((start, start + part.len()));
            start += part.len() + 1;
        }
        if tag.trim_end_matches('.').is_empty() {
            parts.clear();
        }
        TagParts { parts }
    }

    fn get(&self, index: i64) -> Option<(usize, usize)> {
        let len = self.parts.len() as i64;
        let index = if index < 0 { index + len } else { index };
        usize::try_from(index).ok().and_then(|index| self.parts.get(index)).copied()
    }

    fn end(&self) -> usize {
        self.parts.last().map_or(0, |(_, end)| *end)
    }
}

/// One event, and what is needed to write its values.
pub struct Scope<'a, 'm> {
    /// The tag.
    pub tag: &'a str,
    /// Its parts.
    pub parts: &'a TagParts,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The record's pairs.
    pub body: &'a [u8],
    /// How many they are.
    pub pairs: usize,
    /// Where the fields are in it.
    pub found: &'a Found,
    /// The host's name.
    pub hostname: &'a str,
    /// Ruby's `Time#to_s`.
    pub clock: &'m mut TimeFormatter,
    /// Working memory for texts.
    pub text: &'m mut Vec<u8>,
    /// Counts placeholders without a value.
    pub missing: &'m mut usize,
    /// Working memory of expressions.
    pub memory: &'m mut expression::Memory,
}

impl<'a> Scope<'a, '_> {
    fn env(&mut self) -> Env<'a, '_> {
        Env {
            tag: self.tag,
            time_ns: self.time_ns,
            body: self.body,
            pairs: self.pairs,
            found: self.found,
            memory: self.memory,
        }
    }

    fn part_of_tag(&self, source: &Source) -> Option<&str> {
        let (start, end) = match source {
            Source::Tag => (0, self.tag.len()),
            Source::TagPart(index) => self.parts.get(*index)?,
            Source::TagPrefix(index) => (0, self.parts.get(*index)?.1),
            Source::TagSuffix(index) => (self.parts.get(*index)?.0, self.parts.end()),
            _ => return None,
        };
        Some(&self.tag[start..end])
    }

    fn field(&self, source: &Source) -> Option<&[u8]> {
        match source {
            Source::Field(field) => self.found.value(self.body, *field),
            _ => None,
        }
    }

    /// Appends a source's value as MessagePack.
    fn write_whole(&mut self, source: &Source, out: &mut Vec<u8>) {
        if let Some(value) = self.field(source) {
            return out.extend_from_slice(value);
        }
        if let Some(text) = self.part_of_tag(source) {
            return msgpack::write_str(out, text.as_bytes());
        }
        match source {
            Source::Hostname => msgpack::write_str(out, self.hostname.as_bytes()),
            Source::Seconds => msgpack::write_int(out, self.time_ns.div_euclid(1_000_000_000)),
            Source::Time => {
                self.text.clear();
                self.clock.write(self.text, self.time_ns);
                msgpack::write_str(out, self.text);
            }
            _ => {
                *self.missing += 1;
                msgpack::write_nil(out);
            }
        }
    }

    /// Appends a source's value as text.
    fn write_part(&mut self, source: &Source, text: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(value) = self.field(source) {
            if let [0xa0..=0xbf, short @ ..] = value {
                text.extend_from_slice(short); // a short text, as most are
                return Ok(());
            }
            return Ok(write_to_s(text, value, &mut 0)?);
        }
        if let Some(part) = self.part_of_tag(source) {
            text.extend_from_slice(part.as_bytes());
            return Ok(());
        }
        match source {
            Source::Hostname => text.extend_from_slice(self.hostname.as_bytes()),
            Source::Seconds => {
                let seconds = self.time_ns.div_euclid(1_000_000_000);
                text.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
            }
            Source::Time => self.clock.write(text, self.time_ns),
            _ => *self.missing += 1,
        }
        Ok(())
    }

    /// Appends an expression's value as text.
    fn write_expression(&mut self, node: &'a expression::Node, text: &mut Vec<u8>) -> Result<(), Failure> {
        let mut env = self.env();
        let value = node.eval(&mut env)?;
        Ok(value.write_to_s(&mut env, text)?)
    }

    /// Appends a text as MessagePack.
    ///
    /// # Errors
    /// A record that is broken, an expression that raises.
    pub fn write_parts(&mut self, parts: &'a [Part], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut text = std::mem::take(self.text);
        text.clear();
        let mut outcome = Ok(());
        for part in parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal),
                Part::Placeholder(source) => outcome = outcome.and(self.write_part(source, &mut text)),
                Part::Expression(node) => outcome = outcome.and(self.write_expression(node, &mut text)),
            }
        }
        write_text(out, &text, false);
        *self.text = text;
        outcome
    }
}

impl Node {
    /// Appends the value for an event as MessagePack.
    ///
    /// # Errors
    /// A record that is broken, an expression that raises.
    pub fn write<'a>(&'a self, scope: &mut Scope<'a, '_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Node::Fixed(packed) => out.extend_from_slice(packed),
            Node::Whole(source) => scope.write_whole(source, out),
            Node::Expression(node) => {
                let mut env = scope.env();
                let value = node.eval(&mut env)?;
                value.write(&mut env, out)?;
            }
            Node::Text(parts) => scope.write_parts(parts, out)?,
            Node::Array(nodes) => {
                msgpack::write_array_header(out, nodes.len());
                for node in nodes {
                    node.write(scope, out)?;
                }
            }
            Node::Map(pairs) => {
                msgpack::write_map_header(out, pairs.len());
                for (key, node) in pairs {
                    scope.write_parts(key, out)?;
                    node.write(scope, out)?;
                }
            }
        }
        Ok(())
    }
}

//! The values of `<record>`: texts with placeholders, compiled, over the parts of an event.
//!
//! A placeholder is `${...}` up to the first brace, or a word such as `__NAME__`. Known are `${tag}`,
//! `${tag_parts[n]}`, `${tag_prefix[n]}`, `${tag_suffix[n]}`, `${time}`, `${hostname}` and
//! `${record["key"]}`; any other is nil.

use crate::accessor::{Accessor, Step};
use crate::fields::{Fields, Found};
use crate::msgpack::{self, Malformed, write_text};
use crate::ruby_inspect::write_to_s;
use crate::time::TimeFormatter;

/// What a placeholder stands for.
#[derive(Debug, Clone)]
pub enum Source {
    /// A top-level field.
    Field(usize),
    /// What is in a top-level field.
    Nested(Accessor),
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
#[derive(Debug, Clone)]
pub enum Part {
    /// As it is.
    Literal(Vec<u8>),
    /// What a placeholder gives, as text.
    Placeholder(Source),
}

/// A compiled value.
#[derive(Debug, Clone)]
pub enum Node {
    /// The same for all events, as MessagePack.
    Fixed(Vec<u8>),
    /// One placeholder, whose value keeps its type.
    Whole(Source),
    /// A text.
    Text(Vec<Part>),
    /// An array.
    Array(Vec<Node>),
    /// A hash; keys are texts.
    Map(Vec<(Vec<Part>, Node)>),
}

/// Compiles texts.
pub struct Compiler<'a> {
    /// Gets the fields that are needed.
    pub fields: &'a mut Fields,
    /// `auto_typecast`: a text that is one placeholder keeps the value's type.
    pub typed: bool,
    /// `enable_ruby`: nested fields and `time.to_i` too.
    pub ruby: bool,
    /// Gets the placeholders that are none.
    pub unknown: &'a mut Vec<String>,
}

impl Compiler<'_> {
    /// A text as a value.
    pub fn text(&mut self, text: &str) -> Node {
        let mut parts = self.parts(text);
        if self.typed
            && let [Part::Placeholder(source)] = parts.as_slice()
        {
            return Node::Whole(source.clone());
        }
        match parts.as_mut_slice() {
            [] => fixed(b""),
            [Part::Literal(literal)] => fixed(literal),
            _ => Node::Text(parts),
        }
    }

    /// A text's pieces.
    pub fn parts(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let (mut from, mut at) = (0, 0);
        if self.ruby && !text.starts_with("${") && (text.contains('\\') || text.contains("#{")) {
            self.unknown.push(text.to_owned());
        }
        while at < text.len() {
            let len = placeholder_len(&text.as_bytes()[at..]);
            let Some(len) = len.filter(|_| !self.ruby || text[at..].starts_with('$')) else {
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
        let inner = if self.ruby { inner.trim() } else { inner };
        let source = self.known(inner);
        if source.is_none() {
            self.unknown.push(placeholder.to_owned());
        }
        source.unwrap_or(Source::Unknown)
    }

    fn known(&mut self, inner: &str) -> Option<Source> {
        match inner {
            "tag" => return Some(Source::Tag),
            "time" | "time.to_s" if self.ruby || inner == "time" => return Some(Source::Time),
            "time.to_i" if self.ruby => return Some(Source::Seconds),
            "hostname" => return Some(Source::Hostname),
            "Socket.gethostname" if self.ruby => return Some(Source::Hostname),
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
        if self.ruby {
            return self.path(inner);
        }
        let key = inner.strip_prefix("record[\"")?.strip_suffix("\"]")?;
        Some(Source::Field(self.fields.add(key.as_bytes())))
    }

    /// `record["a"]["b"][0]` or `record.dig("a", "b")`.
    fn path(&mut self, inner: &str) -> Option<Source> {
        let mut steps = Vec::new();
        if let Some(arguments) = inner.strip_prefix("record.dig(").and_then(|rest| rest.strip_suffix(')')) {
            for argument in arguments.split(',') {
                steps.push(step(argument.trim())?);
            }
        } else {
            let mut rest = inner.strip_prefix("record")?;
            while !rest.is_empty() {
                let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
                steps.push(step(index.trim())?);
                rest = after;
            }
        }
        let Some((Step::Key(first), more)) = steps.split_first() else { return None };
        let field = self.fields.add(first);
        if more.is_empty() {
            return Some(Source::Field(field));
        }
        Some(Source::Nested(Accessor::from_steps(steps)))
    }
}

fn step(text: &str) -> Option<Step> {
    let quoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    match quoted {
        Some(key) if !key.contains(['"', '\'', '\\', '#', '[', ']']) => {
            Some(Step::Key(key.as_bytes().to_vec()))
        }
        Some(_) => None,
        None => text.parse().ok().map(Step::Index),
    }
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
pub struct Scope<'a> {
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
    pub clock: &'a mut TimeFormatter,
    /// Working memory for texts.
    pub text: &'a mut Vec<u8>,
    /// Counts placeholders without a value.
    pub missing: &'a mut usize,
}

impl Scope<'_> {
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
            Source::Nested(accessor) => accessor.get(self.body, self.pairs),
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
    fn write_part(&mut self, source: &Source, text: &mut Vec<u8>) -> Result<(), Malformed> {
        if let Some(value) = self.field(source) {
            return write_to_s(text, value, &mut 0);
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

    /// Appends a text as MessagePack.
    ///
    /// # Errors
    /// [`Malformed`] for a record that is broken.
    pub fn write_parts(&mut self, parts: &[Part], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut text = std::mem::take(self.text);
        text.clear();
        let mut outcome = Ok(());
        for part in parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal),
                Part::Placeholder(source) => outcome = outcome.and(self.write_part(source, &mut text)),
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
    /// [`Malformed`] for a record that is broken.
    pub fn write(&self, scope: &mut Scope<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Node::Fixed(packed) => out.extend_from_slice(packed),
            Node::Whole(source) => scope.write_whole(source, out),
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

//! The Ruby in parameters of `elasticsearch_dynamic`: `${record['a']['b']}`, `${tag_parts[1]}`,
//! `${Time.at(time).strftime('%Y.%m')}` and their like, compiled. Any other Ruby is refused by name.

use crate::accessor::{Accessor, Step};
use crate::msgpack::{Token, read_token};
use crate::ruby_inspect::write_to_s;
use crate::time::TimeFormatter;

/// What an expression starts with.
#[derive(Debug, Clone)]
enum Source {
    Text(Vec<u8>),
    Field(Accessor),
    Tag,
    TagPart(i64),
    /// The number of its formatter.
    Time(usize),
    /// The first that has a value.
    Either(Vec<Term>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `to_s`: nil is an empty text.
    Text,
    Lower,
    Upper,
    Strip,
}

#[derive(Debug, Clone)]
struct Term {
    source: Source,
    methods: Vec<Method>,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(Vec<u8>),
    Expression(Term),
}

/// A parameter's text with `${...}` in it.
#[derive(Debug, Clone, Default)]
pub struct Template {
    pieces: Vec<Piece>,
    /// Formats, and whether they are in UTC.
    formats: Vec<(String, bool)>,
    delimiter: String,
}

/// One event, as expressions see it.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The tag; None has no parts.
    pub tag: Option<&'a str>,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The record's pairs.
    pub body: &'a [u8],
    /// Their number.
    pub pairs: usize,
}

/// One caller's memory over a [`Template`].
pub struct Clocks(Vec<TimeFormatter>);

impl Template {
    /// Compiles; `delimiter` stands between the parts of a tag.
    ///
    /// # Errors
    /// The expression that is not translated.
    pub fn new(text: &str, delimiter: &str) -> Result<Self, String> {
        let mut template = Template { delimiter: delimiter.to_owned(), ..Template::default() };
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(len) = rest[start + 2..].find('}') else { break };
            let inner = &rest[start + 2..start + 2 + len];
            if start > 0 {
                template.pieces.push(Piece::Literal(rest.as_bytes()[..start].to_vec()));
            }
            let mut reader = Reader { rest: inner, formats: &mut template.formats };
            let term = reader.either().filter(|_| reader.rest.trim().is_empty());
            template.pieces.push(Piece::Expression(term.ok_or_else(|| format!("${{{inner}}}"))?));
            rest = &rest[start + 3 + len..];
        }
        if !rest.is_empty() || template.pieces.is_empty() {
            template.pieces.push(Piece::Literal(rest.as_bytes().to_vec()));
        }
        Ok(template)
    }

    /// The formatters of its times.
    ///
    /// # Errors
    /// A message that names the zone; none for the machine's or UTC.
    pub fn clocks(&self) -> Result<Clocks, String> {
        let clock = |(format, utc): &(String, bool)| TimeFormatter::new(Some(format), utc.then_some("UTC"));
        Ok(Clocks(self.formats.iter().map(clock).collect::<Result<_, _>>()?))
    }

    /// Appends the text for an event. False: an expression has no value; `out` then has a part of the text.
    #[must_use]
    pub fn write(&self, scope: &Scope<'_>, clocks: &mut Clocks, out: &mut Vec<u8>) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Literal(text) => {
                out.extend_from_slice(text);
                true
            }
            Piece::Expression(term) => self.term(term, scope, clocks, out),
        })
    }

    fn term(&self, term: &Term, scope: &Scope<'_>, clocks: &mut Clocks, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if !self.source(&term.source, scope, clocks, out) {
            out.truncate(start);
            if !term.methods.contains(&Method::Text) {
                return false;
            }
        }
        for method in &term.methods {
            let text = String::from_utf8_lossy(&out[start..]);
            let changed = match method {
                Method::Text => continue,
                Method::Lower => text.to_lowercase(),
                Method::Upper => text.to_uppercase(),
                Method::Strip => text.trim().to_owned(),
            };
            out.truncate(start);
            out.extend_from_slice(changed.as_bytes());
        }
        true
    }

    fn source(&self, source: &Source, scope: &Scope<'_>, clocks: &mut Clocks, out: &mut Vec<u8>) -> bool {
        match source {
            Source::Text(text) => out.extend_from_slice(text),
            Source::Tag => match scope.tag {
                Some(tag) => out.extend_from_slice(tag.as_bytes()),
                None => return false,
            },
            Source::TagPart(index) => {
                let Some(part) = scope.tag.and_then(|tag| part(tag, &self.delimiter, *index)) else {
                    return false;
                };
                out.extend_from_slice(part.as_bytes());
            }
            Source::Either(terms) => return terms.iter().any(|term| self.term(term, scope, clocks, out)),
            Source::Time(clock) => match clocks.0.get_mut(*clock) {
                Some(clock) => clock.write(out, scope.time_ns),
                None => return false,
            },
            Source::Field(accessor) => {
                let Some(value) = accessor.get(scope.body, scope.pairs) else { return false };
                let nothing =
                    matches!(read_token(value, &mut 0), Ok(Token::Nil | Token::Bool(false)) | Err(_));
                return !nothing && write_to_s(out, value, &mut 0).is_ok();
            }
        }
        true
    }
}

/// A part of the tag, as Ruby's `split` counts: empty parts at the end are none.
fn part<'a>(tag: &'a str, delimiter: &str, index: i64) -> Option<&'a str> {
    let mut parts: Vec<&str> = if delimiter.is_empty() { vec![tag] } else { tag.split(delimiter).collect() };
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let index = if index < 0 { index + parts.len() as i64 } else { index };
    usize::try_from(index).ok().and_then(|index| parts.get(index)).copied()
}

/// Reads one expression.
struct Reader<'a, 'b> {
    rest: &'a str,
    formats: &'b mut Vec<(String, bool)>,
}

impl<'a> Reader<'a, '_> {
    /// Terms around `||`. None: it is not understood.
    fn either(&mut self) -> Option<Term> {
        let mut terms = vec![self.term()?];
        while self.takes("||") {
            terms.push(self.term()?);
        }
        match terms.len() {
            1 => terms.pop(),
            _ => Some(Term { source: Source::Either(terms), methods: Vec::new() }),
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(word);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn term(&mut self) -> Option<Term> {
        let source = if self.takes("(") {
            let terms = vec![self.either()?];
            if !self.takes(")") {
                return None;
            }
            Source::Either(terms)
        } else if let Some(text) = self.quoted() {
            Source::Text(text.as_bytes().to_vec())
        } else if self.takes("record") {
            Source::Field(Accessor::from_steps(self.path()?))
        } else if self.takes("tag_parts") {
            match self.step()? {
                Step::Index(index) => Source::TagPart(index),
                Step::Key(_) => return None,
            }
        } else if self.takes("tag") {
            Source::Tag
        } else if self.takes("Time.at(time") {
            self.time()?
        } else {
            return None;
        };
        self.methods(Term { source, methods: Vec::new() })
    }

    fn methods(&mut self, mut term: Term) -> Option<Term> {
        while self.takes(".") {
            let len =
                self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(len);
            term.methods.push(match name {
                "to_s" => Method::Text,
                "downcase" => Method::Lower,
                "upcase" => Method::Upper,
                "strip" => Method::Strip,
                _ => return None,
            });
            self.rest = rest;
            if self.takes("(") && !self.takes(")") {
                return None;
            }
        }
        Some(term)
    }

    /// `Time.at(time).strftime('...')`, behind `time`.
    fn time(&mut self) -> Option<Source> {
        let _ = [".to_i", ".to_r", ".to_f"].into_iter().any(|whole| self.takes(whole));
        let mut utc = false;
        if !self.takes(")") {
            return None;
        }
        while [".utc", ".getutc", ".gmtime", ".getgm"].into_iter().any(|zone| self.takes(zone)) {
            utc = true;
        }
        if !self.takes(".strftime") {
            return None;
        }
        let bracket = self.takes("(");
        let format = self.quoted()?.to_owned();
        if bracket && !self.takes(")") {
            return None;
        }
        self.formats.push((format, utc));
        Some(Source::Time(self.formats.len() - 1))
    }

    /// `['a']["b"][0]` or `.dig('a', 0)`, which starts with a key.
    fn path(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        if self.takes(".dig(") {
            loop {
                steps.push(self.argument()?);
                if self.takes(")") {
                    break;
                }
                if !self.takes(",") {
                    return None;
                }
            }
        } else {
            while self.rest.starts_with('[') {
                steps.push(self.step()?);
            }
        }
        matches!(steps.first(), Some(Step::Key(_))).then_some(steps)
    }

    fn step(&mut self) -> Option<Step> {
        let step = if self.takes("[") { self.argument()? } else { return None };
        self.takes("]").then_some(step)
    }

    fn argument(&mut self) -> Option<Step> {
        if let Some(key) = self.quoted() {
            return Some(Step::Key(key.as_bytes().to_vec()));
        }
        let end = self.rest.find([']', ',', ')'])?;
        let index = self.rest[..end].trim().parse().ok()?;
        self.rest = &self.rest[end..];
        Some(Step::Index(index))
    }

    /// A text in quotes without anything that Ruby would change.
    fn quoted(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let (text, after) = rest[1..].split_once(quote)?;
        if text.contains('\\') || (quote == '"' && text.contains("#{")) {
            return None;
        }
        self.rest = after;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_in;

    fn write(template: &str, record: &str) -> Result<Option<String>, String> {
        let template = Template::new(template, ".")?;
        let mut packed = Vec::new();
        json_in::transcode(record.as_bytes(), &mut packed).unwrap();
        let mut pos = 0;
        let Ok(Token::Map(pairs)) = read_token(&packed, &mut pos) else { panic!("{record}") };
        let scope = Scope {
            tag: Some("app.web.1."),
            time_ns: 1_700_000_000_000_000_000,
            body: &packed[pos..],
            pairs,
        };
        let mut out = Vec::new();
        let whole = template.write(&scope, &mut template.clocks()?, &mut out);
        Ok(whole.then(|| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn what_is_translated() {
        let record = r#"{"a":"X y ","n":{"b":["p","q"]},"i":7,"no":null,"f":false}"#;
        for (template, expected) in [
            ("plain", Some("plain")),
            ("", Some("")),
            ("${", Some("${")),
            ("i-${record['a'].strip.downcase}", Some("i-x y")),
            (r#"${record["n"]["b"][1]}-${record.dig('n', "b", 0)}"#, Some("q-p")),
            ("${record['i']}", Some("7")),
            ("${ tag }_${tag_parts[1]}_${tag_parts[-1]}", Some("app.web.1._web_1")),
            ("${tag_parts[3]}", None),
            ("a-${record['no']}", None),
            ("${record['gone']}", None),
            ("${record['gone'].to_s}.", Some(".")),
            ("${record['gone'] || record['f'] || 'other'}", Some("other")),
            ("${(record['gone'] || 'X').downcase}", Some("x")),
            ("${Time.at(time).utc.strftime('%Y.%m.%d')}", Some("2023.11.14")),
            (r#"l-${Time.at(time.to_i).getutc.strftime("%H")}"#, Some("l-22")),
            ("${record['a'].upcase()}", Some("X Y ")),
        ] {
            assert_eq!(write(template, record), Ok(expected.map(str::to_owned)), "{template}");
        }
    }

    #[test]
    fn what_is_refused() {
        for expression in [
            "record",
            "record[0]",
            "record['a",
            "record['a'].foo",
            "record['a'] + 'x'",
            "Time.now.strftime('%Y')",
            "Time.at(time)",
            "Time.at(time).strftime('%Y'",
            "`id`",
            "system('id')",
            "'a\\'b'",
            "tag_parts['x']",
            "record['a'] ? 'b' : 'c'",
            "record['a'].downcase(:ascii)",
            "time",
            "",
        ] {
            let text = format!("x-${{{expression}}}");
            let found = Template::new(&text, ".").map(|_| ());
            assert_eq!(found, Err(format!("${{{expression}}}")), "{expression}");
        }
    }
}

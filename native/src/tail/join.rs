//! From lines to texts: events of several lines, and lines that a container runtime has cut.

use std::time::Instant;

use memchr::{memchr2, memmem};

use super::fill::Filling;
use crate::containers::cri_parts;
use crate::extract::compile;
use crate::framer::HARD_LIMIT;
use crate::ingest::chomp;
use crate::parser::Partial;
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp::Flags;

/// How lines become texts.
pub enum Join {
    /// Each line is a text.
    Lines,
    /// A text starts with a line that matches; without a pattern it ends as soon as it parses.
    Multiline(Option<Box<Regexp>>),
    /// CRI and Docker cut long lines; the parts are put together.
    Parts(Partial),
}

impl Join {
    /// `first`: Ruby source of the pattern of a first line, without slashes.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn multiline(first: Option<&str>) -> Result<Self, String> {
        let first = first.map(|source| compile(source, Flags::default())).transpose()?;
        Ok(Join::Multiline(first.map(|(regexp, _)| Box::new(regexp))))
    }

    /// Working memory.
    #[must_use]
    pub fn matcher(&self) -> Option<Matcher> {
        match self {
            Join::Multiline(Some(first)) => Some(first.matcher()),
            _ => None,
        }
    }
}

/// The start of a text whose end has not come yet.
#[derive(Default)]
pub struct Hold {
    text: Vec<u8>,
    /// What follows the text at its end (Docker).
    tail: Vec<u8>,
    /// Where in the file it starts.
    start: u64,
    /// When it last grew; None: nothing is held.
    since: Option<Instant>,
}

impl Hold {
    fn begin(&mut self, start: u64, now: Instant) {
        self.text.clear();
        self.tail.clear();
        self.start = start;
        self.since = Some(now);
    }

    fn end(&mut self) {
        self.since = None;
        if self.text.capacity() > 65_536 {
            self.text = Vec::new();
        }
    }
}

/// One file's unfinished texts: of a container's stdout and stderr, otherwise only the first.
#[derive(Default)]
pub struct Held {
    holds: [Hold; 2],
}

impl Held {
    /// Where in the file the first unfinished text starts.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        self.holds.iter().filter(|hold| hold.since.is_some()).map(|hold| hold.start).min()
    }

    /// When something that is held last grew.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.holds.iter().filter_map(|hold| hold.since).min()
    }

    /// Gives up waiting for what has not grown since `before` (None: for everything).
    pub fn flush(&mut self, before: Option<Instant>, filling: &mut Filling<'_>) {
        for hold in &mut self.holds {
            let Some(since) = hold.since else { continue };
            if before.is_none_or(|before| since <= before) {
                hold.text.append(&mut hold.tail);
                filling.text(chomp(&hold.text));
                hold.end();
            }
        }
    }
}

/// One turn's use of a [`Join`].
pub struct Joining<'a> {
    /// How.
    pub join: &'a Join,
    /// From [`Join::matcher`].
    pub matcher: Option<Matcher>,
    /// The time of this turn.
    pub now: Instant,
}

impl Joining<'_> {
    /// Takes one line with its end, which starts at `start` in the file.
    #[inline]
    pub fn line(&mut self, held: &mut Held, line: &[u8], start: u64, filling: &mut Filling<'_>) {
        match self.join {
            Join::Lines => filling.text(chomp(line)),
            Join::Multiline(Some(first)) => {
                let matcher = self.matcher.get_or_insert_with(|| first.matcher());
                let begins = matcher.search(first, line, Script::of(line)).unwrap_or(false);
                first_line(&mut held.holds[0], line, begins, start, self.now, filling);
            }
            Join::Multiline(None) => until_it_parses(&mut held.holds[0], line, start, self.now, filling),
            Join::Parts(Partial::Cri) => cri(held, line, start, self.now, filling),
            Join::Parts(Partial::Docker) => docker(held, line, start, self.now, filling),
        }
        for hold in &mut held.holds {
            if hold.since.is_some() && hold.text.len() > HARD_LIMIT {
                filling.notice("text_limit", &hold.text);
                hold.text.append(&mut hold.tail);
                filling.text(chomp(&hold.text));
                hold.end();
            }
        }
    }
}

fn first_line(
    hold: &mut Hold,
    line: &[u8],
    begins: bool,
    start: u64,
    now: Instant,
    filling: &mut Filling<'_>,
) {
    if begins {
        if hold.since.is_some() {
            filling.text(chomp(&hold.text));
        }
        hold.begin(start, now);
        hold.text.extend_from_slice(line);
    } else if hold.since.is_some() {
        hold.since = Some(now);
        hold.text.extend_from_slice(line);
    } else {
        filling.headless(chomp(line));
    }
}

fn until_it_parses(hold: &mut Hold, line: &[u8], start: u64, now: Instant, filling: &mut Filling<'_>) {
    if hold.since.is_none() {
        hold.begin(start, now);
    }
    hold.since = Some(now);
    hold.text.extend_from_slice(line);
    if filling.gives(&hold.text) {
        filling.text(chomp(&hold.text));
        hold.end();
    }
}

/// `TIME STREAM TAGS CONTENT`: the first tag is P for a part, F for the end of a line (Kubernetes' CRI log
/// format). The joined line has the time of its first part.
fn cri(held: &mut Held, line: &[u8], start: u64, now: Instant, filling: &mut Filling<'_>) {
    let Some([head, stream, tags, content]) = cri_parts(line) else { return filling.text(chomp(line)) };
    let hold = &mut held.holds[usize::from(stream == b"stderr")];
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    if hold.since.is_none() {
        if !partial {
            return filling.text(chomp(line));
        }
        hold.begin(start, now);
        hold.text.extend_from_slice(head);
        hold.text.extend_from_slice(b" F ");
    }
    hold.since = Some(now);
    if partial {
        hold.text.extend_from_slice(content.strip_suffix(b"\n").unwrap_or(content));
    } else {
        hold.text.extend_from_slice(content);
        filling.text(chomp(&hold.text));
        hold.end();
    }
}

/// `{"log":"TEXT\n","stream":"stdout","time":"..."}` as Docker's json-file driver writes it: a text without a
/// newline at its end goes on in the next line of its stream. The joined line has the time of its first part.
fn docker(held: &mut Held, line: &[u8], start: u64, now: Instant, filling: &mut Filling<'_>) {
    const HEAD: &[u8] = b"{\"log\":\"";
    let Some(end) = line.strip_prefix(HEAD).and_then(string_end) else { return filling.text(chomp(line)) };
    let (content, tail) = line[HEAD.len()..].split_at(end);
    let stderr = memmem::find(tail, b"\"stream\":\"stderr\"").is_some();
    let hold = &mut held.holds[usize::from(stderr)];
    let partial = !ends_with_newline(content);
    if hold.since.is_none() {
        if !partial {
            return filling.text(chomp(line));
        }
        hold.begin(start, now);
        hold.text.extend_from_slice(HEAD);
        hold.tail.extend_from_slice(tail);
    }
    hold.since = Some(now);
    hold.text.extend_from_slice(content);
    if !partial {
        hold.text.append(&mut hold.tail);
        filling.text(chomp(&hold.text));
        hold.end();
    }
}

/// Where a JSON string ends whose first quote is gone.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Whether a JSON string's content ends with the escape `\n`, rather than with a backslash and an `n`.
fn ends_with_newline(content: &[u8]) -> bool {
    content
        .strip_suffix(b"n")
        .is_some_and(|rest| rest.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fill::{Basket, Origin, Recipe};
    use super::*;
    use crate::json_out;
    use crate::msgpack::Entries;
    use crate::none::NoneParser;
    use crate::options::ParseOptions;

    fn join(join: &Join, lines: &[&str], flush: bool) -> (Vec<String>, Option<u64>) {
        let recipe = Recipe::new(Arc::new(NoneParser::new("m", &ParseOptions::default())), None, false);
        let mut basket = Basket::default();
        let origin = Origin { tag: "t".into(), path: vec![] };
        let mut held = Held::default();
        let mut filling = Filling::new(&recipe, &mut basket, 0);
        filling.turn_to(&origin);
        let mut joining = Joining { join, matcher: join.matcher(), now: Instant::now() };
        let mut start = 0;
        for line in lines {
            let line = format!("{line}\n");
            joining.line(&mut held, line.as_bytes(), start, &mut filling);
            start += line.len() as u64;
        }
        let open = held.start();
        if flush {
            held.flush(None, &mut filling);
        }
        drop(filling);
        let taken = basket.take();
        let texts = Entries::new(&taken.batch.data)
            .map(|entry| {
                let entry = entry.unwrap();
                let mut out = vec![];
                json_out::write_record(&mut out, entry.body, entry.pairs).unwrap();
                String::from_utf8(out).unwrap()
            })
            .collect();
        (texts, open)
    }

    #[test]
    fn cut_lines_are_put_together_per_stream() {
        let lines = [
            "t1 stdout P one ",
            "t2 stderr F other",
            "t3 stdout P two",
            "t4 stdout F three",
            "t5 stdout P open",
        ];
        let (texts, open) = join(&Join::Parts(Partial::Cri), &lines, false);
        assert_eq!(texts, [r#"{"m":"t2 stderr F other"}"#, r#"{"m":"t1 stdout F one twothree"}"#]);
        assert_eq!(open, Some(69));
        let docker = [
            r#"{"log":"one","stream":"stdout","time":"1"}"#,
            r#"{"log":"e\n","stream":"stderr","time":"2"}"#,
            r#"{"log":" \\n","stream":"stdout","time":"3"}"#,
            r#"{"log":"\"two\n","stream":"stdout","time":"4"}"#,
            "no json",
        ];
        let (texts, open) = join(&Join::Parts(Partial::Docker), &docker, false);
        assert_eq!(
            texts,
            [
                r#"{"m":"{\"log\":\"e\\n\",\"stream\":\"stderr\",\"time\":\"2\"}"}"#,
                r#"{"m":"{\"log\":\"one \\\\n\\\"two\\n\",\"stream\":\"stdout\",\"time\":\"1\"}"}"#,
                r#"{"m":"no json"}"#
            ]
        );
        assert_eq!(open, None);
    }

    #[test]
    fn texts_of_several_lines() {
        let first = Join::multiline(Some("^>")).unwrap();
        let (texts, open) = join(&first, &["x", ">1", " a", ">2", " b"], false);
        assert_eq!((texts, open), (vec![r#"{"m":">1\n a"}"#.to_owned()], Some(8)));
        let (texts, _) = join(&first, &[">1", " a"], true);
        assert_eq!(texts, [r#"{"m":">1\n a"}"#]);
    }
}

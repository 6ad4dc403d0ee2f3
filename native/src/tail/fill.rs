//! From a file's texts to events: parse, add the path, book what failed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ingest::edit::{find_value, write_pair, write_replaced};
use crate::ingest::{Taken, tally};
use crate::msgpack;
use crate::parser::{Events, Mismatch, Parser, Session};

/// Events at which a batch is handed on.
const MAX_EVENTS: usize = 4096;
/// Bytes at which a batch is handed on.
const MAX_BYTES: usize = 4 << 20;

/// What an input wants of its texts.
pub struct Recipe {
    /// The parser.
    pub parser: Arc<dyn Parser>,
    /// Field for the path, where the record has none.
    path_key: Option<String>,
    /// The parser never writes that field.
    path_is_new: bool,
    /// Texts that do not parse become events.
    pub emit_unmatched_lines: bool,
    estimate: bool,
}

impl Recipe {
    /// For an input.
    #[must_use]
    pub fn new(parser: Arc<dyn Parser>, path_key: Option<String>, emit_unmatched_lines: bool) -> Self {
        let path_is_new = match (&path_key, parser.keys()) {
            (Some(key), Some(keys)) => !keys.iter().any(|known| known == key.as_bytes()),
            _ => false,
        };
        let estimate = parser.estimate_current_event();
        Recipe { parser, path_key, path_is_new, emit_unmatched_lines, estimate }
    }
}

/// The batch that is being filled, and working memory.
#[derive(Default)]
pub struct Basket {
    /// Events, failures, notices.
    pub taken: Taken,
    tags: HashMap<Arc<str>, u32>,
    last_len: usize,
}

impl Basket {
    /// Gives what was filled in and starts anew.
    pub fn take(&mut self) -> Taken {
        self.tags.clear();
        self.last_len = self.taken.batch.data.len();
        std::mem::take(&mut self.taken)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Taken { batch, failures, notices } = &self.taken;
        batch.count == 0 && failures.is_empty() && notices.is_empty()
    }

    /// The number of a tag within the batch.
    fn tag(&mut self, tag: &Arc<str>) -> u32 {
        if let Some(known) = self.tags.get(tag) {
            return *known;
        }
        let tags = &mut self.taken.batch.tags;
        tags.push(Arc::clone(tag));
        let number = (tags.len() - 1) as u32;
        self.tags.insert(Arc::clone(tag), number);
        number
    }
}

/// Where texts come from.
#[derive(Clone)]
pub struct Origin {
    /// The events' tag.
    pub tag: Arc<str>,
    /// The path as a MessagePack value.
    pub path: Vec<u8>,
}

/// An open session that fills a [`Basket`].
pub struct Filling<'a> {
    recipe: &'a Recipe,
    session: Box<dyn Session + 'a>,
    events: Events,
    edited: Vec<u8>,
    /// The batch.
    pub basket: &'a mut Basket,
    now_ns: i64,
    tag: u32,
    path: Vec<u8>,
}

impl<'a> Filling<'a> {
    /// `now_ns` is the time of events without one.
    pub fn new(recipe: &'a Recipe, basket: &'a mut Basket, now_ns: i64) -> Self {
        if basket.taken.batch.data.capacity() == 0 {
            basket.taken.batch.data.reserve(basket.last_len + basket.last_len / 8);
        }
        let session = recipe.parser.session();
        let (events, edited, path) = Default::default();
        Filling { recipe, session, events, edited, basket, now_ns, tag: 0, path }
    }

    /// The texts that follow come from there.
    pub fn turn_to(&mut self, origin: &Origin) {
        self.tag = self.basket.tag(&origin.tag);
        self.path.clone_from(&origin.path);
    }

    /// Whether the batch is large enough to be handed on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let batch = &self.basket.taken.batch;
        batch.count >= MAX_EVENTS || batch.data.len() >= MAX_BYTES
    }

    /// Takes one text without its line end.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match self.session.parse(text, &mut events) {
            Err(why) => self.failed(why.reason(), text),
            Ok(()) => {
                for item in &events.items {
                    let time_ns = match item.time_ns {
                        Some(time_ns) => time_ns,
                        None if self.recipe.estimate => self.now_ns,
                        None => {
                            self.failed("no_time", text);
                            continue;
                        }
                    };
                    self.event(&events.fields[item.start..item.end], item.pairs as usize, time_ns);
                }
                for _ in 0..events.unmatched {
                    self.failed("unmatched", text);
                }
            }
        }
        self.events = events;
    }

    /// Whether a text would give an event.
    pub fn gives(&mut self, text: &[u8]) -> bool {
        self.events.clear();
        let outcome: Result<(), Mismatch> = self.session.parse(text, &mut self.events);
        outcome.is_ok() && !self.events.items.is_empty()
    }

    #[inline]
    fn event(&mut self, fields: &[u8], pairs: usize, time_ns: i64) {
        let batch = &mut self.basket.taken.batch;
        let start = batch.data.len();
        msgpack::write_entry_start(&mut batch.data, time_ns);
        match &self.recipe.path_key {
            None => {
                msgpack::write_map_header(&mut batch.data, pairs);
                batch.data.extend_from_slice(fields);
            }
            Some(_) if self.recipe.path_is_new => {
                msgpack::write_map_header(&mut batch.data, pairs + 1);
                batch.data.extend_from_slice(fields);
                write_pair(&mut batch.data, &self.recipe.path_key, &self.path);
            }
            Some(key) => match find_value(fields, &[], key.as_bytes()) {
                // as by `||=`: nil and false give way, in their place
                Some([0xc0 | 0xc2]) => {
                    self.edited.clear();
                    write_replaced(&mut self.edited, fields, key.as_bytes(), &self.path);
                    msgpack::write_map_header(&mut batch.data, pairs);
                    batch.data.extend_from_slice(&self.edited);
                }
                Some(_) => {
                    msgpack::write_map_header(&mut batch.data, pairs);
                    batch.data.extend_from_slice(fields);
                }
                None => {
                    msgpack::write_map_header(&mut batch.data, pairs + 1);
                    batch.data.extend_from_slice(fields);
                    write_pair(&mut batch.data, &self.recipe.path_key, &self.path);
                }
            },
        }
        let len = batch.data.len() - start;
        batch.book(self.tag, len);
    }

    /// A text that gives no event of its parser.
    #[cold]
    pub fn failed(&mut self, reason: &'static str, text: &[u8]) {
        if !self.recipe.emit_unmatched_lines {
            return tally(&mut self.basket.taken.failures, reason, text);
        }
        tally(&mut self.basket.taken.notices, reason, text);
        let mut fields = Vec::with_capacity(text.len() + 24);
        msgpack::write_str(&mut fields, b"unmatched_line");
        msgpack::write_text(&mut fields, text, false);
        self.event(&fields, 1, self.now_ns);
    }

    /// A line before the first one of its text: an event only where unmatched lines are.
    #[cold]
    pub fn headless(&mut self, text: &[u8]) {
        if self.recipe.emit_unmatched_lines {
            self.notice("no_first_line", text);
            self.text(text);
        } else {
            self.lost("no_first_line", text);
        }
    }

    /// A line that is lost whatever the configuration says.
    #[cold]
    pub fn lost(&mut self, reason: &'static str, sample: &[u8]) {
        tally(&mut self.basket.taken.failures, reason, sample);
    }

    /// Something for the log that is no lost event.
    #[cold]
    pub fn notice(&mut self, what: &'static str, sample: &[u8]) {
        tally(&mut self.basket.taken.notices, what, sample);
    }
}

//! What the regexp and grok parsers share: one compiled pattern, and its groups written as fields.

use crate::first_path;
use crate::msgpack::{PART_ROOM, put_part, write_str, write_text};
use crate::options::{FieldCache, FieldRule, FieldRules, Invalid, ParseOptions};
use crate::parser::{Events, Mismatch};
use crate::pcre::{Matcher, Regexp, Script};
use crate::ruby_regexp::{self, Flags};

/// One field that a match can give.
struct Field {
    name: Vec<u8>,
    /// The name as MessagePack.
    key: Vec<u8>,
    rule: FieldRule,
    plain: bool,
    /// `key`, where it fits, for copies of a fixed size.
    short_key: Option<[u8; KEY_BLOCK]>,
    /// The first group of that name, and the others.
    group: usize,
    more: Vec<usize>,
}

/// A pattern with named groups and what becomes of each.
pub struct Extractor {
    regexp: Regexp,
    fields: Vec<Field>,
    rules: FieldRules,
}

/// Keys up to this size are copied in one piece of fixed size.
const KEY_BLOCK: usize = 16;
/// What one short field may take, its blocks included.
const ROOM: usize = KEY_BLOCK + 255 + PART_ROOM;

impl Field {
    /// What the last match gave it.
    #[inline(always)]
    fn value<'t>(&self, text: &'t [u8], matcher: &Matcher) -> Option<&'t [u8]> {
        let more = self.more.iter().find_map(|group| matcher.capture(text, *group));
        more.or_else(|| matcher.capture(text, self.group))
    }

    /// Writes key and value, a part of `text` of less than 256 bytes, to `to`, and gives the place behind them.
    ///
    /// # Safety
    /// There is room for [`ROOM`] bytes.
    #[inline(always)]
    unsafe fn write_short(&self, key: &[u8; KEY_BLOCK], text: &[u8], value: &[u8], to: *mut u8) -> *mut u8 {
        // SAFETY: there is room for the key's block, and behind the key for the value.
        unsafe {
            to.cast::<[u8; KEY_BLOCK]>().write(*key);
            put_part(to.add(self.key.len()), text, value)
        }
    }
}

/// One caller's working memory over an [`Extractor`].
pub struct ExtractorMemory {
    matcher: Matcher,
    cache: FieldCache,
}

impl ExtractorMemory {
    /// Where the last match ends in its text.
    #[must_use]
    pub fn match_end(&self) -> usize {
        self.matcher.span(0).map_or(0, |(_, end)| end)
    }
}

impl Extractor {
    /// Compiles Ruby source. `param` is the parameter that messages name.
    ///
    /// # Errors
    /// The pattern's mistakes, with the position; a pattern without named groups; the options' mistakes.
    pub fn new(source: &str, flags: Flags, options: &ParseOptions, param: &str) -> Result<Self, Invalid> {
        let (mut regexp, names) = compile(source, flags).map_err(|why| Invalid::new(param, why))?;
        if let Some(timeout) = options.timeout {
            regexp.set_time_limit(timeout);
        }
        if names.is_empty() {
            let message = format!(
                "the regexp of {param} has no named group such as (?<field>...): expected at least one"
            );
            return Err(Invalid::new(param, message));
        }
        let rules = FieldRules::new(options)?;
        let fields = names
            .into_iter()
            .filter_map(|(name, groups)| {
                let (first, more) = groups.split_first()?;
                let mut key = Vec::new();
                write_str(&mut key, name.as_bytes());
                let rule = rules.rule(name.as_bytes());
                let more = more.iter().rev().copied().collect();
                let short_key = (key.len() <= KEY_BLOCK).then(|| {
                    let mut block = [0; KEY_BLOCK];
                    block[..key.len()].copy_from_slice(&key);
                    block
                });
                let plain = rule.is_plain();
                Some(Field { name: name.into_bytes(), key, rule, plain, short_key, group: *first, more })
            })
            .collect();
        Ok(Extractor { regexp, fields, rules })
    }

    /// Working memory for one caller.
    #[must_use]
    pub fn memory(&self) -> ExtractorMemory {
        ExtractorMemory { matcher: self.regexp.matcher(), cache: self.rules.cache() }
    }

    /// Searches `text` and appends its fields. None: the pattern does not match. Else the number of pairs
    /// and the time.
    ///
    /// # Errors
    /// `MatchLimit`, `InvalidTime`.
    #[inline]
    pub fn extract(
        &self,
        text: &[u8],
        script: Script,
        memory: &mut ExtractorMemory,
        out: &mut Events,
    ) -> Result<Option<(u32, Option<i64>)>, Mismatch> {
        if !memory.matcher.search(&self.regexp, text, script)? {
            return Ok(None);
        }
        let valid = script.is_text();
        let (mut pairs, mut time) = (0, None);
        let out = &mut out.fields;
        let mut left = &self.fields[..];
        while !left.is_empty() {
            left = self.write_shorts(left, text, valid, &memory.matcher, out, &mut pairs);
            let Some((field, rest)) = left.split_first() else { break };
            left = rest;
            let Some(value) = field.value(text, &memory.matcher) else { continue };
            if field.plain {
                out.extend_from_slice(&field.key);
                write_text(out, value, valid);
                pairs += 1;
            } else {
                self.rules.write_text(
                    &field.rule,
                    &field.name,
                    value,
                    valid,
                    &mut memory.cache,
                    out,
                    &mut pairs,
                    &mut time,
                )?;
            }
        }
        Ok(Some((pairs, time)))
    }

    /// Appends fields up to the first that takes more than a copy; gives that and the rest.
    #[inline(always)]
    fn write_shorts<'f>(
        &self,
        fields: &'f [Field],
        text: &[u8],
        valid: bool,
        matcher: &Matcher,
        out: &mut Vec<u8>,
        pairs: &mut u32,
    ) -> &'f [Field] {
        out.reserve(fields.len() * ROOM);
        let start = out.as_mut_ptr();
        // SAFETY: the spare room begins there.
        let mut to = unsafe { start.add(out.len()) };
        let mut left = fields;
        while let Some((field, rest)) = left.split_first() {
            let Some(key) = field.short_key.as_ref().filter(|_| valid && field.plain) else { break };
            if let Some(value) = field.value(text, matcher) {
                if value.len() >= 256 {
                    break;
                }
                // SAFETY: each field takes its ROOM at most, and there is room for all.
                to = unsafe { field.write_short(key, text, value, to) };
                *pairs += 1;
            }
            left = rest;
        }
        // SAFETY: up to `to` all was written, within the room.
        unsafe { out.set_len(to as usize - start as usize) };
        left
    }

    /// Takes a field out, for callers that write it themselves.
    pub fn leave_out(&mut self, name: &str) {
        self.fields.retain(|field| field.name != name.as_bytes());
    }

    /// The keys that it may write.
    pub fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        self.fields.iter().map(|field| field.name.clone())
    }

    /// The names of the fields, in order of their first group.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.fields.iter().map(|field| String::from_utf8_lossy(&field.name).into_owned())
    }
}

/// Group numbers by name, in order of first appearance.
pub type GroupNames = Vec<(String, Vec<usize>)>;

/// Compiles Ruby source to a program and its named groups.
///
/// # Errors
/// What is wrong with the pattern and where.
pub fn compile(source: &str, flags: Flags) -> Result<(Regexp, GroupNames), String> {
    let translated = ruby_regexp::translate(source, flags)
        .map_err(|why| format!("invalid regexp: {why}: {}", shown(source, why.position)))?;
    let mut regexp = Regexp::new(&translated.bytes, translated.utf, flags.ignorecase, flags.multiline)
        .map_err(|why| format!("invalid regexp: {}: {}", why.message, shown(source, 0)))?;
    regexp.set_path(first_path::compile(source, flags));
    Ok((regexp, translated.names))
}

/// The part of a pattern around a position.
fn shown(source: &str, position: usize) -> String {
    let from = position.saturating_sub(20);
    let part: String = source.chars().skip(from).take(60).collect();
    let dots = |yes: bool| if yes { "..." } else { "" };
    format!("\"{}{part}{}\"", dots(from > 0), dots(source.chars().count() > from + 60))
}

/// `null_value_pattern`: whether a text counts as nil.
pub struct NullPattern {
    regexp: Regexp,
}

impl NullPattern {
    /// Compiles `/.../imx` or bare source.
    ///
    /// # Errors
    /// Names the parameter and the mistake.
    pub fn new(literal: &str) -> Result<Self, Invalid> {
        let invalid = |why: String| Invalid::new("null_value_pattern", why);
        let (source, flags) = ruby_regexp::split_literal(literal).map_err(|why| invalid(why.to_string()))?;
        let (regexp, _) = compile(source, flags).map_err(invalid)?;
        Ok(NullPattern { regexp })
    }

    /// Working memory for one caller.
    #[must_use]
    pub fn matcher(&self) -> Matcher {
        self.regexp.matcher()
    }

    /// Whether `text` matches; a search that had to be given up counts as no.
    #[must_use]
    pub fn matches(&self, text: &[u8], matcher: &mut Matcher) -> bool {
        matcher.search(&self.regexp, text, Script::of(text)).unwrap_or(false)
    }
}

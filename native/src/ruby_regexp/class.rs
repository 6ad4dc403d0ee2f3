//! Character classes: nesting and intersection, which PCRE2 has in other ways.

use super::escape::{Escaped, posix};
use super::{SyntaxError, Translator};

/// A class: the intersection of unions, perhaps complemented.
#[derive(Debug, Default)]
pub(super) struct Set {
    negated: bool,
    unions: Vec<Union>,
}

#[derive(Debug, Default)]
struct Union {
    /// What can stand in brackets as it is.
    items: Vec<u8>,
    /// Complements and nested classes that cannot.
    nested: Vec<Set>,
}

/// How deep classes may nest.
const MAX_DEPTH: usize = 32;

impl Translator {
    /// Reads a class; `at` stands at its bracket.
    pub(super) fn class(&mut self) -> Result<Set, SyntaxError> {
        self.class_at(0)
    }

    fn class_at(&mut self, depth: usize) -> Result<Set, SyntaxError> {
        let position = self.at;
        if depth > MAX_DEPTH {
            return self.fail(position, "character classes nest too deeply");
        }
        self.at += 1;
        let mut set = Set::default();
        if self.peek(0) == Some('^') {
            set.negated = true;
            self.at += 1;
        }
        let mut union = Union::default();
        let mut first = true;
        loop {
            let Some(char) = self.peek(0) else {
                return self.fail(position, "this character class is not closed: expected \"]\"");
            };
            match char {
                // as in Ruby, a bracket right at the start stands for itself where another one closes
                ']' if !first || !self.chars[self.at + 1..].contains(&']') => {
                    self.at += 1;
                    if first {
                        return self.fail(position, "this character class is empty");
                    }
                    set.unions.push(union);
                    return Ok(set);
                }
                '[' if self.peek(1) == Some(':') && self.posix_bracket(&mut union) => {}
                '[' => {
                    let nested = self.class_at(depth + 1)?;
                    union.add(nested);
                }
                '&' if self.peek(1) == Some('&') => {
                    self.at += 2;
                    set.unions.push(std::mem::take(&mut union));
                }
                _ => self.class_item(&mut union)?,
            }
            first = false;
        }
    }

    /// `[:alpha:]`, `[:^alpha:]`. False where it is something else.
    fn posix_bracket(&mut self, union: &mut Union) -> bool {
        let rest: String = self.chars[self.at + 2..].iter().take(12).collect();
        let Some(name) = rest.split(":]").next().filter(|name| name.len() + 2 <= rest.len()) else {
            return false;
        };
        let plain = name.trim_start_matches('^');
        let Some(known) = posix(plain) else { return false };
        let caret = if plain.len() < name.len() { "^" } else { "" };
        union.items.extend_from_slice(format!("[:{caret}{known}:]").as_bytes());
        self.at += name.len() + 4;
        true
    }

    /// A character, a range or a class escape.
    fn class_item(&mut self, union: &mut Union) -> Result<(), SyntaxError> {
        let position = self.at;
        let low = match self.class_char()? {
            Escaped::Class(items, negated) => {
                if negated {
                    let inside = Union { items: items.into_bytes(), nested: Vec::new() };
                    union.add(Set { negated: true, unions: vec![inside] });
                } else {
                    union.items.extend_from_slice(items.as_bytes());
                }
                return Ok(());
            }
            other => other,
        };
        let range = self.peek(0) == Some('-') && !matches!(self.peek(1), None | Some(']' | '['));
        if !range {
            self.class_literal(&low, &mut union.items);
            return Ok(());
        }
        self.at += 1;
        let dash = self.at;
        match self.class_char()? {
            Escaped::Class(..) => {
                // not a range after all: the dash stands for itself
                self.at = dash;
                self.class_literal(&low, &mut union.items);
                union.items.extend_from_slice(b"\\-");
            }
            high => {
                let value = |item: &Escaped| match item {
                    Escaped::Char(char) => *char as u32,
                    Escaped::Byte(byte) => u32::from(*byte),
                    Escaped::Class(..) => 0,
                };
                if value(&low) > value(&high) {
                    return self.fail(position, "this range is empty: its end comes before its start");
                }
                if !self.utf && (value(&low) > 0x7f || value(&high) > 0x7f) {
                    // over bytes: everything beyond ASCII, as long as the range reaches there
                    if value(&low) <= 0x7f {
                        self.class_literal(&low, &mut union.items);
                        union.items.extend_from_slice(b"-\\x7f");
                    }
                    union.items.extend_from_slice(b"\\x80-\\xff");
                    return Ok(());
                }
                self.class_literal(&low, &mut union.items);
                union.items.push(b'-');
                self.class_literal(&high, &mut union.items);
            }
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<Escaped, SyntaxError> {
        match self.peek(0) {
            Some('\\') => match self.peek(1) {
                Some('R' | 'X') => self.fail(self.at, "\\R and \\X cannot stand in a character class"),
                _ => self.escaped_item(true),
            },
            Some(char) => {
                self.at += 1;
                Ok(Escaped::Char(char))
            }
            None => self.fail(self.at, "this character class is not closed: expected \"]\""),
        }
    }

    fn class_literal(&self, item: &Escaped, out: &mut Vec<u8>) {
        match item {
            Escaped::Char(char) if char.is_ascii_alphanumeric() || *char == '_' => out.push(*char as u8),
            Escaped::Char(char @ ' '..='~') => out.extend_from_slice(&[b'\\', *char as u8]),
            Escaped::Char(char) if char.is_ascii() => {
                out.extend_from_slice(format!("\\x{:02x}", *char as u32).as_bytes());
            }
            Escaped::Char(char) => {
                let mut buffer = [0; 4];
                let text = char.encode_utf8(&mut buffer);
                if self.utf {
                    out.extend_from_slice(text.as_bytes());
                } else {
                    for byte in text.bytes() {
                        out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                    }
                }
            }
            Escaped::Byte(byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            Escaped::Class(..) => {}
        }
    }
}

impl Union {
    fn add(&mut self, set: Set) {
        let flat = !set.negated && set.unions.len() == 1 && set.unions[0].nested.is_empty();
        if flat {
            self.items.extend_from_slice(&set.unions[0].items);
        } else {
            self.nested.push(set);
        }
    }

    fn render(&self, utf: bool) -> Vec<u8> {
        let items = [b"[", &self.items[..], b"]"].concat();
        if self.nested.is_empty() {
            return if self.items.is_empty() { b"(?!)".to_vec() } else { items };
        }
        let mut parts = Vec::new();
        if !self.items.is_empty() {
            parts.push(items);
        }
        parts.extend(self.nested.iter().map(|set| set.render(utf)));
        [b"(?:", &parts.join(&b'|')[..], b")"].concat()
    }
}

impl Set {
    /// As a pattern that takes exactly one character.
    pub(super) fn render(&self, utf: bool) -> Vec<u8> {
        if let [union] = &self.unions[..] {
            if union.nested.is_empty() {
                let start: &[u8] = if self.negated { b"[^" } else { b"[" };
                return [start, &union.items[..], b"]"].concat();
            }
            if !self.negated {
                return union.render(utf);
            }
        }
        let mut all = Vec::new();
        for union in &self.unions[1..] {
            all.extend_from_slice(b"(?=");
            all.extend_from_slice(&union.render(utf));
            all.push(b')');
        }
        all.extend_from_slice(&self.unions[0].render(utf));
        if self.negated {
            [b"(?:(?!", &all[..], b")(?s:.))"].concat()
        } else {
            [b"(?:", &all[..], b")"].concat()
        }
    }
}

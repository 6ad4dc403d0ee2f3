//! Texts and regexps between their quotes.

use super::Value;
use super::node::Node;
use super::parse::{Parsed, Parser, Refused};
use crate::extract::compile;
use crate::ruby_regexp::Flags;

impl Parser<'_, '_, '_> {
    /// A text without expressions: `\` stands only before itself and the quote.
    pub(super) fn single_quoted(&mut self, close: char) -> Parsed {
        let start = self.at;
        self.at += self.peek().map_or(0, char::len_utf8);
        let mut text = String::new();
        loop {
            let Some(next) = self.peek() else { return self.refuse_at(start, "this text has no end") };
            self.at += next.len_utf8();
            if next == close {
                return Ok(Node::Fixed(Value::text(text)));
            }
            match self.peek() {
                Some(escaped) if next == '\\' && (escaped == close || escaped == '\\') => {
                    self.at += escaped.len_utf8();
                    text.push(escaped);
                }
                _ => text.push(next),
            }
        }
    }

    pub(super) fn double_quoted(&mut self, close: char) -> Parsed {
        self.at += self.peek().map_or(0, char::len_utf8);
        let mut parts = Vec::new();
        self.text_until(Some(close), &mut parts)?;
        Ok(match (parts.len(), parts.pop()) {
            (0, _) | (_, None) => Node::Fixed(Value::text("")),
            (1, Some(Node::Fixed(text @ Value::Text(_)))) => Node::Fixed(text),
            (_, Some(last)) => {
                parts.push(last);
                Node::Text(parts)
            }
        })
    }

    /// A text with escapes and expressions, up to `close`. None: to the end, where expressions stand in
    /// `${...}` too and brackets must be in pairs, as between Ruby's `%Q[` and `]`.
    pub(super) fn text_until(&mut self, close: Option<char>, parts: &mut Vec<Node>) -> Result<(), Refused> {
        let start = self.at;
        let (mut text, mut brackets) = (Vec::new(), 0usize);
        loop {
            let Some(next) = self.peek() else {
                if close.is_some() || brackets > 0 {
                    return self.refuse_at(start, "this text has no end");
                }
                break;
            };
            if Some(next) == close {
                self.at += next.len_utf8();
                break;
            }
            if self.rest().starts_with("#{") || (close.is_none() && self.rest().starts_with("${")) {
                self.at += 2;
                if !text.is_empty() {
                    parts.push(Node::Fixed(Value::text(std::mem::take(&mut text))));
                }
                let node = self.statement()?;
                self.expect("}")?;
                parts.push(node);
                continue;
            }
            self.at += next.len_utf8();
            match next {
                '\\' => self.escape(&mut text)?,
                '[' if close.is_none() => brackets += 1,
                ']' if close.is_none() && brackets == 0 => {
                    return self.refuse_at(self.at - 1, "`]` without `[` must be written `\\]` here");
                }
                ']' if close.is_none() => brackets -= 1,
                _ => {}
            }
            if next != '\\' {
                text.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if !text.is_empty() {
            parts.push(Node::Fixed(Value::text(text)));
        }
        Ok(())
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Refused> {
        let start = self.at - 1;
        let Some(letter) = self.peek() else { return self.refuse_at(start, "`\\` at the end") };
        self.at += letter.len_utf8();
        let simple = match letter {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            's' => b' ',
            'e' => 0x1b,
            'a' => 7,
            'b' => 8,
            'v' => 11,
            'f' => 12,
            'x' => self.digits(16, 1, 2, start)? as u8,
            '0'..='7' => {
                self.at -= 1;
                self.digits(8, 1, 3, start)? as u8
            }
            'u' => {
                let code = if self.takes("{") {
                    let code = self.digits(16, 1, 6, start)?;
                    self.expect("}")?;
                    code
                } else {
                    self.digits(16, 4, 4, start)?
                };
                let Some(letter) = char::from_u32(code) else {
                    return self.refuse_at(start, "no such character");
                };
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            '\n' => return Ok(()),
            'c' | 'C' | 'M' => return self.refuse_at(start, "this escape is not known here: write \\xNN"),
            _ => {
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
        };
        text.push(simple);
        Ok(())
    }

    fn digits(&mut self, radix: u32, least: usize, most: usize, start: usize) -> Result<u32, Refused> {
        let len = self.rest().chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let text = &self.rest()[..len];
        self.at += len;
        match u32::from_str_radix(text, radix) {
            Ok(value) if len >= least => Ok(value),
            _ => self.refuse_at(start, "expected digits in this escape"),
        }
    }

    pub(super) fn regexp(&mut self, open: char, close: char) -> Parsed {
        let start = self.at;
        self.at += open.len_utf8();
        let (mut source, mut depth) = (String::new(), 0usize);
        loop {
            let Some(next) = self.peek() else { return self.refuse_at(start, "this regexp has no end") };
            if self.rest().starts_with("#{") {
                return self.refuse("a regexp with expressions in it cannot be compiled beforehand");
            }
            self.at += next.len_utf8();
            if next == close && depth == 0 {
                break;
            }
            if open != close {
                depth =
                    if next == open { depth + 1 } else { depth.saturating_sub(usize::from(next == close)) };
            }
            match self.peek() {
                Some('/') if next == '\\' => {
                    self.at += 1;
                    source.push('/');
                }
                Some(escaped) if next == '\\' => {
                    self.at += escaped.len_utf8();
                    source.extend([next, escaped]);
                }
                _ => source.push(next),
            }
        }
        let mut flags = Flags::default();
        let letters = self.name();
        for letter in letters.chars() {
            match letter {
                'i' => flags.ignorecase = true,
                'm' => flags.multiline = true,
                'x' => flags.extended = true,
                'o' | 'u' => {}
                _ => {
                    return self.refuse_at(
                        start,
                        format!("the flag {letter} is not known here: expected i, m or x"),
                    );
                }
            }
        }
        self.at += letters.len();
        match compile(&source, flags) {
            Ok((regexp, names)) => Ok(self.pattern(regexp, names)),
            Err(why) => self.refuse_at(start, why),
        }
    }
}

//! Escapes outside of character classes, and what they have in common with those inside.

use super::{Step, SyntaxError, Translator};

/// What an escape stands for.
pub(super) enum Escaped {
    Char(char),
    /// A byte from 0x80 on that is part of no UTF-8 character.
    Byte(u8),
    /// A class: what it is inside of brackets, and whether it is the complement.
    Class(String, bool),
}

/// POSIX-like names of Ruby's `\p{...}` and `[[:...:]]`.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// The name as PCRE2 writes it in brackets, if Ruby knows it.
pub(super) fn posix(name: &str) -> Option<&'static str> {
    POSIX.iter().find(|known| known.eq_ignore_ascii_case(name)).copied()
}

impl Translator {
    pub(super) fn escape(&mut self) -> Step {
        let position = self.at;
        let Some(char) = self.peek(1) else {
            return self.fail(position, "the pattern ends with a backslash");
        };
        match char {
            'A' | 'Z' | 'z' | 'G' | 'B' | 'b' | 'K' | 'R' | 'X' => {
                self.begin_atom();
                self.at += 2;
                self.push(&format!("\\{char}"));
                Ok(())
            }
            'k' => self.back_reference(),
            'g' => self.call(),
            '1'..='9' => {
                let digits: String =
                    self.chars[self.at + 1..].iter().take_while(|c| c.is_ascii_digit()).collect();
                let octal = digits.len() > 1 && digits.bytes().take(3).all(|digit| digit < b'8');
                if octal && digits.parse::<usize>().map_or(true, |number| number > self.groups) {
                    let Escaped::Char(char) = self.escaped_item(false)? else { return Ok(()) };
                    self.literal(char);
                    return Ok(());
                }
                if self.named {
                    return self.fail(
                        position,
                        "a numbered reference cannot stand beside named groups: use \\k<name>",
                    );
                }
                self.begin_atom();
                self.at += 1 + digits.len();
                self.push(&format!("\\g{{{digits}}}"));
                Ok(())
            }
            _ => {
                let escaped = self.escaped_item(false)?;
                match escaped {
                    Escaped::Char(char) => self.literal(char),
                    Escaped::Byte(byte) => {
                        self.begin_atom();
                        self.push(&format!("\\x{byte:02x}"));
                    }
                    Escaped::Class(items, negated) => {
                        self.begin_atom();
                        let text = shorthand(&items, negated, self.utf);
                        self.push(&text);
                    }
                }
                Ok(())
            }
        }
    }

    /// `\k<name>`, `\k'name'`, `\k<1>`
    fn back_reference(&mut self) -> Step {
        let position = self.at;
        let name = self.quoted_name()?;
        self.begin_atom();
        if name.trim_start_matches('-').chars().all(|char| char.is_ascii_digit()) {
            self.push(&format!("\\g{{{name}}}"));
        } else {
            let index = self.name_index(&name, position)?;
            self.push(&format!("\\k<g{index}>"));
        }
        Ok(())
    }

    /// `\g<name>`: runs the group's pattern again.
    fn call(&mut self) -> Step {
        let position = self.at;
        let name = self.quoted_name()?;
        self.begin_atom();
        if name.trim_start_matches(['-', '+']).chars().all(|char| char.is_ascii_digit()) {
            self.push(&format!("(?{name})"));
        } else {
            let index = self.name_index(&name, position)?;
            self.push(&format!("(?&g{index})"));
        }
        Ok(())
    }

    fn quoted_name(&mut self) -> Result<String, SyntaxError> {
        let end = match self.peek(2) {
            Some('<') => '>',
            Some('\'') => '\'',
            _ => return self.fail(self.at, "expected a group name in angle brackets"),
        };
        let name = self.name_until(self.at + 3, end)?;
        self.at += 4 + name.chars().count();
        Ok(name)
    }

    /// Reads an escape that means the same inside and outside of brackets, and moves behind it.
    pub(super) fn escaped_item(&mut self, in_class: bool) -> Result<Escaped, SyntaxError> {
        let position = self.at;
        let Some(char) = self.peek(1) else {
            return self.fail(position, "the pattern ends with a backslash");
        };
        self.at += 2;
        let class = |items: &str, negated| Ok(Escaped::Class(items.to_owned(), negated));
        match char {
            'h' => class("0-9a-fA-F", false),
            'H' => class("0-9a-fA-F", true),
            'd' => class("0-9", false),
            'D' => class("0-9", true),
            'w' => class("a-zA-Z0-9_", false),
            'W' => class("a-zA-Z0-9_", true),
            's' => class("\\t-\\r ", false),
            'S' => class("\\t-\\r ", true),
            'p' | 'P' => self.property(char == 'P', position),
            't' => Ok(Escaped::Char('\t')),
            'n' => Ok(Escaped::Char('\n')),
            'r' => Ok(Escaped::Char('\r')),
            'f' => Ok(Escaped::Char('\x0c')),
            'v' => Ok(Escaped::Char('\x0b')),
            'a' => Ok(Escaped::Char('\x07')),
            'e' => Ok(Escaped::Char('\x1b')),
            'b' if in_class => Ok(Escaped::Char('\x08')),
            'x' => self.hexadecimal(position),
            'u' => self.unicode(position),
            '0'..='7' => {
                let mut value = char.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek(0).and_then(|char| char.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    self.at += 1;
                }
                Ok(self.byte_or_char(value as u8))
            }
            'c' => match self.peek(0) {
                Some(char) if char.is_ascii() => {
                    self.at += 1;
                    Ok(Escaped::Char(((char as u8) & 0x1f) as char))
                }
                _ => self.fail(position, "expected a character after \\c"),
            },
            'C' | 'M' if self.peek(0) == Some('-') => {
                self.fail(position, format!("\\{char}- is not supported: write \\xHH"))
            }
            _ => Ok(Escaped::Char(char)),
        }
    }

    fn byte_or_char(&mut self, byte: u8) -> Escaped {
        if byte < 0x80 {
            Escaped::Char(byte as char)
        } else {
            self.byte_only = true;
            Escaped::Byte(byte)
        }
    }

    fn hex_at(&self, at: usize, most: usize) -> String {
        let rest = &self.chars[at.min(self.chars.len())..];
        rest.iter().take(most).take_while(|char| char.is_ascii_hexdigit()).collect()
    }

    /// `\xHH`, where several in a row may make one UTF-8 character; `\x{H...}`.
    fn hexadecimal(&mut self, position: usize) -> Result<Escaped, SyntaxError> {
        if self.peek(0) == Some('{') {
            return self.unicode(position);
        }
        let digits = self.hex_at(self.at, 2);
        let Ok(first) = u8::from_str_radix(&digits, 16) else {
            return self.fail(position, "expected hexadecimal digits after \\x");
        };
        self.at += digits.len();
        let mut bytes = vec![first];
        let more = match first {
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
        let mut at = self.at;
        for _ in 0..more {
            if self.chars.get(at) != Some(&'\\') || self.chars.get(at + 1) != Some(&'x') {
                break;
            }
            let digits = self.hex_at(at + 2, 2);
            let Ok(byte) = u8::from_str_radix(&digits, 16) else { break };
            bytes.push(byte);
            at += 2 + digits.len();
        }
        match std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next()) {
            Some(char) if !char.is_ascii() => {
                self.at = at;
                Ok(Escaped::Char(char))
            }
            _ => Ok(self.byte_or_char(first)),
        }
    }

    /// `\uHHHH`, `\u{H...}`
    fn unicode(&mut self, position: usize) -> Result<Escaped, SyntaxError> {
        let braces = self.peek(0) == Some('{');
        let digits = if braces { self.hex_at(self.at + 1, 6) } else { self.hex_at(self.at, 4) };
        let complete =
            if braces { self.chars.get(self.at + 1 + digits.len()) == Some(&'}') } else { digits.len() == 4 };
        let char = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
        match (complete, char) {
            (true, Some(char)) => {
                self.at += digits.len() + if braces { 2 } else { 0 };
                Ok(Escaped::Char(char))
            }
            _ => self.fail(position, "expected one code point: \\uHHHH or \\u{H...}"),
        }
    }

    /// `\p{Name}`, `\p{^Name}`
    fn property(&mut self, negative: bool, position: usize) -> Result<Escaped, SyntaxError> {
        let rest: String = self.chars[self.at..].iter().take_while(|char| **char != '}').collect();
        let Some(name) = rest.strip_prefix('{').filter(|_| self.chars.len() > self.at + rest.chars().count())
        else {
            return self.fail(position, "expected a property name in braces after \\p");
        };
        self.at += rest.chars().count() + 1;
        let (negative, name) = match name.strip_prefix('^') {
            Some(name) => (!negative, name),
            None => (negative, name),
        };
        if name.eq_ignore_ascii_case("punct") {
            // without the symbols that [[:punct:]] has besides: $+<=>^`|~
            return Ok(Escaped::Class("\\p{P}".to_owned(), negative));
        }
        if let Some(posix) = posix(name) {
            return Ok(Escaped::Class(format!("[:{posix}:]"), negative));
        }
        if name.is_empty() || !name.chars().all(|char| char.is_ascii_alphanumeric() || "_ -".contains(char)) {
            return self.fail(position, format!("\"{name}\" is no character property"));
        }
        Ok(Escaped::Class(format!("\\p{{{name}}}"), negative))
    }
}

/// A class escape outside of brackets, in the form that PCRE2 handles fastest.
fn shorthand(items: &str, negated: bool, utf: bool) -> String {
    let letter = match items {
        _ if utf => None,
        "0-9" => Some('d'),
        "a-zA-Z0-9_" => Some('w'),
        "\\t-\\r " => Some('s'),
        _ => None,
    };
    match letter {
        Some(letter) if negated => format!("\\{}", letter.to_ascii_uppercase()),
        Some(letter) => format!("\\{letter}"),
        None => format!("[{}{items}]", if negated { "^" } else { "" }),
    }
}

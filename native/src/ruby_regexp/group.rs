//! Groups: plain, named, looking around, with flags, conditional.

use super::{Open, Step, SyntaxError, Translator};

impl Translator {
    pub(super) fn close(&mut self) -> Step {
        let position = self.at;
        self.at += 1;
        let Some(open) = self.open.pop() else {
            return self.fail(position, "\")\" closes no group");
        };
        for _ in 0..=open.flags {
            self.out.push(b')');
        }
        self.extended = open.extended;
        self.atom = Some(open.start);
        self.quantified = false;
        Ok(())
    }

    fn enter(&mut self, text: &str, length: usize) {
        let open = Open { start: self.out.len(), flags: 0, extended: self.extended, position: self.at };
        self.at += length;
        self.open.push(open);
        self.push(text);
        self.atom = None;
    }

    pub(super) fn group(&mut self) -> Step {
        let position = self.at;
        if self.peek(1) != Some('?') {
            if self.named {
                self.enter("(?:", 1);
            } else {
                self.groups += 1;
                self.enter("(", 1);
            }
            return Ok(());
        }
        for plain in ["(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"] {
            if self.looking_at(plain) {
                self.enter(plain, plain.len());
                return Ok(());
            }
        }
        match self.peek(2) {
            Some('#') => {
                while self.peek(0).is_some_and(|char| char != ')') {
                    self.at += if self.peek(0) == Some('\\') { 2 } else { 1 };
                }
                self.at += 1;
                Ok(())
            }
            Some(quote @ ('<' | '\'')) => {
                let end = if quote == '<' { '>' } else { '\'' };
                let name = self.name_until(self.at + 3, end)?;
                let length = name.chars().count() + 4;
                self.groups += 1;
                let number = self.groups;
                let index = self.name_index(&name, position)?;
                self.names[index].1.push(number);
                self.enter(&format!("(?<g{index}>"), length);
                Ok(())
            }
            Some('~') => self.fail(position, "the absent operator (?~...) is not supported"),
            Some('(') => self.conditional(),
            _ => self.inline_flags(),
        }
    }

    /// `(?(1)...)`, `(?(<name>)...)`
    fn conditional(&mut self) -> Step {
        let position = self.at;
        let (name, length) = match self.peek(3) {
            Some(quote @ ('<' | '\'')) => {
                let name = self.name_until(self.at + 4, if quote == '<' { '>' } else { '\'' })?;
                let length = name.chars().count() + 6;
                (name, length)
            }
            _ => {
                let name = self.name_until(self.at + 3, ')')?;
                let length = name.chars().count() + 4;
                (name, length)
            }
        };
        let condition = if name.chars().all(|char| char.is_ascii_digit()) {
            name
        } else {
            format!("<g{}>", self.name_index(&name, position)?)
        };
        self.enter(&format!("(?({condition})"), length);
        Ok(())
    }

    /// `(?imx-imx)`, `(?imx-imx:...)`
    fn inline_flags(&mut self) -> Step {
        let position = self.at;
        let mut at = self.at + 2;
        let (mut on, mut off) = (String::new(), String::new());
        let mut extended = self.extended;
        let mut negative = false;
        loop {
            match self.chars.get(at) {
                Some('-') if !negative => negative = true,
                Some('i') => {
                    if negative {
                        off.push('i')
                    } else {
                        on.push('i')
                    }
                }
                Some('m') => {
                    if negative {
                        off.push('s')
                    } else {
                        on.push('s')
                    }
                }
                Some('x') => extended = !negative,
                Some(end @ (':' | ')')) => {
                    let dash = if off.is_empty() { "" } else { "-" };
                    let text = format!("(?{on}{dash}{off}:");
                    if *end == ':' {
                        self.enter(&text, at + 1 - position);
                    } else {
                        // lasts to the end of the enclosing group, over its alternatives
                        self.at = at + 1;
                        self.push(&text);
                        match self.open.last_mut() {
                            Some(open) => open.flags += 1,
                            None => self.top_flags += 1,
                        }
                        self.atom = None;
                    }
                    self.extended = extended;
                    return Ok(());
                }
                Some(char) => {
                    let message = format!("\"(?{char}\" is no kind of group that is supported");
                    return self.fail(position, message);
                }
                None => return self.fail(position, "this group is not closed: expected \")\""),
            }
            at += 1;
        }
    }

    pub(super) fn name_until(&self, start: usize, end: char) -> Result<String, SyntaxError> {
        let name: String =
            self.chars[start.min(self.chars.len())..].iter().take_while(|c| **c != end).collect();
        if name.is_empty() || start + name.chars().count() >= self.chars.len() {
            return self.fail(self.at, format!("expected a group name and \"{end}\""));
        }
        Ok(name)
    }

    pub(super) fn name_index(&self, name: &str, position: usize) -> Result<usize, SyntaxError> {
        match self.names.iter().position(|(known, _)| known == name) {
            Some(index) => Ok(index),
            None => self.fail(position, format!("there is no group named \"{name}\"")),
        }
    }
}

/// The distinct names of named groups, in order.
pub(super) fn group_names(chars: &[char], extended: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut at = 0;
    let mut depth = 0; // of character classes
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 1,
            '[' => depth += 1,
            ']' if depth > 0 => depth -= 1,
            '#' if extended && depth == 0 => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '(' if depth == 0 && chars.get(at + 1) == Some(&'?') => {
                let quote = chars.get(at + 2);
                let next = chars.get(at + 3);
                let named = match quote {
                    Some('<') => !matches!(next, Some('=' | '!')),
                    Some('\'') => true,
                    _ => false,
                };
                if named {
                    let end = if quote == Some(&'<') { '>' } else { '\'' };
                    let name: String = chars[at + 3..].iter().take_while(|char| **char != end).collect();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    names
}

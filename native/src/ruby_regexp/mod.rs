//! Ruby's regular expressions (Onigmo) translated to PCRE2.
//!
//! What differs and is translated: `^` and `$` always stand at lines; `/m` lets the dot match newlines;
//! `\h` is a hexadecimal digit and `\v` a vertical tab; with a named group in the pattern, plain groups
//! do not capture; group names may hold almost any character and repeat; `(?i)` lasts to the end of the
//! group over all alternatives; `{n}+` repeats a repetition; `\w`, `\d`, `\s` are ASCII while `\b` and
//! `[[:alpha:]]` are Unicode; classes nest and intersect. What has no counterpart is refused by name.

mod class;
mod escape;
mod group;

use std::fmt;

use group::group_names;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong, and what was expected.
    pub message: String,
    /// Character position in the source (without the opening slash), from 0.
    pub position: usize,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.message, self.position)
    }
}

/// Flags behind the closing slash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `i`
    pub ignorecase: bool,
    /// `m`: the dot matches newlines.
    pub multiline: bool,
    /// `x`: white space and comments do not count.
    pub extended: bool,
}

/// A translated pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// For the byte program.
    pub bytes: Vec<u8>,
    /// For the UTF program; None where the pattern holds bytes that are no UTF-8.
    pub utf: Option<Vec<u8>>,
    /// (name, numbers of its groups), in order of first appearance.
    pub names: Vec<(String, Vec<usize>)>,
}

/// Source and flags of `/source/flags`; a text without slashes is all source, as in Fluentd: there `i` and
/// `m` are the flags with an effect, and two letters at most may stand behind the closing slash, whatever
/// they are.
///
/// # Errors
/// Where the closing slash is missing.
pub fn split_literal(literal: &str) -> Result<(&str, Flags), SyntaxError> {
    let mut flags = Flags::default();
    let Some(rest) = literal.strip_prefix('/') else {
        return Ok((literal, flags));
    };
    let missing = || SyntaxError {
        message: format!("the closing slash is missing in {literal}"),
        position: literal.chars().count().saturating_sub(1),
    };
    let (source, letters) = rest.rsplit_once('/').ok_or_else(missing)?;
    if letters.chars().count() > 2 && !letters.chars().all(|letter| "imxounse".contains(letter)) {
        return Err(missing());
    }
    flags.ignorecase = letters.contains('i');
    flags.multiline = letters.contains('m');
    Ok((source, flags))
}

/// Translates `source` for both programs.
///
/// # Errors
/// Names what cannot be translated and where it stands.
pub fn translate(source: &str, flags: Flags) -> Result<Translated, SyntaxError> {
    let bytes = Translator::new(source, flags, false).run()?;
    let utf = Translator::new(source, flags, true).run()?;
    let mut names = bytes.names;
    names.retain(|(_, groups)| !groups.is_empty()); // a name that stood in a comment
    Ok(Translated { bytes: bytes.out, utf: (!utf.byte_only).then_some(utf.out), names })
}

/// One open group.
struct Open {
    /// Where its atom starts in the output.
    start: usize,
    /// How many `(?i:` were opened in it for flags that last to its end.
    flags: usize,
    extended: bool,
    position: usize,
}

struct Translator {
    chars: Vec<char>,
    at: usize,
    utf: bool,
    out: Vec<u8>,
    extended: bool,
    /// With a named group, plain groups do not capture.
    named: bool,
    open: Vec<Open>,
    top_flags: usize,
    groups: usize,
    names: Vec<(String, Vec<usize>)>,
    /// Where the last atom starts, for quantifiers that must wrap it.
    atom: Option<usize>,
    /// Whether that atom has a quantifier already.
    quantified: bool,
    byte_only: bool,
}

type Step = Result<(), SyntaxError>;

impl Translator {
    fn new(source: &str, flags: Flags, utf: bool) -> Self {
        let chars: Vec<char> = source.chars().collect();
        let names = group_names(&chars, flags.extended);
        Translator {
            chars,
            at: 0,
            utf,
            out: Vec::with_capacity(source.len() * 2),
            extended: flags.extended,
            named: !names.is_empty(),
            open: Vec::new(),
            top_flags: 0,
            groups: 0,
            names: names.into_iter().map(|name| (name, Vec::new())).collect(),
            atom: None,
            quantified: false,
            byte_only: false,
        }
    }

    fn run(mut self) -> Result<Self, SyntaxError> {
        while let Some(char) = self.peek(0) {
            self.step(char)?;
        }
        if let Some(open) = self.open.last() {
            return Err(SyntaxError {
                message: "this group is not closed: expected \")\"".to_owned(),
                position: open.position,
            });
        }
        for _ in 0..self.top_flags {
            self.out.push(b')');
        }
        Ok(self)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, char)| self.peek(index) == Some(char))
    }

    fn fail<T>(&self, position: usize, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { message: message.into(), position })
    }

    fn begin_atom(&mut self) {
        self.atom = Some(self.out.len());
        self.quantified = false;
    }

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn step(&mut self, char: char) -> Step {
        match char {
            '\\' => self.escape(),
            '[' => {
                self.begin_atom();
                let set = self.class()?;
                let text = set.render(self.utf);
                self.out.extend_from_slice(&text);
                Ok(())
            }
            '(' => self.group(),
            ')' => self.close(),
            '*' | '+' | '?' => self.quantifier(),
            '{' => self.braces(),
            '|' => {
                self.at += 1;
                self.out.push(b'|');
                self.atom = None;
                Ok(())
            }
            '^' | '$' => {
                self.begin_atom();
                self.at += 1;
                self.out.push(char as u8);
                Ok(())
            }
            '.' => {
                self.begin_atom();
                self.at += 1;
                self.out.push(b'.');
                Ok(())
            }
            _ if self.extended && char.is_ascii_whitespace() => {
                self.at += 1;
                Ok(())
            }
            '#' if self.extended => {
                while self.peek(0).is_some_and(|char| char != '\n') {
                    self.at += 1;
                }
                Ok(())
            }
            _ => {
                self.at += 1;
                self.literal(char);
                Ok(())
            }
        }
    }

    /// A character that stands for itself.
    fn literal(&mut self, char: char) {
        self.begin_atom();
        if char.is_ascii() {
            if !char.is_ascii_alphanumeric() && char != '_' {
                match char {
                    ' '..='~' => self.out.push(b'\\'),
                    _ => return self.push(&format!("\\x{:02x}", char as u32)),
                }
            }
            self.out.push(char as u8);
        } else {
            // one atom also where the program counts bytes
            let mut buffer = [0; 4];
            let text = char.encode_utf8(&mut buffer).to_owned();
            if self.utf { self.push(&text) } else { self.push(&format!("(?:{text})")) }
        }
    }

    fn quantifier(&mut self) -> Step {
        let position = self.at;
        let Some(char) = self.peek(0) else { return Ok(()) };
        self.at += 1;
        let Some(start) = self.atom else {
            return self.fail(position, format!("\"{char}\" has nothing before it to repeat"));
        };
        self.wrap_if_quantified(start);
        self.out.push(char as u8);
        match self.peek(0) {
            Some('?') => self.out.push(b'?'),
            Some('+') => self.out.push(b'+'),
            _ => {
                self.quantified = true;
                return Ok(());
            }
        }
        self.at += 1;
        self.quantified = true;
        Ok(())
    }

    fn wrap_if_quantified(&mut self, start: usize) {
        if self.quantified {
            self.out.splice(start..start, *b"(?:");
            self.out.push(b')');
        }
    }

    /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; anything else in braces is literal.
    fn braces(&mut self) -> Step {
        let position = self.at;
        let mut end = self.at + 1;
        while self.chars.get(end).is_some_and(|char| char.is_ascii_digit() || *char == ',') {
            end += 1;
        }
        let inside: String = self.chars[self.at + 1..end].iter().collect();
        let (least, most) = match inside.split_once(',') {
            Some((least, most)) => (least, Some(most)),
            None => (&*inside, None),
        };
        let is_repeat = self.chars.get(end) == Some(&'}')
            && !(least.is_empty() && most.is_none_or(str::is_empty))
            && most.is_none_or(|most| !most.contains(','));
        let (true, Some(start)) = (is_repeat, self.atom) else {
            self.at += 1;
            self.literal('{');
            return Ok(());
        };
        for bound in [least, most.unwrap_or("0")] {
            if !bound.is_empty() && bound.parse::<u32>().map_or(true, |bound| bound > 65_535) {
                return self.fail(position, format!("cannot repeat {bound} times: expected at most 65535"));
            }
        }
        self.at = end + 1;
        self.wrap_if_quantified(start);
        let low = if least.is_empty() { "0" } else { least };
        self.push(&match most {
            Some(most) => format!("{{{low},{most}}}"),
            None => format!("{{{low}}}"),
        });
        self.quantified = true;
        // {n,m}? is lazy; {n}? and {n}+ repeat the repetition, which the next step does
        if most.is_some() && self.peek(0) == Some('?') {
            self.at += 1;
            self.out.push(b'?');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

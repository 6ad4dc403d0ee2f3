//! From Ruby source to a [`Path`]; None for what a path cannot say.

use super::scan::Class;
use super::{Literal, Node, Path, Run, Start};
use crate::ruby_regexp::Flags;

/// How deep groups may nest.
const MAX_DEPTH: usize = 16;

type Set = [bool; 256];

/// Compiles `source`, which [`crate::ruby_regexp::translate`] takes too; None: its matches need a real engine.
#[must_use]
pub fn compile(source: &str, flags: Flags) -> Option<Path> {
    if flags.ignorecase || flags.extended {
        return None;
    }
    let mut parser = Parser {
        rest: source,
        dot: without(if flags.multiline { b"" } else { b"\n" }),
        // beside named groups, plain ones do not capture
        named: source.contains("(?<"),
        captures: 0,
        counts_bytes: false,
    };
    let start = parser.start();
    let items = parser.sequence(0)?;
    if !parser.rest.is_empty() {
        return None;
    }
    Some(Path { nodes: nodes(&items)?, captures: parser.captures, start, counts_bytes: parser.counts_bytes })
}

/// A pattern's part, before runs know what stands behind them.
enum Item {
    Byte(u8),
    Run(Taken),
    Open(usize),
    Close(usize),
    LineEnd,
    TextEnd,
    Either { alternatives: Vec<Vec<Item>>, groups: (usize, usize) },
}

/// A class with its quantifier.
struct Taken {
    set: Box<Set>,
    min: usize,
    max: usize,
    lazy: bool,
}

struct Parser<'a> {
    rest: &'a str,
    /// What the dot takes.
    dot: Set,
    named: bool,
    captures: usize,
    counts_bytes: bool,
}

/// All but these.
fn without(bytes: &[u8]) -> Set {
    let mut set = [true; 256];
    bytes.iter().for_each(|byte| set[usize::from(*byte)] = false);
    set
}

/// A set by what is in it.
fn of(has: impl Fn(u8) -> bool) -> Set {
    std::array::from_fn(|byte| has(byte as u8))
}

impl Parser<'_> {
    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let char = chars.next();
        self.rest = chars.as_str();
        char
    }

    fn start(&mut self) -> Start {
        if self.eat("^") {
            Start::Line
        } else if self.eat("\\A") {
            Start::Text
        } else {
            Start::Anywhere
        }
    }

    /// Up to the end, `)` or `|`.
    fn sequence(&mut self, depth: usize) -> Option<Vec<Item>> {
        let mut items = Vec::new();
        while let Some(char) = self.rest.chars().next().filter(|char| !matches!(char, ')' | '|')) {
            match char {
                '(' => self.group(&mut items, depth)?,
                '$' => {
                    self.next();
                    items.push(Item::LineEnd);
                    self.no_quantifier()?;
                }
                '\\' if self.eat("\\z") => {
                    items.push(Item::TextEnd);
                    self.no_quantifier()?;
                }
                // alternatives of the whole pattern start anew at each position: not here
                '^' | '*' | '+' | '?' | '{' => return None,
                _ => self.atom(&mut items)?,
            }
        }
        (depth > 0 || self.rest.is_empty()).then_some(items)
    }

    fn no_quantifier(&self) -> Option<()> {
        (!self.rest.starts_with(['*', '+', '?', '{'])).then_some(())
    }

    fn group(&mut self, items: &mut Vec<Item>, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        let captures = if self.eat("(?:") {
            false
        } else if self.eat("(?<") {
            // no look-behind, and a name as nobody could misread it
            let (name, rest) = self.rest.split_once('>')?;
            let plain = |char: char| char.is_ascii_alphanumeric() || "_-@.".contains(char);
            if name.is_empty() || !name.chars().all(plain) {
                return None;
            }
            self.rest = rest;
            true
        } else {
            self.eat("(");
            if self.rest.starts_with('?') {
                return None;
            }
            !self.named
        };
        let before = self.captures;
        if captures {
            self.captures += 1;
        }
        let group = self.captures;
        let mut alternatives = vec![self.sequence(depth + 1)?];
        while self.eat("|") {
            alternatives.push(self.sequence(depth + 1)?);
        }
        if !self.eat(")") {
            return None;
        }
        let optional = self.eat("?");
        self.no_quantifier()?;
        let groups = (before + 1, self.captures + 1);
        if !optional && alternatives.len() == 1 {
            let [alternative] = &mut alternatives[..] else { return None };
            items.extend(captures.then_some(Item::Open(group)));
            items.append(alternative);
            items.extend(captures.then_some(Item::Close(group)));
        } else if !optional {
            items.extend(captures.then_some(Item::Open(group)));
            let inside = (before + 1 + usize::from(captures), groups.1);
            items.push(Item::Either { alternatives, groups: inside });
            items.extend(captures.then_some(Item::Close(group)));
        } else {
            if captures {
                for alternative in &mut alternatives {
                    alternative.insert(0, Item::Open(group));
                    alternative.push(Item::Close(group));
                }
            }
            alternatives.push(Vec::new());
            items.push(Item::Either { alternatives, groups });
        }
        Some(())
    }

    /// One character or class, with its quantifier.
    fn atom(&mut self, items: &mut Vec<Item>) -> Option<()> {
        let (set, literal) = match self.next()? {
            '.' => (self.dot, None),
            '[' => (self.class()?, None),
            '\\' => self.escape()?,
            char if char.is_ascii() => (of(|byte| byte == char as u8), Some(char as u8)),
            char => {
                self.no_quantifier()?; // it would be for all of its bytes
                let mut bytes = [0; 4];
                items.extend(char.encode_utf8(&mut bytes).bytes().map(Item::Byte));
                return Some(());
            }
        };
        let (min, max) = match self.rest.as_bytes().first() {
            Some(b'*') => (0, usize::MAX),
            Some(b'+') => (1, usize::MAX),
            Some(b'?') => (0, 1),
            Some(b'{') => {
                let (inside, rest) = self.rest[1..].split_once('}')?;
                let (min, max) = inside.split_once(',').unwrap_or((inside, inside));
                let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
                let number = |text| {
                    Some(text).filter(digits).and_then(|text| text.parse::<u16>().ok()).map(usize::from)
                };
                let limits = (
                    if min.is_empty() { 0 } else { number(min)? },
                    if max.is_empty() { usize::MAX } else { number(max)? },
                );
                // `{,}` and `{3,2}` mean something else in Ruby, and so does what may stand behind braces
                if inside.len() < 2 && number(inside).is_none() || limits.0 > limits.1 {
                    return None;
                }
                self.rest = rest;
                self.no_quantifier()?;
                self.run(items, set, limits, false);
                return Some(());
            }
            _ => {
                match literal {
                    Some(byte) => items.push(Item::Byte(byte)),
                    None => self.run(items, set, (1, 1), false),
                }
                return Some(());
            }
        };
        self.next();
        let lazy = self.eat("?");
        self.no_quantifier()?;
        self.run(items, set, (min, max), lazy);
        Some(())
    }

    fn run(&mut self, items: &mut Vec<Item>, set: Set, (min, max): (usize, usize), lazy: bool) {
        // a limit, or a least number, counts characters
        self.counts_bytes |= set[0x80] && (max != usize::MAX || min > 1);
        items.push(Item::Run(Taken { set: Box::new(set), min, max, lazy }));
    }

    /// Behind a backslash: what it stands for, and the byte where it is only one.
    fn escape(&mut self) -> Option<(Set, Option<u8>)> {
        let space = |byte| matches!(byte, b'\t'..=b'\r' | b' ');
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let byte = match self.next()? {
            'd' => return Some((of(|byte| byte.is_ascii_digit()), None)),
            'D' => return Some((of(|byte| !byte.is_ascii_digit()), None)),
            's' => return Some((of(space), None)),
            'S' => return Some((of(|byte| !space(byte)), None)),
            'w' => return Some((of(word), None)),
            'W' => return Some((of(|byte| !word(byte)), None)),
            'h' => return Some((of(|byte| byte.is_ascii_hexdigit()), None)),
            'H' => return Some((of(|byte| !byte.is_ascii_hexdigit()), None)),
            't' => b'\t',
            'n' => b'\n',
            'r' => b'\r',
            'f' => 0x0c,
            'v' => 0x0b,
            char if char.is_ascii_punctuation() || char == ' ' => char as u8,
            _ => return None,
        };
        Some((of(|other| other == byte), Some(byte)))
    }

    /// Behind an opening bracket: ASCII characters, ranges and shorthands.
    fn class(&mut self) -> Option<Set> {
        let negated = self.eat("^");
        let mut set = [false; 256];
        if self.rest.starts_with(']') {
            return None;
        }
        loop {
            let (items, low) = match self.next()? {
                ']' => break,
                '[' => return None,
                '&' if self.rest.starts_with('&') => return None,
                '\\' => self.escape()?,
                char if char.is_ascii() => (of(|byte| byte == char as u8), Some(char as u8)),
                _ => return None,
            };
            let range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if !range {
                (0..256).for_each(|byte| set[byte] |= items[byte]);
                continue;
            }
            self.next();
            let low = low?;
            let high = match self.next()? {
                '\\' => self.escape()?.1?,
                char if char.is_ascii() && char != '[' => char as u8,
                _ => return None,
            };
            if low > high {
                return None;
            }
            (low..=high).for_each(|byte| set[usize::from(byte)] = true);
        }
        if negated {
            set.iter_mut().for_each(|has| *has = !*has);
        }
        Some(set)
    }
}

/// What can stand at the start of `items`: a set of bytes, and whether it may be nothing at all.
fn first(items: &[Item], set: &mut Set) -> bool {
    for item in items {
        match item {
            Item::Open(_) | Item::Close(_) => {}
            Item::Byte(byte) => {
                set[usize::from(*byte)] = true;
                return false;
            }
            Item::Run(run) => {
                (0..256).for_each(|byte| set[byte] |= run.set[byte]);
                if run.min > 0 {
                    return false;
                }
            }
            // at the end of the text nothing more can be given back either
            Item::LineEnd => {
                set[usize::from(b'\n')] = true;
                return false;
            }
            Item::TextEnd => return false,
            Item::Either { alternatives, .. } => {
                // each is asked, for its bytes
                let empty = alternatives.iter().filter(|items| first(items, set)).count();
                if empty == 0 {
                    return false;
                }
            }
        }
    }
    true
}

/// The nodes of a sequence: bytes in blocks, in the run before them if there is one, and a group of one run in
/// the run's node.
fn nodes(items: &[Item]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut at = 0;
    while let Some(item) = items.get(at) {
        let behind = &items[at + 1..];
        let mut used = 1;
        match item {
            Item::Byte(_) => {
                let literal = literal(&items[at..]);
                used = literal.len;
                match nodes.last_mut() {
                    Some(Node::Run(run)) if run.behind.len == 0 => run.behind = literal,
                    _ => nodes.push(Node::Literal(literal)),
                }
            }
            Item::Run(taken) => nodes.push(Node::Run(run(taken, 0, behind)?)),
            Item::Open(group) => match behind {
                [Item::Run(taken), behind @ ..] if matches!(behind, [Item::Close(_), ..]) => {
                    used = 3;
                    nodes.push(Node::Run(run(taken, *group, behind)?));
                }
                _ => nodes.push(Node::Open(*group)),
            },
            Item::Close(group) => nodes.push(Node::Close(*group)),
            Item::LineEnd => nodes.push(Node::LineEnd),
            Item::TextEnd => nodes.push(Node::TextEnd),
            Item::Either { alternatives, groups } => {
                let alternatives =
                    alternatives.iter().map(|items| self::nodes(items)).collect::<Option<_>>()?;
                nodes.push(Node::Either { alternatives, groups: *groups });
            }
        }
        at += used;
    }
    Some(nodes)
}

/// The bytes at the start of `items`, as many as fit.
fn literal(items: &[Item]) -> Literal {
    let mut literal = Literal::default();
    for item in items.iter().take(Literal::MOST) {
        let Item::Byte(byte) = item else { break };
        literal.bytes |= u64::from(*byte) << (8 * literal.len);
        literal.mask |= 0xff << (8 * literal.len);
        literal.len += 1;
    }
    literal
}

/// None: a lazy run whose end no single byte shows.
fn run(taken: &Taken, group: usize, behind: &[Item]) -> Option<Run> {
    let Taken { set, min, max, lazy } = taken;
    let (before, certain) = if *lazy {
        let byte = behind.iter().find(|item| !matches!(item, Item::Open(_) | Item::Close(_)));
        let Some(Item::Byte(byte)) = byte else { return None };
        if *max != usize::MAX {
            return None;
        }
        (Some(*byte), !set[usize::from(*byte)])
    } else {
        let mut next = [false; 256];
        let ends = first(behind, &mut next);
        let overlaps = (0..256).any(|byte| next[byte] && set[byte]);
        (None, min == max || !ends && !overlaps)
    };
    Some(Run {
        class: Class::of(set),
        min: *min,
        max: *max,
        before,
        group,
        certain,
        behind: Literal::default(),
    })
}

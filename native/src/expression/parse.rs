//! From text to an expression, by recursive descent with Ruby's precedence.

use std::fmt;

use super::Value;
use super::node::{List, Node, Operator, Pattern};
use crate::fields::Fields;

/// Expressions within each other.
pub(super) const MAX_DEPTH: usize = 40;
/// Characters of a text with expressions.
const MAX_LEN: usize = 65_536;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where in the text, in characters from 0.
    pub position: usize,
    /// What is not understood, and what to write instead.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.message, self.position)
    }
}

/// What the expressions of one filter share.
pub struct Context<'f> {
    /// Gets the fields that are needed.
    pub fields: &'f mut Fields,
    /// The host's name.
    pub hostname: String,
    /// Number of regexps so far, each of which has working memory of its own.
    pub patterns: usize,
    /// Number of strftime formats so far.
    pub clocks: usize,
}

/// One expression, the whole of `text`.
///
/// # Errors
/// What is not understood.
pub fn parse(text: &str, context: &mut Context<'_>) -> Result<Node, Refused> {
    let mut parser = Parser::new(text, context)?;
    let node = parser.statement()?;
    parser.expect_end()?;
    Ok(node)
}

/// A text with expressions in `${...}`: what is around them is as between double quotes in Ruby.
///
/// # Errors
/// As [`parse`].
pub fn interpolated(text: &str, context: &mut Context<'_>) -> Result<Vec<Node>, Refused> {
    let mut parser = Parser::new(text, context)?;
    let mut parts = Vec::new();
    parser.text_until(None, &mut parts)?;
    Ok(parts)
}

pub(super) struct Parser<'t, 'c, 'f> {
    pub text: &'t str,
    pub at: usize,
    pub context: &'c mut Context<'f>,
    depth: usize,
}

/// What a part of the grammar gives.
pub(super) type Parsed = Result<Node, Refused>;

impl<'t, 'c, 'f> Parser<'t, 'c, 'f> {
    fn new(text: &'t str, context: &'c mut Context<'f>) -> Result<Self, Refused> {
        let parser = Parser { text, at: 0, context, depth: 0 };
        if text.len() > MAX_LEN { parser.refuse(format!("more than {MAX_LEN} bytes")) } else { Ok(parser) }
    }

    pub fn refuse<T>(&self, message: impl Into<String>) -> Result<T, Refused> {
        self.refuse_at(self.at, message)
    }

    pub fn refuse_at<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Refused> {
        let position = self.text.get(..at).map_or(0, |before| before.chars().count());
        Err(Refused { position, message: message.into() })
    }

    pub fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Takes exactly this text, if it is next.
    pub fn takes(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    pub fn expect(&mut self, text: &str) -> Result<(), Refused> {
        self.space();
        if self.takes(text) {
            return Ok(());
        }
        let shown: String = self.rest().chars().take(20).collect();
        let found = if shown.is_empty() { "the end".to_owned() } else { format!("`{shown}`") };
        if let Some('=') = self.peek() {
            return self.refuse("nothing can be changed here: set fields by lines of <record>");
        }
        if self.takes("{") || self.takes("do ") {
            return self.refuse(
                "blocks cannot run: take fields one by one, choose them by keep_keys and remove_keys, or write a \
                 filter in Python",
            );
        }
        self.refuse(format!("expected `{text}`, not {found}"))
    }

    fn expect_end(&mut self) -> Result<(), Refused> {
        self.space();
        if self.rest().is_empty() {
            return Ok(());
        }
        if self.takes(";") {
            return self.refuse("only one expression can stand here, without `;`");
        }
        let shown: String = self.rest().chars().take(20).collect();
        match self.expect("\0") {
            Err(why) if !why.message.starts_with("expected") => Err(why),
            _ => self.refuse(format!("expected an operator or the end, not `{shown}`")),
        }
    }

    /// The name that is next; nothing is taken.
    pub fn name(&self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if rest.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &rest[..end] }
    }

    /// Takes a word of the language, if it is next.
    pub fn word(&mut self, word: &str) -> bool {
        self.space();
        let found = self.name() == word && !self.rest()[word.len()..].starts_with(['?', '!', ':']);
        self.at += if found { word.len() } else { 0 };
        found
    }

    pub fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.refuse("too many expressions within each other");
        }
        let node = parse(self);
        self.depth -= 1;
        node
    }

    /// An expression with `if`, `unless` or `rescue` behind it.
    pub fn statement(&mut self) -> Parsed {
        self.nested(|parser| {
            let mut node = parser.words()?;
            loop {
                let nil = || Box::new(Node::Fixed(Value::Nil));
                node = if parser.word("if") {
                    Node::If(Box::new(parser.words()?), Box::new(node), nil())
                } else if parser.word("unless") {
                    Node::If(Box::new(parser.words()?), nil(), Box::new(node))
                } else if parser.word("rescue") {
                    Node::Rescue(Box::new(node), Box::new(parser.words()?))
                } else {
                    return Ok(node);
                };
            }
        })
    }

    /// `not`, `and`, `or`.
    fn words(&mut self) -> Parsed {
        let mut node = self.negated()?;
        loop {
            node = if self.word("and") {
                Node::And(Box::new(node), Box::new(self.negated()?))
            } else if self.word("or") {
                Node::Or(Box::new(node), Box::new(self.negated()?))
            } else {
                return Ok(node);
            };
        }
    }

    fn negated(&mut self) -> Parsed {
        if self.word("not") {
            return self.nested(|parser| Ok(Node::Not(Box::new(parser.negated()?))));
        }
        self.expression()
    }

    /// `condition ? a : b` and all that binds more.
    pub fn expression(&mut self) -> Parsed {
        self.nested(|parser| {
            let condition = parser.range()?;
            parser.space();
            if !parser.takes("?") {
                return Ok(condition);
            }
            let yes = parser.expression()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Ok(Node::If(Box::new(condition), Box::new(yes), Box::new(no)))
        })
    }

    fn range(&mut self) -> Parsed {
        self.space();
        let nil = || Node::Fixed(Value::Nil);
        let start = if self.rest().starts_with("..") { nil() } else { self.or()? };
        self.space();
        if !self.takes("..") {
            return Ok(start);
        }
        let open = self.takes(".");
        self.space();
        let end = if matches!(self.peek(), None | Some(']' | ')' | ',')) { nil() } else { self.or()? };
        Ok(Node::Range(Box::new(start), Box::new(end), open))
    }

    fn or(&mut self) -> Parsed {
        let mut node = self.and()?;
        while self.operator("||") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Parsed {
        let mut node = self.equality()?;
        while self.operator("&&") {
            node = Node::And(Box::new(node), Box::new(self.equality()?));
        }
        Ok(node)
    }

    fn operator(&mut self, text: &str) -> bool {
        self.space();
        !self.rest()[..].starts_with(&format!("{text}=")) && self.takes(text)
    }

    fn equality(&mut self) -> Parsed {
        let node = self.comparison()?;
        self.space();
        if self.rest().starts_with("===") || self.rest().starts_with("<=>") {
            return self.refuse("this operator is not known: compare by ==, <, > or include?");
        }
        for (text, operator) in [("==", Operator::Equal), ("!=", Operator::Unequal)] {
            if self.takes(text) {
                return Ok(Node::Binary(operator, Box::new(node), Box::new(self.comparison()?)));
            }
        }
        for (text, negated) in [("=~", false), ("!~", true)] {
            if self.takes(text) {
                self.space();
                let at = self.at;
                return match self.comparison()? {
                    Node::Regexp(pattern) => Ok(Node::Matches(Box::new(node), pattern, negated)),
                    _ => self.refuse_at(at, "expected a regexp, `/.../`"),
                };
            }
        }
        Ok(node)
    }

    fn comparison(&mut self) -> Parsed {
        let mut node = self.sum()?;
        loop {
            self.space();
            let found = [
                ("<=", Operator::LessOrEqual),
                (">=", Operator::GreaterOrEqual),
                ("<", Operator::Less),
                (">", Operator::Greater),
            ]
            .into_iter()
            .find(|(text, _)| self.rest().starts_with(text));
            let Some((text, operator)) = found else { return Ok(node) };
            if ["<<", ">>", "<=>"].iter().any(|other| self.rest().starts_with(other)) {
                return if text == "<=" {
                    Ok(node)
                } else {
                    self.refuse("shifts are not known here: use + or *")
                };
            }
            self.at += text.len();
            node = Node::Binary(operator, Box::new(node), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut node = self.product()?;
        loop {
            let operator = if self.operator("+") {
                Operator::Add
            } else if self.operator("-") {
                Operator::Subtract
            } else {
                return Ok(node);
            };
            node = Node::Binary(operator, Box::new(node), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed {
        let mut node = self.unary()?;
        loop {
            self.space();
            if self.rest().starts_with("**") {
                return self.refuse("powers are not known here: multiply");
            }
            let operator = if self.operator("*") {
                Operator::Multiply
            } else if self.operator("/") {
                Operator::Divide
            } else if self.operator("%") {
                Operator::Modulo
            } else {
                return Ok(node);
            };
            node = Node::Binary(operator, Box::new(node), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Parsed {
        self.space();
        if self.rest().starts_with('!') && !self.rest().starts_with("!~") {
            self.at += 1;
            return self.nested(|parser| Ok(Node::Not(Box::new(parser.unary()?))));
        }
        if self.takes("-") {
            // a number with its sign is one literal, to which methods are called
            if let Some(number) = self.number()? {
                let negative = match number {
                    Value::Int(value) => Value::Int(-value),
                    Value::Float(value) => Value::Float(-value),
                    other => other,
                };
                return self.postfix(Node::Fixed(negative));
            }
            return self.nested(|parser| Ok(Node::Minus(Box::new(parser.unary()?))));
        }
        let node = self.primary()?;
        self.postfix(node)
    }

    pub fn pattern(&mut self, regexp: crate::pcre::Regexp, names: crate::extract::GroupNames) -> Node {
        let slot = self.context.patterns;
        self.context.patterns += 1;
        Node::Regexp(Box::new(Pattern { regexp, names, slot }))
    }

    /// What a name of the event stands for.
    pub fn variable(&self, name: &str) -> Option<Node> {
        Some(match name {
            "record" => Node::Record,
            "tag" => Node::Tag,
            "tag_parts" => Node::Tags(List::Parts),
            "tag_prefix" => Node::Tags(List::Prefix),
            "tag_suffix" => Node::Tags(List::Suffix),
            "time" => Node::Time,
            "hostname" => Node::Fixed(Value::text(self.context.hostname.as_bytes())),
            "nil" => Node::Fixed(Value::Nil),
            "true" => Node::Fixed(Value::Bool(true)),
            "false" => Node::Fixed(Value::Bool(false)),
            _ => return None,
        })
    }
}

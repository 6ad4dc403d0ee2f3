//! Calls and indexes behind a value.

use super::node::{Method, Node};
use super::parse::{MAX_DEPTH, Parsed, Parser, Refused};
use super::{Value, suggest};

impl Parser<'_, '_, '_> {
    /// Calls and indexes behind a value.
    pub(super) fn postfix(&mut self, mut node: Node) -> Parsed {
        for _ in 0..MAX_DEPTH {
            let before = self.at;
            if self.takes("[") {
                let arguments = self.list("]")?;
                if arguments.is_empty() || arguments.len() > 2 {
                    return self.refuse_at(before, "expected one index, or a start and a length");
                }
                node = self.index(node, arguments);
                continue;
            }
            self.space();
            let safe = self.takes("&.");
            if !safe && (self.rest().starts_with("..") || !self.takes(".")) {
                self.at = before;
                return Ok(node);
            }
            self.space();
            node = self.call(node, safe)?;
        }
        self.refuse("too many calls behind each other")
    }

    fn index(&mut self, node: Node, mut arguments: Vec<Node>) -> Node {
        if let (Node::Record, [Node::Fixed(Value::Text(key))]) = (&node, arguments.as_slice()) {
            return Node::Field(self.context.fields.add(key));
        }
        if let [Node::Text(_) | Node::Fixed(_), ..] = arguments.as_slice() {
            arguments.shrink_to_fit();
        }
        Node::Index(Box::new(node), arguments)
    }

    fn call(&mut self, node: Node, safe: bool) -> Parsed {
        let start = self.at;
        let mut len = self.name().len();
        if self.takes("[]") || self.takes("[") {
            return self.refuse_at(start, "write `x&.dig(...)` or `x[...]`");
        }
        if self.rest()[len..].starts_with(['?', '!']) && !self.rest()[len + 1..].starts_with('=') {
            len += 1;
        }
        let name = &self.rest()[..len];
        self.at += len;
        let Some((method, least, most)) = Method::find(name) else {
            return match name {
                "strftime" => self.strftime(node, safe),
                "" => self.refuse_at(start, "expected the name of a method"),
                _ => self.refuse_at(start, suggest::method(name)),
            };
        };
        let mut arguments = if self.takes("(") { self.list(")")? } else { Vec::new() };
        let known = self.text[self.at..].trim_start();
        if known.starts_with('{') || known.starts_with("do ") || known.starts_with("do|") {
            return self
                .refuse_at(start, suggest::method("each").replace("method each", "block behind a method"));
        }
        if arguments.len() < least || arguments.len() > most {
            let takes = if least == most { least.to_string() } else { format!("{least} to {most}") };
            return self.refuse_at(
                start,
                format!("{name} takes {takes} arguments in parentheses here, not {}", arguments.len()),
            );
        }
        if method == Method::Delete && matches!(node, Node::Record) {
            return self.refuse_at(start, "a record cannot be changed here: use remove_keys");
        }
        if let (Method::Dig, Node::Record, [Node::Fixed(Value::Text(key)), ..]) =
            (method, &node, arguments.as_slice())
        {
            // the field is found in the walk over the record
            let field = Node::Field(self.context.fields.add(key));
            let more = arguments.split_off(1);
            return Ok(if more.is_empty() {
                field
            } else {
                Node::Call(Box::new(field), Method::Dig, more, true)
            });
        }
        Ok(Node::Call(Box::new(node), method, arguments, safe))
    }

    fn strftime(&mut self, node: Node, safe: bool) -> Parsed {
        let start = self.at;
        self.expect("(")?;
        let arguments = self.list(")")?;
        let [Node::Fixed(Value::Text(format))] = arguments.as_slice() else {
            return self.refuse_at(start, "expected one format as a text, such as (\"%Y-%m-%d\")");
        };
        let slot = self.context.clocks;
        self.context.clocks += 1;
        let format = String::from_utf8_lossy(format).into_owned();
        Ok(Node::Strftime(Box::new(node), format, slot, safe))
    }

    /// Expressions with commas between them, up to `close`.
    pub(super) fn list(&mut self, close: &str) -> Result<Vec<Node>, Refused> {
        let mut nodes = Vec::new();
        loop {
            self.space();
            if self.takes(close) {
                return Ok(nodes);
            }
            if self.rest().starts_with('&') || self.rest().starts_with('*') {
                return self.refuse("blocks and splats cannot be given here");
            }
            let name = self.name();
            if !name.is_empty() && self.rest()[name.len()..].starts_with(": ") {
                return self.refuse(format!("options such as {name}: are not known here"));
            }
            nodes.push(self.expression()?);
            self.space();
            if !self.takes(",") {
                self.expect(close)?;
                return Ok(nodes);
            }
        }
    }
}

//! Literals and names: what an expression begins with.

use super::node::{Method, Node};
use super::parse::{Parsed, Parser, Refused};
use super::{Value, suggest};

impl Parser<'_, '_, '_> {
    pub(super) fn primary(&mut self) -> Parsed {
        self.space();
        let start = self.at;
        if let Some(number) = self.number()? {
            return Ok(Node::Fixed(number));
        }
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let node = self.statement()?;
                self.expect(")")?;
                Ok(node)
            }
            Some('[') => {
                self.at += 1;
                Ok(Node::Array(self.list("]")?))
            }
            Some('{') => self.hash(),
            Some('\'') => self.single_quoted('\''),
            Some('"') => self.double_quoted('"'),
            Some('/') => self.regexp('/', '/'),
            Some('%') => self.percent(),
            Some(':') => self.refuse("symbols are not known here: write a text, \"...\""),
            Some('-') if self.rest().starts_with("->") => self.refuse(suggest::name("lambda")),
            Some('$') => self.refuse("global variables are not known here: write `x[/regexp/, 1]` for $1"),
            Some('@') => self.refuse("instance variables are not known here"),
            None => self.refuse("expected a value, not the end"),
            _ if self.name().is_empty() => {
                let shown: String = self.rest().chars().take(10).collect();
                self.refuse(format!("expected a value, not `{shown}`"))
            }
            _ => self.named(start),
        }
    }

    fn named(&mut self, start: usize) -> Parsed {
        let name = self.name();
        if let Some(node) = self.variable(name) {
            self.at += name.len();
            return Ok(node);
        }
        match name {
            "if" | "unless" => self.nested(Parser::choice),
            "case" => self.nested(Parser::case),
            "String" | "Integer" | "Float" | "Numeric" | "Hash" | "Array" | "NilClass" | "TrueClass"
            | "FalseClass" | "Time" => {
                self.at += name.len();
                if self.takes("(") {
                    self.at -= 1;
                    return self.refuse_at(
                        start,
                        format!("{name}() is not known here: write .to_s, .to_i or .to_f"),
                    );
                }
                if name == "Time" && self.rest().starts_with('.') {
                    return self.clock(start);
                }
                Ok(Node::Class(class(name)))
            }
            "ENV" => {
                self.at += name.len();
                self.environment(start)
            }
            "Socket" if self.rest().starts_with("Socket.gethostname") => {
                self.at += "Socket.gethostname".len();
                Ok(Node::Fixed(Value::text(self.context.hostname.as_bytes())))
            }
            "JSON" if self.rest().starts_with("JSON.parse(") => {
                self.at += "JSON.parse(".len();
                let mut arguments = self.list(")")?;
                match (arguments.pop(), arguments.is_empty()) {
                    (Some(node), true) => Ok(Node::Json(Box::new(node))),
                    _ => self.refuse_at(start, "JSON.parse takes one argument here"),
                }
            }
            "JSON" if ["JSON.generate(", "JSON.dump("].iter().any(|call| self.rest().starts_with(call)) => {
                self.at += self.rest().find('(').unwrap_or(0) + 1;
                let mut arguments = self.list(")")?;
                match (arguments.pop(), arguments.is_empty()) {
                    (Some(node), true) => Ok(Node::Call(Box::new(node), Method::ToJson, Vec::new(), false)),
                    _ => self.refuse_at(start, "JSON.generate takes one argument here"),
                }
            }
            "format" | "sprintf" if self.rest()[name.len()..].starts_with('(') => {
                self.at += name.len() + 1;
                let arguments = self.list(")")?;
                if arguments.is_empty() {
                    return self.refuse_at(start, "format takes a format");
                }
                Ok(Node::Format(arguments))
            }
            _ => {
                let rest = self.rest();
                let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.:".contains(c)));
                let long = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ':']);
                let shown = if name.starts_with(char::is_uppercase) { long } else { name };
                let known = suggest::name(shown);
                if known.contains("stands for nothing") && shown != name {
                    return self.refuse(suggest::name(name));
                }
                self.refuse(known)
            }
        }
    }

    /// `Time.now`, `Time.at(seconds)`.
    fn clock(&mut self, start: usize) -> Parsed {
        if self.takes(".now") && self.name().is_empty() {
            self.takes("()");
            return Ok(Node::Now);
        }
        if self.takes(".at(") {
            let mut arguments = self.list(")")?;
            return match (arguments.pop(), arguments.is_empty()) {
                (Some(node), true) => Ok(Node::TimeAt(Box::new(node))),
                _ => self.refuse_at(start, "Time.at takes one number here"),
            };
        }
        self.at += 1;
        let name = format!("Time.{}", self.name());
        self.refuse_at(start, suggest::name(&name))
    }

    /// `ENV["X"]`, `ENV.fetch("X", "default")`, as they are when the configuration is read.
    fn environment(&mut self, start: usize) -> Parsed {
        let fetch = self.takes(".fetch(");
        if !fetch && !self.takes("[") {
            return self.refuse_at(start, "expected ENV[\"NAME\"] or ENV.fetch(\"NAME\", \"default\")");
        }
        let mut arguments = self.list(if fetch { ")" } else { "]" })?.into_iter();
        let (Some(Node::Fixed(Value::Text(name))), default, None) =
            (arguments.next(), arguments.next(), arguments.next())
        else {
            return self.refuse_at(start, "expected the name of a variable as a text, \"NAME\"");
        };
        let name = String::from_utf8_lossy(&name).into_owned();
        match (std::env::var_os(&name), default) {
            (Some(value), _) => Ok(Node::Fixed(Value::text(value.into_encoded_bytes()))),
            (None, Some(default)) if fetch => Ok(default),
            (None, None) if fetch => {
                self.refuse_at(start, format!("there is no environment variable {name}"))
            }
            (None, None) => Ok(Node::Fixed(Value::Nil)),
            (None, Some(_)) => self.refuse_at(start, "expected ENV[\"NAME\"]"),
        }
    }

    /// `if c then a elsif d then b else e end`, with `;` or a new line for `then`.
    fn choice(&mut self) -> Parsed {
        let negated = !self.word("if");
        if negated {
            self.word("unless");
        }
        let node = self.branches()?;
        Ok(match node {
            Node::If(condition, yes, no) if negated => Node::If(condition, no, yes),
            other => other,
        })
    }

    fn branches(&mut self) -> Parsed {
        let condition = self.statement()?;
        self.word("then");
        self.separators();
        let yes = self.statement()?;
        self.separators();
        let no = if self.word("elsif") {
            return Ok(Node::If(
                Box::new(condition),
                Box::new(yes),
                Box::new(self.nested(Parser::branches)?),
            ));
        } else if self.word("else") {
            self.separators();
            let no = self.statement()?;
            self.separators();
            no
        } else {
            Node::Fixed(Value::Nil)
        };
        if !self.word("end") {
            return self.refuse("expected `end`");
        }
        Ok(Node::If(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    /// `case x when a, b then c else d end`
    fn case(&mut self) -> Parsed {
        self.word("case");
        let subject = self.statement()?;
        self.separators();
        let mut cases = Vec::new();
        while self.word("when") {
            let mut patterns = vec![self.expression()?];
            self.space();
            while self.takes(",") {
                patterns.push(self.expression()?);
                self.space();
            }
            self.word("then");
            self.separators();
            cases.push((patterns, self.statement()?));
            self.separators();
        }
        if cases.is_empty() {
            return self.refuse("expected `when`");
        }
        let otherwise = if self.word("else") {
            self.separators();
            let node = self.statement()?;
            self.separators();
            node
        } else {
            Node::Fixed(Value::Nil)
        };
        if !self.word("end") {
            return self.refuse("expected `end`");
        }
        Ok(Node::Case(Box::new(subject), cases, Box::new(otherwise)))
    }

    fn separators(&mut self) {
        self.space();
        while self.takes(";") {
            self.space();
        }
    }

    /// `{ "key" => value }`
    fn hash(&mut self) -> Parsed {
        self.at += 1;
        let mut pairs = Vec::new();
        loop {
            self.space();
            if self.takes("}") {
                return Ok(Node::Hash(pairs));
            }
            let name = self.name();
            if !name.is_empty() && self.rest()[name.len()..].starts_with(':') {
                return self.refuse(format!("symbols are not known here: write \"{name}\" => ..."));
            }
            let key = self.expression()?;
            self.expect("=>")?;
            pairs.push((key, self.expression()?));
            self.space();
            if !self.takes(",") {
                self.expect("}")?;
                return Ok(Node::Hash(pairs));
            }
        }
    }

    /// A number, if there is one.
    pub(super) fn number(&mut self) -> Result<Option<Value<'static>>, Refused> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(None);
        }
        let run = |text: &str, radix: u32| {
            text.find(|c: char| !(c.is_digit(radix) || c == '_')).unwrap_or(text.len())
        };
        let (radix, skipped) = match rest.get(..2) {
            Some("0x" | "0X") => (16, 2),
            Some("0b" | "0B") => (2, 2),
            _ => (10, 0),
        };
        let mut end = skipped + run(&rest[skipped..], radix);
        let mut float = false;
        if radix == 10 {
            let after = &rest[end..];
            if after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()) {
                float = true;
                end += 1 + run(&after[1..], 10);
            }
            let after = &rest[end..];
            if after.starts_with(['e', 'E']) {
                let sign = usize::from(after[1..].starts_with(['+', '-']));
                let digits = run(&after[1 + sign..], 10);
                if digits > 0 {
                    float = true;
                    end += 1 + sign + digits;
                }
            }
        }
        let text = rest[skipped..end].replace('_', "");
        let bad = rest[skipped..end].ends_with('_') || rest[skipped..end].contains("__") || text.is_empty();
        let octal = radix == 10 && !float && text.len() > 1 && text.starts_with('0');
        let follows = rest[end..].starts_with(|c: char| c.is_alphanumeric());
        if bad || octal || follows {
            return self.refuse("expected a number such as 42, 1_000, 0x2a or 1.5");
        }
        self.at += end;
        let value = if float {
            text.parse().ok().map(Value::Float)
        } else {
            i128::from_str_radix(&text, radix).ok().filter(|value| *value < 1 << 96).map(Value::Int)
        };
        match value {
            Some(value) => Ok(Some(value)),
            None => self.refuse("this number is too large"),
        }
    }

    /// `%w[a b]`, `%q(...)`, `%Q(...)`, `%(...)`, `%r{...}`
    fn percent(&mut self) -> Parsed {
        let start = self.at;
        self.at += 1;
        let kind = self.name();
        self.at += kind.len();
        let Some(open) = self.peek() else { return self.refuse_at(start, "expected a value, not `%`") };
        let close = match open {
            '(' => ')',
            '[' => ']',
            '{' => '}',
            '<' => '>',
            '|' | '!' | '/' => open,
            _ => return self.refuse_at(start, "expected a value, not `%`"),
        };
        match kind {
            "" | "Q" => self.double_quoted(close),
            "q" => self.single_quoted(close),
            "r" => self.regexp(open, close),
            "w" => {
                let node = self.single_quoted(close)?;
                let Node::Fixed(Value::Text(words)) = node else { return Ok(node) };
                let words = String::from_utf8_lossy(&words).into_owned();
                let texts = words.split_ascii_whitespace().map(|word| Node::Fixed(Value::text(word)));
                Ok(Node::Array(texts.collect()))
            }
            _ => self.refuse_at(start, "expected %w, %q, %Q or %r"),
        }
    }
}

fn class(name: &str) -> &'static str {
    const CLASSES: [&str; 10] = [
        "String",
        "Integer",
        "Float",
        "Numeric",
        "Hash",
        "Array",
        "NilClass",
        "TrueClass",
        "FalseClass",
        "Time",
    ];
    CLASSES.into_iter().find(|known| *known == name).unwrap_or_default()
}

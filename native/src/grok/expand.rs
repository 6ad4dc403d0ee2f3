//! Grok syntax: `%{PATTERN}`, `%{PATTERN:field}`, `%{PATTERN:field:type}`.

use std::collections::HashMap;

/// How large a pattern may become, in bytes.
const MAX_EXPANDED: usize = 1 << 20;
/// How deep patterns may stand in patterns.
const MAX_DEPTH: usize = 64;

/// Named patterns.
#[derive(Debug, Default)]
pub struct Library {
    patterns: HashMap<String, String>,
}

/// A pattern in which every name has been replaced.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Ruby regexp source.
    pub source: String,
    /// Field and type ("string" where none is written), a later one replacing an earlier one.
    pub types: Vec<(String, String)>,
}

/// One `%{...}` in a pattern.
pub(super) struct Reference<'a> {
    /// Where its percent sign stands, in bytes.
    pub start: usize,
    /// Behind its closing brace.
    pub end: usize,
    pub pattern: &'a str,
    pub field: Option<&'a str>,
    pub kind: Option<&'a str>,
}

impl Library {
    /// From pattern files' texts: `NAME regexp` a line, `#` comments; later lines win.
    pub fn new<T: AsRef<str>>(files: &[T]) -> Self {
        let mut patterns = HashMap::new();
        for line in files.iter().flat_map(|file| file.as_ref().lines()) {
            if line.starts_with('#') {
                continue;
            }
            if let Some((name, pattern)) = line.split_once(char::is_whitespace)
                && !name.is_empty()
            {
                patterns.insert(name.to_owned(), pattern.trim_start().to_owned());
            }
        }
        Library { patterns }
    }

    /// Replaces all names in `pattern`.
    ///
    /// # Errors
    /// Names the pattern that does not exist, or that contains itself.
    pub fn expand(&self, pattern: &str) -> Result<Expanded, String> {
        let mut expanded = Expanded::default();
        self.expand_into(pattern, &mut expanded, &mut Vec::new())?;
        Ok(expanded)
    }

    fn expand_into<'a>(
        &'a self,
        pattern: &'a str,
        to: &mut Expanded,
        path: &mut Vec<&'a str>,
    ) -> Result<(), String> {
        let mut rest = pattern;
        while let Some(reference) = next_reference(rest) {
            to.source.push_str(&rest[..reference.start]);
            let name = reference.pattern;
            let Some(body) = self.patterns.get(name) else {
                return Err(format!(
                    "grok pattern not found: {name} in {}{}",
                    shown(pattern),
                    self.nearest(name)
                ));
            };
            if path.contains(&name) || path.len() >= MAX_DEPTH {
                return Err(format!("grok pattern {name} contains itself: {} > {name}", path.join(" > ")));
            }
            match reference.field {
                Some(field) => {
                    let field = field_name(field);
                    to.source.push_str("(?<");
                    to.source.push_str(&field);
                    to.source.push('>');
                    let kind = reference.kind.unwrap_or("string").to_owned();
                    match to.types.iter_mut().find(|(known, _)| *known == field) {
                        Some(known) => known.1 = kind,
                        None => to.types.push((field, kind)),
                    }
                }
                None => to.source.push_str("(?:"),
            }
            to.source.push_str(shortcut(name, body));
            let body = faster(name, body).unwrap_or(body);
            path.push(name);
            self.expand_into(body, to, path)?;
            path.pop();
            to.source.push(')');
            if to.source.len() > MAX_EXPANDED {
                return Err(format!("grok pattern {name} expands to more than {MAX_EXPANDED} bytes"));
            }
            rest = &rest[reference.end..];
        }
        to.source.push_str(rest);
        Ok(())
    }

    fn nearest(&self, name: &str) -> String {
        let upper = name.to_ascii_uppercase();
        let mut close: Vec<&String> = self
            .patterns
            .keys()
            .filter(|known| known.starts_with(&upper) || upper.starts_with(known.as_str()) && known.len() > 2)
            .collect();
        close.sort_by_key(|known| (known.len().abs_diff(name.len()), (*known).clone()));
        close.first().map_or_else(String::new, |known| format!(" (did you mean {known}?)"))
    }
}

/// What may stand before a standard pattern without changing what it matches, so that it fails at once
/// where it must: all of IPV6's alternatives begin with up to four digits and a colon, and it stands
/// before IPV4 and HOSTNAME in every IPORHOST.
fn shortcut(name: &str, body: &str) -> &'static str {
    if name == "IPV6" && body.starts_with("((([0-9A-Fa-f]{1,4}:){7}(") { "(?=[0-9A-Fa-f]{0,4}:)" } else { "" }
}

/// A standard pattern in a form that matches the same and costs less: in QUOTEDSTRING a run of plain
/// characters is followed by an escape or the end, so that nothing need be tried twice.
fn faster(name: &str, body: &str) -> Option<&'static str> {
    const QUOTED: &str =
        r#"(?>(?<!\\)(?>"(?>\\.|[^\\"]+)+"|""|(?>'(?>\\.|[^\\']+)+')|''|(?>`(?>\\.|[^\\`]+)+`)|``))"#;
    const UNROLLED: &str = concat!(
        r#"(?<!\\)(?>"[^\\"]*+(?:\\.[^\\"]*+)*+"|'[^\\']*+(?:\\.[^\\']*+)*+'"#,
        r"|`[^\\`]*+(?:\\.[^\\`]*+)*+`)"
    );
    (name == "QUOTEDSTRING" && body == QUOTED).then_some(UNROLLED)
}

fn shown(pattern: &str) -> String {
    pattern.chars().take(80).collect()
}

/// `[a][b]` is the field `a.b`.
fn field_name(field: &str) -> String {
    match field.strip_prefix('[').and_then(|field| field.strip_suffix(']')) {
        Some(inside) => inside.replace("][", "."),
        None => field.to_owned(),
    }
}

/// The first `%{...}` in `text` that is one.
pub(super) fn next_reference(text: &str) -> Option<Reference<'_>> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("%{")?;
        let inside = &text[start + 2..];
        if let Some(reference) = reference(inside) {
            return Some(Reference { start, end: start + 2 + reference.end, ..reference });
        }
        from = start + 2;
    }
}

/// What stands between the braces, the closing one included.
fn reference(inside: &str) -> Option<Reference<'_>> {
    let name_end = inside.find(|char: char| !(char.is_ascii_alphanumeric() || "[\\]^_`".contains(char)))?;
    let pattern = &inside[..name_end];
    if pattern.is_empty() {
        return None;
    }
    let plain = Reference { start: 0, end: name_end + 1, pattern, field: None, kind: None };
    match inside[name_end..].chars().next()? {
        '}' => return Some(plain),
        ':' => {}
        _ => return None,
    }
    let rest = &inside[name_end + 1..];
    let is_field = |char: char| char.is_ascii_alphanumeric() || "@[]\\^_`:.-".contains(char);
    // the shortest field that leaves nothing or a type
    for (at, char) in rest.char_indices() {
        if at > 0 && char == '}' {
            let field = Some(&rest[..at]);
            return Some(Reference { field, end: name_end + 2 + at, ..plain });
        }
        if at > 0
            && char == ':'
            && let Some(length) = kind(&rest[at + 1..])
        {
            let (field, kind) = (Some(&rest[..at]), Some(&rest[at + 1..at + 1 + length]));
            return Some(Reference { field, kind, end: name_end + 3 + at + length, ..plain });
        }
        if !is_field(char) {
            return None;
        }
    }
    None
}

/// The length of the type that `text` starts with, where a closing brace follows.
fn kind(text: &str) -> Option<usize> {
    for name in ["string", "bool", "integer", "float", "time", "array"] {
        let Some(rest) = text.strip_prefix(name) else { continue };
        if rest.starts_with('}') {
            return Some(name.len());
        }
        let option = rest.strip_prefix(':')?;
        let length = match name {
            "array" => option.chars().next()?.len_utf8(),
            "time" => option.find('}').filter(|length| *length > 0)?,
            _ => return None,
        };
        return option[length..].starts_with('}').then_some(name.len() + 1 + length);
    }
    None
}

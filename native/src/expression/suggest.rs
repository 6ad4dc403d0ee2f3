//! What to write instead of Ruby that is not translated.

use super::node::NAMES;

/// For a method that there is not.
pub fn method(name: &str) -> String {
    let instead = match name {
        "each" | "each_pair" | "map" | "collect" | "select" | "filter" | "reject" | "each_with_index"
        | "inject" | "reduce" | "find" | "detect" | "sort_by" | "group_by" | "times" | "tap" | "then"
        | "each_with_object" | "transform_values" | "transform_keys" | "flat_map" | "all?" | "none?" => {
            "blocks cannot run: take fields one by one, choose them by keep_keys and remove_keys, or write a \
             filter in Python"
        }
        "delete_if"
        | "delete_at"
        | "store"
        | "merge!"
        | "update"
        | "push"
        | "append"
        | "concat"
        | "clear"
        | "replace"
        | "instance_variable_set" => {
            "nothing can be changed here: set fields by lines of <record>, remove them by remove_keys"
        }
        "presence" => "write `x.to_s.empty? ? nil : x`",
        "present?" => "write `!x.to_s.empty?`",
        "blank?" => "write `x.to_s.strip.empty?`",
        "try" => "write `x&.method`",
        "encode" | "unicode_normalize" | "b" | "unpack" | "unpack1" | "encoding" | "valid_encoding?" => {
            "texts are UTF-8 here: `scrub(\"?\")` replaces what is not; encodings are converted by in_tail's \
             from_encoding"
        }
        "partition_by" | "rindex" | "byteslice" | "bytes" => {
            "write `x[/regexp/, 1]` or `x.split(\"...\")[n]`"
        }
        "to_sym" | "intern" | "send" | "public_send" | "method" | "instance_eval" | "eval" | "call" => {
            "write what it stands for"
        }
        "hash" | "object_id" | "crypt" | "sha1" | "md5" | "hexdigest" => {
            "for ids of events use the filter elasticsearch_genid, else a filter in Python"
        }
        "round_to" | "ceil_to" => "write `x.round(digits)`",
        "pow" | "**" => "multiply",
        "values_at" | "fetch_values" | "slice!" => "write `[record[\"a\"], record[\"b\"]]`",
        "respond_to?" | "class" => {
            "write `x.is_a?(String)`, with Integer, Float, Numeric, Hash, Array or NilClass"
        }
        _ => "",
    };
    if !instead.is_empty() {
        return format!("there is no method {name} here: {instead}");
    }
    if let Some(safe) = name.strip_suffix('!') {
        return format!("nothing can be changed here: write `{safe}` instead of `{name}`");
    }
    match nearest(name) {
        Some(known) => format!("there is no method {name} here; did you mean {known}?"),
        None => format!(
            "there is no method {name} here: write it with those that docs/expressions.md lists, or a filter in \
             Python"
        ),
    }
}

/// For a name that stands for nothing.
pub fn name(name: &str) -> String {
    let instead = match name {
        "lambda" | "proc" | "loop" | "while" | "until" | "for" | "begin" | "def" | "class" | "module"
        | "require" | "return" | "next" | "break" | "yield" | "do" | "puts" | "p" | "print" | "raise"
        | "eval" | "system" | "exec" | "open" | "rand" | "sleep" => {
            "only an expression can stand here: choose by `a ? b : c`, by `if ... then ... else ... end`, or by a \
             hash `{\"key\" => value}[x]`"
        }
        "Time.parse" | "Time.strptime" | "Time.iso8601" | "DateTime" | "DateTime.parse" | "Date"
        | "Date.parse" | "DateTime.strptime" | "Time.mktime" | "Time.local" | "Time.utc" | "Time.gm"
        | "Time.new" => {
            "let <filter> @type parser or the input's time_key and time_format read the time; `Time.at(seconds)` \
             takes a number"
        }
        "SecureRandom" | "SecureRandom.uuid" | "SecureRandom.hex" | "Random" | "Digest" | "OpenSSL" => {
            "for ids of events use the filter elasticsearch_genid, else a filter in Python"
        }
        "URI" | "URI.parse" | "CGI" | "Addressable" | "IPAddr" | "URI.decode" | "CGI.unescape" => {
            "take the part by `x[/regexp/, 1]`, or write a filter in Python"
        }
        "File" | "IO" | "Dir" | "Process" | "Thread" | "Kernel" | "Object" | "Net" | "Yajl" | "Oj"
        | "YAML" | "Base64" | "Zlib" | "Pathname" => {
            "no other program parts can be used: write `JSON.parse(x)` for JSON, `\"#{File.read(...)}\"` around the \
             whole value to read a file at the start, or a filter in Python"
        }
        _ => "",
    };
    if instead.is_empty() {
        format!(
            "{name} stands for nothing here: there are record, tag, tag_parts, tag_prefix, tag_suffix, time, \
             hostname, ENV, Time.now, Time.at, Socket.gethostname, JSON.parse and format"
        )
    } else {
        format!("{name} cannot be used here: {instead}")
    }
}

/// The method whose name is one or two letters away.
fn nearest(name: &str) -> Option<&'static str> {
    let (distance, known) = NAMES.iter().map(|known| (distance(name, known), *known)).min()?;
    (distance <= 2 && name.len() > 3).then_some(known)
}

/// Levenshtein's.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, letter) in left.chars().take(40).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in right.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

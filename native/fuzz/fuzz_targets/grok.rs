//! Grok: patterns of any bytes, and the standard ones on any text.
#![no_main]

use std::sync::LazyLock;

use forwarder_native::grok::Library;
use forwarder_native::grok::{GrokParser, GrokPattern};
use forwarder_native::options::ParseOptions;
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../parsers/patterns");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        files.extend(std::fs::read_to_string(entry.path()));
    }
    Library::new(&files)
});

fn parser(patterns: &[&str]) -> Option<GrokParser> {
    let patterns: Vec<GrokPattern> = patterns
        .iter()
        .map(|pattern| GrokPattern {
            pattern: (*pattern).to_owned(),
            name: vec![0xc0],
            options: ParseOptions::default(),
        })
        .collect();
    GrokParser::new(&LIBRARY, &patterns, false, None, Some("failed")).ok().map(|(parser, _)| parser)
}

static STANDARD: LazyLock<Option<GrokParser>> = LazyLock::new(|| {
    parser(&["%{COMBINEDAPACHELOG}", "%{SYSLOGBASE} %{GREEDYDATA:message}", "%{NUMBER:n:integer} %{IP:ip}"])
});

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|b| *b == 0).unwrap_or(0);
    let (pattern, text) = data.split_at(cut);
    let standard = STANDARD.as_ref().expect("the standard patterns compile");
    check_parser(standard, text);
    if let Ok(pattern) = std::str::from_utf8(pattern)
        && !pattern.is_empty()
        && let Some(own) = parser(&[pattern])
    {
        check_parser(&own, text);
    }
});

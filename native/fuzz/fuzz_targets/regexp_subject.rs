//! Any bytes against patterns as operators write them.
#![no_main]

use std::sync::LazyLock;

use forwarder_native::options::ParseOptions;
use forwarder_native::regexp::RegexpParser;
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

const PATTERNS: &[&str] = &[
    r#"/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)/"#,
    r"/(?<a>\p{Alpha}+)\s*(?<b>[[:digit:]]+)?(?<c>(?i:x|é)\k<a>)?/m",
    r"/^(?<word>(?:a+)+)$/",
    r"/(?<first>^.*$)(?<rest>.*)\z/m",
    r"/(?<=k)(?<v>\h{2,4})(?!\d)/i",
];

static PARSERS: LazyLock<Vec<RegexpParser>> = LazyLock::new(|| {
    let compile = |pattern: &&str| RegexpParser::new(pattern, false, false, &ParseOptions::default());
    PATTERNS.iter().filter_map(|pattern| compile(pattern).ok()).collect()
});

fuzz_target!(|data: &[u8]| {
    assert_eq!(PARSERS.len(), PATTERNS.len(), "a pattern was refused");
    for parser in PARSERS.iter() {
        check_parser(parser, data);
    }
});

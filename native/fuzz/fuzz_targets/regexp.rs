//! A pattern and a text, both any bytes: refused or bounded, never a crash or a hang.
#![no_main]

use forwarder_native::options::ParseOptions;
use forwarder_native::regexp::RegexpParser;
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (pattern, text) = data.split_at(cut);
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let options = ParseOptions::default();
    for flags in [(false, false), (true, true)] {
        if let Ok(parser) = RegexpParser::new(pattern, flags.0, flags.1, &options) {
            check_parser(&parser, text.get(1..).unwrap_or_default());
        }
    }
});

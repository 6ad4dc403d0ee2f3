//! A pattern and a text, both any bytes: what a first path says is what PCRE2 says.
#![no_main]

use forwarder_native::first_path::{Walk, compile};
use forwarder_native::pcre::{Regexp, Script};
use forwarder_native::ruby_regexp::{Flags, translate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (pattern, text) = data.split_at(cut);
    let Ok(source) = std::str::from_utf8(pattern) else { return };
    let text = text.get(1..).unwrap_or_default();
    for multiline in [false, true] {
        let flags = Flags { multiline, ..Flags::default() };
        let Some(path) = compile(source, flags) else { continue };
        // what a path is made of must be a pattern
        let program = translate(source, flags).unwrap();
        let Ok(regexp) = Regexp::new(&program.bytes, program.utf, false, multiline) else { continue };
        let script = Script::of(text);
        if script == Script::Utf8 && path.counts_bytes() {
            continue;
        }
        let mut groups = vec![0; 2 * (path.captures() + 1)];
        let walked = path.walk(text, &mut groups);
        let mut matcher = regexp.matcher();
        // a search that had to be given up says nothing
        let Ok(found) = matcher.search(&regexp, text, script) else { continue };
        match walked {
            Walk::Unknown => {}
            Walk::No => assert!(!found, "{source:?}"),
            Walk::Match => {
                assert!(found, "{source:?}");
                for (group, span) in groups.chunks(2).enumerate() {
                    let expected = matcher.span(group).unwrap_or((usize::MAX, usize::MAX));
                    assert_eq!((span[0], span[1]), expected, "group {group} of {source:?}");
                }
            }
        }
    }
});

//! Expressions of record_transformer: whatever the text, it is refused or ends with a value of bounded size.
#![no_main]

use forwarder_native::expression::{Context, Env, Memory, interpolated, parse};
use forwarder_native::fields::{Fields, Found};
use libfuzzer_sys::fuzz_target;

const ENTRY: &[u8] = b"\x92\x01\x86\xa1a\xabHello World\xa1n\x2a\xa1f\xcb\xc0\x04\0\0\0\0\0\0\xa1o\x81\xa1k\x92\x01\xc0\xa1z\xc0\
\xa1b\xc4\x03\xc3\xa9\xff";

fuzz_target!(|text: &str| {
    let mut fields = Fields::default();
    let mut context = Context { fields: &mut fields, hostname: "h".to_owned(), patterns: 0, clocks: 0 };
    let mut nodes = Vec::new();
    match parse(text, &mut context) {
        Ok(node) => nodes.push(node),
        Err(why) => assert!(why.position <= text.chars().count() && !why.message.is_empty()),
    }
    match interpolated(text, &mut context) {
        Ok(parts) => nodes.extend(parts),
        Err(why) => assert!(why.position <= text.chars().count() && !why.message.is_empty()),
    }
    let (mut found, mut memory) = (Found::default(), Memory::default());
    let Ok(entry) = fields.read(ENTRY, &mut 0, &mut found) else { return };
    let mut env = Env {
        tag: "a.b",
        time_ns: 5,
        body: entry.body,
        pairs: entry.pairs,
        found: &found,
        memory: &mut memory,
    };
    for node in &nodes {
        if let Ok(value) = node.eval(&mut env) {
            let mut out = Vec::new();
            if value.write(&mut env, &mut out).is_ok() {
                let mut end = 0;
                forwarder_native::msgpack::skip_value(&out, &mut end).expect("one value");
                assert_eq!(end, out.len());
            }
        }
    }
});

//! JSON text of any text value is valid UTF-8 on one line, with nothing unescaped inside the quotes.
#![no_main]

use forwarder_native::{json_out, msgpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut body = Vec::new();
    let (key, value) = data.split_at(data.len() / 3);
    msgpack::write_text(&mut body, key, false);
    msgpack::write_text(&mut body, value, false);
    let mut out = Vec::new();
    assert!(json_out::write_record(&mut out, &body, 1).is_ok());
    let text = std::str::from_utf8(&out).expect("JSON must be UTF-8");
    assert!(text.starts_with("{\"") && text.ends_with('}'), "{text}");
    let (mut quotes, mut escaped) = (0, false);
    for c in text.chars() {
        assert!(c >= ' ', "a control character in {text:?}");
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => quotes += 1,
            _ => {}
        }
    }
    assert_eq!(quotes, 4, "{text}");
});

//! Any bytes: walking them ends, stays inside, and every entry is where it says.
#![no_main]

use forwarder_native::json_out;
use forwarder_native::msgpack::{Entries, skip_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut pos = 0;
    while pos < data.len() && skip_value(data, &mut pos).is_ok() {
        assert!(pos <= data.len());
    }
    let mut entries = Entries::new(data);
    let mut covered = 0;
    while let Some(Ok(entry)) = entries.next() {
        assert_eq!(entry.bytes, &data[covered..entries.position()], "entries follow each other");
        covered = entries.position();
        // What is well-formed can always be written as JSON.
        let mut out = Vec::new();
        let written = json_out::write_record(&mut out, entry.body, entry.pairs);
        assert!(written.is_ok(), "a checked record was refused");
    }
});

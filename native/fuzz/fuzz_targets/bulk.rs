//! Whatever the entries and options, a bulk body has two lines an item, each one JSON object; every entry is in a
//! body, refused, or counted as unreadable; and items lead back to their entries.
#![no_main]

use forwarder_native::accessor::Accessor;
use forwarder_native::bulk::encode::{Encoder, Target};
use forwarder_native::bulk::{Config, Operation};
use forwarder_native::json_in;
use forwarder_native::msgpack::{Entries, read_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&[first, second, third], data)) = input.split_first_chunk::<3>() else { return };
    let bit = |bits: u8, number: u32| bits >> number & 1 == 1;
    let key = |on: bool, text: &str| on.then(|| Accessor::new(text).expect("an accessor"));
    let names = |on: bool, name: &str| if on { vec![name.to_owned()] } else { vec![] };
    let config = Config {
        operation: [Operation::Index, Operation::Create, Operation::Update, Operation::Upsert]
            [usize::from(first & 3)],
        logstash_format: bit(first, 2),
        include_timestamp: bit(first, 3),
        tag_key: bit(first, 4).then(|| "a".to_owned()),
        chunk_id_key: bit(first, 5).then(|| "c".to_owned()),
        flatten: bit(first, 6).then(|| "_".to_owned()),
        include_index_in_url: bit(first, 7),
        id_key: key(bit(second, 0), "$.a.b"),
        routing_key: key(bit(second, 1), "b"),
        remove_keys: names(bit(second, 2), "b"),
        remove_keys_on_update: names(bit(second, 3), "a"),
        remove_keys_on_update_key: bit(second, 4).then(|| "b".to_owned()),
        target_index_key: names(bit(second, 5), "a"),
        target_type_key: names(bit(second, 6), "b"),
        deterministic_id: bit(second, 7),
        time_key: bit(third, 0).then(|| "b".to_owned()),
        utc_index: bit(third, 1),
        suppress_doc_wrap: bit(third, 2),
        with_type: bit(third, 3),
        ..Config::default()
    };
    let target = Target {
        tag: bit(third, 4).then_some("t"),
        index: "i",
        date_format: if bit(third, 5) { "%Y" } else { "%s%N" },
        chunk_id: b"1",
        limit: bit(third, 6).then_some(50),
        ..Target::default()
    };
    let block = if bit(third, 7) { &data[..data.len() / 2] } else { data };
    let blocks = [block, &data[block.len()..]];
    let outcome = Encoder::new(config).expect("options").encode(&blocks, &target, 16).expect("a target");

    let mut bytes = outcome.unreadable;
    let mut spent = |entry: usize| {
        let (slice, mut pos) =
            if entry < block.len() { (block, entry) } else { (blocks[1], entry - block.len()) };
        let start = pos;
        assert!(read_entry(slice, &mut pos).is_ok());
        bytes += pos - start;
    };
    for part in &outcome.parts {
        let mut at = 0;
        for (number, item) in part.items.iter().enumerate() {
            assert_eq!(item.start, at);
            let end = part.items.get(number + 1).map_or(part.body.len(), |next| next.start);
            let lines: Vec<_> = part.body[at..end].split(|byte| *byte == b'\n').collect();
            assert!(lines.len() == 3 && lines[2].is_empty());
            for line in &lines[..2] {
                assert!(line.starts_with(b"{") && std::str::from_utf8(line).is_ok());
                // deeper than the reader goes
                if line.len() < 500 {
                    assert!(
                        json_in::transcode(line, &mut Vec::new()).is_ok(),
                        "{}",
                        String::from_utf8_lossy(line)
                    );
                }
            }
            at = end;
            spent(item.entry);
        }
        assert_eq!(at, part.body.len());
    }
    outcome.refused.iter().flat_map(|(_, entries)| entries).for_each(|entry| spent(*entry));
    assert_eq!(bytes, data.len());
    assert_eq!(
        Entries::new(&outcome.time_errors).filter(|entry| entry.is_ok()).count(),
        outcome.time_error_count
    );
});

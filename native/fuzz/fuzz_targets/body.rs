//! Any bytes as the body of a request, in all forms: what comes out are well-formed entries.
#![no_main]

use std::sync::{Arc, LazyLock};

use forwarder_native::body::{Form, Given, Rule, Sequence, TagField, TimeField, decode_form};
use forwarder_native::json_parser::JsonParser;
use forwarder_native::msgpack::Entries;
use forwarder_native::options::ParseOptions;
use libfuzzer_sys::fuzz_target;

static RULE: LazyLock<Rule> = LazyLock::new(|| Rule {
    parser: Arc::new(JsonParser::new(&ParseOptions::default()).ok().expect("these options are valid")),
    time: Some(TimeField { key: b"time".to_vec(), keep: false, parser: None }),
    tag: Some(TagField { key: b"tag".to_vec(), keep: false, prefix: String::new() }),
});

fuzz_target!(|data: &[u8]| {
    let Some((&how, body)) = data.split_first() else { return };
    let form = [Form::Text, Form::Lines, Form::MsgPack][usize::from(how % 3)];
    // "a" and "time" of every record are replaced
    let added: (&[u8], usize) = if how & 64 != 0 { (b"\xa1a\x01\xa4time\x02", 2) } else { (b"", 0) };
    let given =
        Given { tag: Some("t"), time_ns: (how & 128 != 0).then_some(7), now_ns: 1_000_000_000, added };
    if let Ok(taken) = RULE.read(form, body, &given) {
        let mut entries = 0;
        for entry in Entries::new(&taken.batch.data) {
            assert!(entry.is_ok(), "an entry is malformed");
            entries += 1;
        }
        assert_eq!(entries, taken.batch.count);
    }
    let sequence =
        [Sequence::Lines, Sequence::Json, Sequence::MsgPack, Sequence::Whole][usize::from(how % 4)];
    let (taken, used) = RULE.feed(sequence, body, how & 32 != 0, &given);
    assert!(used <= body.len());
    assert!(how & 32 == 0 || used == body.len());
    assert_eq!(Entries::new(&taken.batch.data).filter(Result::is_ok).count(), taken.batch.count);
    if let Ok(fields) = decode_form(body, 100) {
        assert!(fields.len() <= 100);
        assert!(fields.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= body.len());
    }
});

//! What holds for every parser: checked by each parser's target.

use forwarder_native::json_out;
use forwarder_native::msgpack::skip_value;
use forwarder_native::parser::{Events, Parser};

/// Parses `text` with a fresh session and twice with a used one: the outcomes are equal, and every event is
/// well-formed MessagePack pairs that can be written as JSON.
pub fn check_parser(parser: &dyn Parser, text: &[u8]) {
    let first = outcome(&mut *parser.session(), text);
    let mut used = parser.session();
    for _ in 0..2 {
        assert_eq!(outcome(&mut *used, text), first, "a session that was used before differs");
    }
}

type Outcome = Result<Vec<(Option<i64>, u32, Vec<u8>)>, &'static str>;

fn outcome(session: &mut dyn forwarder_native::parser::Session, text: &[u8]) -> Outcome {
    let mut events = Events::default();
    session.parse(text, &mut events).map_err(|why| why.reason())?;
    let mut found = Vec::new();
    for item in &events.items {
        let body = &events.fields[item.start..item.end];
        let mut pos = 0;
        for _ in 0..item.pairs * 2 {
            assert!(skip_value(body, &mut pos).is_ok(), "a pair is malformed");
        }
        assert_eq!(pos, body.len(), "the number of pairs is wrong");
        let mut json = Vec::new();
        assert!(json_out::write_record(&mut json, body, item.pairs as usize).is_ok());
        assert!(std::str::from_utf8(&json).is_ok(), "JSON must be UTF-8");
        found.push((item.time_ns, item.pairs, body.to_vec()));
    }
    Ok(found)
}

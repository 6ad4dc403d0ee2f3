//! However a forward client's bytes are cut, the same events, acknowledgements and failures come out; every
//! entry can be read again; and what is kept stays within what was sent and the limit.
#![no_main]

use std::sync::Arc;

use forwarder_native::forward::decoder::{Decoder, Scene, Shared};
use forwarder_native::forward::entries::Field;
use forwarder_native::forward::message::{Peer, Rules};
use forwarder_native::forward::sink::Sink;
use forwarder_native::msgpack::Entries;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 2000;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<(Arc<str>, Vec<u8>)>,
    lost: Vec<(&'static str, usize)>,
    acks: Vec<Vec<u8>>,
    open: bool,
}

fn feed(rules: &Rules, fields: &[Field], data: &[u8], step: usize) -> Outcome {
    let mut sink = Sink::default();
    let mut decoder = Decoder::default();
    let mut peer = Peer { name: "fuzz".to_owned(), fields: fields.to_vec(), ..Peer::default() };
    let mut outcome = Outcome { open: true, ..Outcome::default() };
    for part in data.chunks(step) {
        let mut scene =
            Scene { rules, sink: &mut sink, now_ns: 1_000_000_007, one_message: false, gate: Shared::Open };
        if decoder.feed(part, &mut peer, &mut scene).is_err() {
            outcome.open = false;
            break;
        }
        assert!(decoder.held() <= 2 * LIMIT + part.len(), "more kept than the limit");
    }
    while let Some(portion) = sink.take() {
        let batch = &portion.taken.batch;
        assert_eq!(batch.data.len(), batch.runs.iter().map(|run| run.len).sum::<usize>());
        assert_eq!(batch.count, batch.runs.iter().map(|run| run.count as usize).sum::<usize>());
        for (run, bytes) in batch.iter_runs() {
            let mut count = 0;
            for entry in Entries::new(bytes) {
                let entry = entry.expect("an entry that cannot be read");
                outcome.events.push((Arc::clone(&batch.tags[run.tag as usize]), entry.bytes.to_vec()));
                count += 1;
            }
            assert_eq!(count, run.count);
        }
        for tally in portion.taken.failures {
            match outcome.lost.iter_mut().find(|known| known.0 == tally.reason) {
                Some(known) => known.1 += tally.count,
                None => outcome.lost.push((tally.reason, tally.count)),
            }
        }
        outcome.acks.extend(portion.acks.into_iter().map(|ack| ack.bytes));
    }
    outcome
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, stream)) = data.split_first() else { return };
    let rules = Rules {
        skip_invalid: how & 1 == 0,
        size_limit: if how & 2 == 0 { LIMIT } else { 60 },
        decompressed_limit: 10_000,
        prefix: (how & 4 != 0).then(|| "p".to_owned()),
        ..Rules::default()
    };
    let mut fields = Vec::new();
    if how & 8 != 0 {
        fields.push(Field::text(&Arc::from(&b"a"[..]), b"192.0.2.1"));
        fields.push(Field::text(&Arc::from(&b"host"[..]), b"h"));
    }
    let whole = feed(&rules, &fields, stream, stream.len().max(1));
    for step in [1, 2, 5, 31] {
        assert_eq!(feed(&rules, &fields, stream, step), whole, "cut into segments of {step}");
    }
});

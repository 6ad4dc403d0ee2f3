//! However a stream is cut into reads, the same messages come out, and memory stays within the limit.
#![no_main]

use forwarder_native::framer::{Frame, Framer, Framing};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 64;

fn feed(framing: &Framing, data: &[u8], step: usize) -> (Vec<(bool, Vec<u8>)>, bool) {
    let (mut framer, mut seen) = (Framer::default(), Vec::new());
    for part in data.chunks(step) {
        let outcome = framer.feed(framing, part, |frame| match frame {
            Frame::Message(text) => {
                assert!(text.len() <= LIMIT, "a message over the limit");
                seen.push((true, text.to_vec()));
            }
            Frame::TooLong(_) => seen.push((false, Vec::new())),
        });
        if outcome.is_err() {
            return (seen, true);
        }
        assert!(framer.pending() <= LIMIT + part.len() + 16, "more kept than the limit");
    }
    (seen, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, stream)) = data.split_first() else { return };
    let framing = match how % 4 {
        0 => Framing::delimiter(b"\n", Some(LIMIT)),
        1 => Framing::delimiter(b"\0", Some(LIMIT)),
        2 => Framing::delimiter(b"\r\n", Some(LIMIT)),
        _ => Some(Framing::octet_count(Some(LIMIT))),
    };
    let Some(framing) = framing else { return };
    let whole = feed(&framing, stream, stream.len().max(1));
    for step in [1, 2, 3, 7, 61] {
        assert_eq!(feed(&framing, stream, step), whole, "cut into reads of {step}");
    }
});

//! An answer is read or refused, and names only items that were sent, each at most once.
#![no_main]

use forwarder_native::bulk_response::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((sent, text)) = data.split_first() else { return };
    let sent = usize::from(*sent);
    let Ok(answer) = parse(text, sent) else { return };
    let mut items: Vec<_> = answer.failures.iter().flat_map(|group| &group.items).collect();
    let count = items.len();
    assert!(count + answer.duplicates <= sent);
    assert!(answer.failures.iter().all(|group| !group.items.is_empty() && group.items.is_sorted()));
    items.sort_unstable();
    items.dedup();
    assert!(items.len() == count && items.iter().all(|item| **item < sent));
});

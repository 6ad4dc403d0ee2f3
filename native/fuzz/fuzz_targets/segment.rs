//! The recovery scan: whatever a file holds, every byte is in exactly one record or bad range; records that were
//! not touched are found, whether data are verified or not; and what was flipped is not taken for sound.
#![no_main]

use forwarder_native::segment::{
    Head, Item, SEGMENT_HEADER, checksum, end_mark, scan, segment_header, write_head,
};
use libfuzzer_sys::fuzz_target;

const SALT: u64 = 0x5eed;

fn items(file: &[u8], verify: bool) -> Vec<Item> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER.min(file.len()) as u64;
    scan(file, file.len() as u64, SALT, verify, |item| {
        let (Item::Record { offset, .. } | Item::Bad { offset, .. } | Item::End { offset, .. }) = &item;
        assert_eq!(*offset, at, "a gap or an overlap");
        assert!(item.size() > 0, "no progress");
        at += item.size();
        found.push(item);
    });
    assert_eq!(at, file.len() as u64, "bytes are left");
    found
}

fuzz_target!(|data: &[u8]| {
    // as it is
    for verify in [false, true] {
        items(data, verify);
    }
    // as the data of records, of which one byte is changed then
    let Some((control, data)) = data.split_at_checked(4) else { return };
    let step = usize::from(control[0]) + 1;
    let mut file = segment_header(1, SALT).to_vec();
    let mut ends = vec![file.len()];
    for (seq, part) in data.chunks(step).enumerate() {
        let meta = &part[..part.len() / 3];
        let head = Head {
            meta_len: meta.len() as u32,
            data_len: part.len() as u32,
            data_crc: checksum(SALT, part),
            events: 1,
            seq: seq as u32,
            codec: 0,
            id: [control[1]; 16],
            created_ns: 0,
        };
        write_head(&mut file, SALT, &head, meta);
        file.extend_from_slice(part);
        ends.push(file.len());
    }
    // in every other file: in the place of an older segment, which was longer
    if control[1] % 2 == 0 {
        file.extend_from_slice(&end_mark(SALT));
        file.extend_from_slice(data);
    }
    let records = ends.last().copied().unwrap_or_default();
    let at = usize::from(u16::from_be_bytes([control[2], control[3]]));
    let hit = (at >= SEGMENT_HEADER && at < records).then(|| {
        file[at] ^= 1 + control[1] % 255;
        ends.iter().filter(|end| **end <= at).count() - 1
    });
    let found = items(&file, true);
    let seqs: Vec<usize> = found
        .iter()
        .filter_map(|item| if let Item::Record { head, .. } = item { Some(head.seq as usize) } else { None })
        .collect();
    let expected: Vec<usize> = (0..ends.len() - 1).filter(|seq| Some(*seq) != hit).collect();
    assert_eq!(seqs, expected);
});

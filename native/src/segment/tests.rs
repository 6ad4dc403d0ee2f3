use super::*;

const SALT: u64 = 0x1234_5678_9abc_def0;

fn record(out: &mut Vec<u8>, seq: u32, meta: &[u8], data: &[u8]) {
    let head = Head {
        meta_len: meta.len() as u32,
        data_len: data.len() as u32,
        data_crc: checksum(SALT, data),
        events: seq + 1,
        seq,
        codec: 0,
        id: [7; 16],
        created_ns: -5,
    };
    write_head(out, SALT, &head, meta);
    out.extend_from_slice(data);
}

/// A segment of four records and where each of them ends.
fn sample() -> (Vec<u8>, Vec<usize>) {
    let mut file = segment_header(3, SALT).to_vec();
    let mut ends = vec![file.len()];
    for (seq, (meta, data)) in
        [(&b"key"[..], &b"data of one"[..]), (b"", b""), (b"key", b"FWRC not a record"), (b"k", &[0; 300])]
            .into_iter()
            .enumerate()
    {
        record(&mut file, seq as u32, meta, data);
        ends.push(file.len());
    }
    (file, ends)
}

fn items(file: &[u8], verify: bool) -> Vec<Item> {
    let mut found = Vec::new();
    scan(file, file.len() as u64, SALT, verify, |item| found.push(item));
    let mut at = SEGMENT_HEADER.min(file.len()) as u64;
    for item in &found {
        let (Item::Record { offset, .. } | Item::Bad { offset, .. } | Item::End { offset, .. }) = item;
        assert_eq!(*offset, at, "a gap or an overlap");
        at += item.size();
    }
    assert_eq!(at, file.len() as u64, "bytes are left");
    found
}

fn seqs(items: &[Item]) -> Vec<u32> {
    items
        .iter()
        .filter_map(|item| if let Item::Record { head, .. } = item { Some(head.seq) } else { None })
        .collect()
}

#[test]
fn what_was_written_is_read() {
    let (file, ends) = sample();
    for verify in [false, true] {
        let found = items(&file, verify);
        assert_eq!(seqs(&found), [0, 1, 2, 3]);
        let Item::Record { offset, head, meta } = &found[2] else { panic!("no record") };
        assert_eq!((*offset as usize, meta.as_slice()), (ends[2], &b"key"[..]));
        assert_eq!((head.events, head.created_ns, head.id), (3, -5, [7; 16]));
    }
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_record_in_it() {
    let (file, ends) = sample();
    for cut in 0..file.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        for verify in [false, true] {
            let found = items(&file[..cut], verify);
            assert_eq!(seqs(&found).len(), whole, "cut at {cut}");
            for item in &found {
                if let Item::Bad { why, head, .. } = item {
                    assert_eq!(*why, Why::Torn, "cut at {cut}");
                    // from the head on the number of lost events is known
                    assert_eq!(
                        head.is_some(),
                        cut >= ends[whole] + RECORD_HEADER + meta_len(whole),
                        "cut at {cut}"
                    );
                }
            }
        }
    }
}

fn meta_len(record: usize) -> usize {
    [3, 0, 3, 1][record]
}

#[test]
fn any_flipped_bit_costs_only_the_record_it_is_in() {
    let (file, ends) = sample();
    for at in SEGMENT_HEADER..file.len() {
        for bit in 0..8 {
            let mut rotten = file.clone();
            rotten[at] ^= 1 << bit;
            let hit = ends.iter().filter(|end| **end <= at).count() as u32 - 1;
            let found = items(&rotten, true);
            let expected: Vec<u32> = (0..4).filter(|seq| *seq != hit).collect();
            assert_eq!(seqs(&found), expected, "bit {bit} of byte {at}");
        }
    }
}

/// `file` in the place of an older, longer segment, with an end mark at `end`.
fn over_an_old_one(file: &[u8], end: usize) -> Vec<u8> {
    let old_salt = SALT + 1;
    let mut whole = segment_header(2, old_salt).to_vec();
    while whole.len() < file.len() + 1000 {
        let data = [b"of the old segment ", &end_mark(old_salt)[..]].concat();
        let data_crc = checksum(old_salt, &data);
        let data_len = data.len() as u32;
        let head =
            Head { meta_len: 0, data_len, data_crc, events: 9, seq: 9, codec: 0, id: [9; 16], created_ns: 0 };
        write_head(&mut whole, old_salt, &head, b"");
        whole.extend_from_slice(&data);
    }
    whole[end..end + RECORD_HEADER].copy_from_slice(&end_mark(SALT));
    whole[..file.len()].copy_from_slice(file);
    whole
}

#[test]
fn what_an_older_segment_has_left_is_none_of_ours() {
    let (file, ends) = sample();
    let last = *ends.last().expect("records");
    let whole = over_an_old_one(&file, last);
    for verify in [false, true] {
        let found = items(&whole, verify);
        assert_eq!(seqs(&found), [0, 1, 2, 3]);
        let (offset, len) = (last as u64, (whole.len() - last) as u64);
        assert_eq!(found[4..], [Item::End { offset, len }]);
    }
}

#[test]
fn an_append_over_an_older_segment_is_cut_short_anywhere() {
    let (file, ends) = sample();
    for written in 1..=file.len() - ends[1] {
        // the records from the second on are one append: its end is marked before they are written
        let cut = ends[1] + written;
        let mut whole = over_an_old_one(&file[..ends[1]], ends[1]);
        let end = ends[4];
        whole[end..end + RECORD_HEADER].copy_from_slice(&end_mark(SALT));
        let unmarked = whole.clone();
        whole[ends[1]..cut].copy_from_slice(&file[ends[1]..cut]);
        let complete = ends.iter().filter(|end| **end <= cut).count() - 1;
        for verify in [false, true] {
            let found = items(&whole, verify);
            assert_eq!(seqs(&found).len(), complete, "{written} bytes");
            let bad: u64 = found.iter().filter(|item| matches!(item, Item::Bad { .. })).map(Item::size).sum();
            assert!(bad <= (end - ends[complete]) as u64, "{written} bytes");
            assert!(matches!(found.last(), Some(Item::End { .. })), "{written} bytes");
            // nothing of it: the older mark counts, the younger one behind it does not
            assert_eq!(items(&unmarked, verify).len(), 2);
        }
    }
}

#[test]
fn records_behind_an_end_mark_are_found() {
    let (file, ends) = sample();
    let mut whole = over_an_old_one(&file, ends[4]);
    whole[ends[1]..ends[1] + RECORD_HEADER].copy_from_slice(&end_mark(SALT)); // a page that was not written
    let found = items(&whole, true);
    assert_eq!(seqs(&found), [0, 2, 3]);
    assert!(matches!(found[1], Item::Bad { head: None, why: Why::Torn, .. }));
}

#[test]
fn a_rotten_segment_header_costs_nothing() {
    let (mut file, _) = sample();
    file[..SEGMENT_HEADER].fill(0xff);
    assert_eq!(seqs(&items(&file, true)), [0, 1, 2, 3]);
}

#[test]
fn a_record_inside_data_is_none_without_the_salt() {
    let mut forged = Vec::new();
    let head = Head {
        meta_len: 0,
        data_len: 0,
        data_crc: checksum(1, b""),
        events: 9,
        seq: 99,
        codec: 0,
        id: [1; 16],
        created_ns: 0,
    };
    write_head(&mut forged, 1, &head, b"");
    let mut file = segment_header(0, SALT).to_vec();
    record(&mut file, 0, b"", &forged);
    let second = file.len();
    record(&mut file, 1, b"", b"x");
    file[SEGMENT_HEADER] ^= 1; // the head in front of the forged one: the scan must search
    let found = items(&file, true);
    assert_eq!(seqs(&found), [1]);
    assert_eq!(
        found[0],
        Item::Bad {
            offset: SEGMENT_HEADER as u64,
            len: (second - SEGMENT_HEADER) as u64,
            head: None,
            why: Why::Corrupt
        }
    );
}

#[test]
fn zeros_behind_the_end_are_a_torn_tail() {
    let (mut file, ends) = sample();
    file.resize(file.len() + 5000, 0);
    let found = items(&file, true);
    assert_eq!(seqs(&found).len(), 4);
    assert_eq!(found[4], Item::Bad { offset: ends[4] as u64, len: 5000, head: None, why: Why::Torn });
}

struct Broken<'a>(&'a [u8], u64);

impl Source for Broken<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset + buf.len() as u64 > self.1 && offset < self.1 + 1 {
            let count = (self.1 - offset) as usize;
            if count == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            return self.0.read_at(&mut buf[..count], offset);
        }
        self.0.read_at(buf, offset)
    }
}

#[test]
fn what_cannot_be_read_is_named_so() {
    let (file, ends) = sample();
    let mut found = Vec::new();
    scan(&Broken(&file, ends[2] as u64), file.len() as u64, SALT, true, |item| found.push(item));
    assert_eq!(seqs(&found), [0, 1]);
    assert!(matches!(found[2], Item::Bad { why: Why::Unreadable, .. }));
}

#[test]
fn names() {
    assert_eq!(parse_segment_name(&segment_name(42, SALT)), Some((42, SALT)));
    for other in
        ["segment-1-2.seg", "segment-x-0000000000000000.seg", "journal", "segment-1-0000000000000000"]
    {
        assert_eq!(parse_segment_name(other), None, "{other}");
    }
}

use super::*;

fn reader(layout: Layout, grep: &[&str]) -> Reader {
    let grep: Vec<String> = grep.iter().map(|&text| text.to_owned()).collect();
    Reader::new(layout, None, None, &grep, 0).unwrap()
}

fn layout() -> Layout {
    Layout { time_key: "time".to_owned(), tag_key: "tag".to_owned(), ..Layout::default() }
}

fn times(batch: &Batch) -> Vec<i64> {
    msgpack::Entries::new(&batch.data).map(|entry| entry.unwrap().time_ns).collect()
}

#[test]
fn both_layouts() {
    let lines = b"1700000000.050000001\tapp\t{\"n\":1}\n\
            2023-11-14T22:13:20+00:00\tapp\t{\"n\":2}\n\
            2023-11-14 22:13:20 +0000 app {\"n\":3}\n\
            {\"time\":\"2023-11-14T22:13:20.123456789Z\",\"tag\":\"db\",\"n\":4,\"deep\":{\"time\":1,\"tag\":2}}\n\
            {\"n\":5,\"tag\":\"db\",\"time\":1700000000123456789}\r\n\
            \n\
            {\"n\":6,\"tag\":\"db\",\"time\":1700000000.25}";
    let mut reader = reader(layout(), &[]);
    let batch = reader.feed(lines);
    assert_eq!((batch.count, &*batch.tags[0], &*batch.tags[1]), (5, "app", "db"));
    let second = 1_700_000_000 * NANOS;
    assert_eq!(
        times(&batch),
        [second + 50_000_001, second, second, second + 123_456_789, second + 123_456_789]
    );
    let last = reader.finish();
    assert_eq!(times(&last), [second + 250_000_000]);
    assert_eq!((reader.lines, reader.whole_seconds, reader.failures.len()), (7, 2, 0));
    let entry = msgpack::Entries::new(&last.data).next().unwrap().unwrap();
    assert_eq!((entry.pairs, entry.body), (1, &b"\xa1n\x06"[..]));
}

#[test]
fn however_it_is_cut() {
    let lines = b"1700000000\ta\t{\"n\":1}\nbad\n1700000001\tb\t{\"n\":2}\r\n{}";
    let whole = {
        let mut one = reader(layout(), &[]);
        let data = one.feed(lines).data;
        one.finish();
        (data, one.failures)
    };
    for cut in 0..lines.len() {
        let mut other = reader(layout(), &[]);
        let mut data = other.feed(&lines[..cut]).data;
        data.extend(other.feed(&lines[cut..]).data);
        data.extend(other.finish().data);
        assert_eq!((data, other.failures, other.lines), (whole.0.clone(), whole.1.clone(), 4));
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut reader = reader(layout(), &[]);
    let text = b"{\"tag\":\"a\"}\n{\"time\":1}\n{\"time\":\"yesterday\",\"tag\":\"a\"}\nnothing\n\
            app\t{}\n1700000000\t{}\n1700000000\tapp\t{\"n\":}\n1700000000\t\t{}\n1\tapp\t{} x\n";
    assert_eq!(reader.feed(text).count, 0);
    let found: Vec<_> = reader.failures.iter().map(|one| (one.reason, one.count, one.line)).collect();
    assert_eq!(found, [("no_time", 2, 1), ("no_tag", 3, 2), ("invalid_time", 1, 3), ("unmatched", 3, 4)]);
}

#[test]
fn what_is_asked_for() {
    let mut reader = reader(
        Layout {
            from_ns: Some(10 * NANOS),
            to_ns: Some(20 * NANOS),
            default_tag: Some("old".to_owned()),
            ..layout()
        },
        &["err(or)?", "é"],
    );
    let text = "{\"time\":9,\"m\":\"error é\"}\n{\"time\":10,\"m\":\"error é\"}\n{\"time\":11,\"m\":\"é\"}\n\
            {\"time\":20,\"m\":\"error é\"}\n";
    let batch = reader.feed(text.as_bytes());
    assert_eq!((batch.count, &*batch.tags[0]), (1, "old"));
    assert_eq!((reader.outside, reader.unmatched), (2, 1));
}

#[test]
fn lines_of_an_earlier_run_are_read_over() {
    let mut reader = Reader::new(layout(), None, None, &[], 2).unwrap();
    let batch = reader.feed(b"bad\n\n1\ta\t{}\n");
    assert_eq!((batch.count, reader.lines, reader.failures.len()), (1, 3, 0));
}

#[test]
fn a_line_without_an_end() {
    let mut reader = reader(layout(), &[]);
    let piece = vec![b'x'; 40 << 20];
    reader.feed(&piece);
    reader.feed(&piece);
    assert!(reader.rest.len() <= SAMPLE);
    assert_eq!(reader.feed(b"\n1\ta\t{}\n").count, 1);
    assert_eq!((reader.failures[0].reason, reader.failures[0].count), ("limit", 1));
}

#[test]
fn a_format_of_ones_own() {
    let mut reader = Reader::new(layout(), Some("%Y%m%d%H%M%S"), Some("+09:00"), &[], 0).unwrap();
    let batch = reader.feed(b"20231115071320\ta\t{}\n");
    assert_eq!(times(&batch), [1_700_000_000 * NANOS]);
    assert!(Reader::new(layout(), None, None, &["(".to_owned()], 0).is_err());
}

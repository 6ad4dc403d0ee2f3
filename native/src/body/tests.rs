use super::stream::Sequence;
use super::*;
use crate::json_in;
use crate::json_out::write_record;
use crate::json_parser::JsonParser;
use crate::msgpack::Entries;
use crate::options::ParseOptions;
use crate::time::TimeSpec;

const NOW: i64 = 1_000 * NANOS;

fn rule(time: Option<TimeField>) -> Rule {
    let parser = JsonParser::new(&ParseOptions::default()).ok().unwrap();
    Rule { parser: Arc::new(parser), time, tag: None }
}

fn seconds(keep: bool) -> TimeField {
    TimeField { key: b"time".to_vec(), keep, parser: None }
}

fn written(kind: &str, format: Option<&str>) -> TimeField {
    let spec = TimeSpec {
        kind: kind.to_owned(),
        format: format.map(str::to_owned),
        zone: Some("UTC".to_owned()),
        ..TimeSpec::default()
    };
    TimeField { key: b"time".to_vec(), keep: false, parser: Some(TimeParser::new(&spec).unwrap()) }
}

fn msgpack_of(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json_in::transcode(json.as_bytes(), &mut out).unwrap();
    out
}

/// The events as "NANOSECONDS JSON", and how many records were none.
fn read(
    rule: &Rule,
    form: Form,
    body: &[u8],
    time_ns: Option<i64>,
    added: &str,
) -> Result<(Vec<String>, usize), Refused> {
    let added = msgpack_of(added);
    let mut at = 0;
    let Ok(Token::Map(count)) = read_token(&added, &mut at) else { panic!("a map") };
    let given = Given { tag: Some("a.b"), time_ns, now_ns: NOW, added: (&added[at..], count) };
    let taken = rule.read(form, body, &given)?;
    assert!(taken.batch.tags.len() <= 1);
    let shown: Vec<String> = Entries::new(&taken.batch.data)
        .map(|entry| {
            let entry = entry.unwrap();
            let mut json = Vec::new();
            write_record(&mut json, entry.body, entry.pairs).unwrap();
            format!("{} {}", entry.time_ns, String::from_utf8(json).unwrap())
        })
        .collect();
    assert_eq!(shown.len(), taken.batch.count);
    Ok((shown, taken.failures.iter().map(|failure| failure.count).sum()))
}

#[test]
fn records_come_out_of_every_form() {
    let rule = rule(None);
    let cases: [(Form, Vec<u8>, &[&str], usize); 12] = [
        (Form::Text, b"{\"a\":1}".to_vec(), &["{\"a\":1}"], 0),
        (Form::Text, b"[{\"a\":1},2,{\"a\":3}]".to_vec(), &["{\"a\":1}", "{\"a\":3}"], 1),
        (Form::Text, b"".to_vec(), &[], 1),
        (Form::Text, b"{\"a\":".to_vec(), &[], 1),
        (Form::Text, b"\"text\"".to_vec(), &[], 1),
        (
            Form::Lines,
            b"{\"a\":1}\r\n\n{bad\n[{\"a\":2}]\n{\"a\":3}".to_vec(),
            &["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"],
            1,
        ),
        (Form::Lines, b"".to_vec(), &[], 0),
        (Form::Lines, b"\r\n\n".to_vec(), &[], 0),
        (Form::MsgPack, b"".to_vec(), &[], 0),
        (Form::MsgPack, msgpack_of("{\"a\":{\"b\":[1]}}"), &["{\"a\":{\"b\":[1]}}"], 0),
        (Form::MsgPack, msgpack_of("[{\"a\":1},null,{}]"), &["{\"a\":1}", "{}"], 1),
        (
            Form::MsgPack,
            [msgpack_of("{\"a\":1}"), msgpack_of("7"), msgpack_of("[{\"a\":2}]")].concat(),
            &["{\"a\":1}", "{\"a\":2}"],
            1,
        ),
    ];
    for (form, body, records, failed) in cases {
        let expected: Vec<String> = records.iter().map(|record| format!("{NOW} {record}")).collect();
        assert_eq!(read(&rule, form, &body, None, "{}"), Ok((expected, failed)), "{form:?} {body:?}");
    }
}

#[test]
fn broken_msgpack_is_refused() {
    let whole = msgpack_of("[{\"a\":1},{\"b\":\"text\"}]");
    let rule = rule(None);
    for end in 1..whole.len() {
        let refused = read(&rule, Form::MsgPack, &whole[..end], None, "{}").unwrap_err();
        assert_eq!(refused.reason, "malformed", "{end}");
    }
    for body in [&b"\xc1"[..], &[0x91; 2000], b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff\x80"] {
        assert_eq!(read(&rule, Form::MsgPack, body, None, "{}").unwrap_err().reason, "malformed");
    }
}

#[test]
fn the_time_comes_from_the_request_or_a_field_or_the_clock() {
    type Case<'a> = (Option<TimeField>, &'a str, Option<i64>, Result<(i64, &'a str), &'a str>);
    let cases: Vec<Case<'_>> = vec![
        (Some(seconds(false)), r#"{"time":5,"a":1}"#, None, Ok((5 * NANOS, r#"{"a":1}"#))),
        (Some(seconds(true)), r#"{"time":5,"a":1}"#, None, Ok((5 * NANOS, r#"{"time":5,"a":1}"#))),
        (Some(seconds(false)), r#"{"a":1,"time":1.5}"#, None, Ok((1_500_000_000, r#"{"a":1}"#))),
        // the float's exact value: 0.1 is a little more, 0.3 a little less
        (Some(seconds(false)), r#"{"time":0.1}"#, None, Ok((100_000_000, "{}"))),
        (Some(seconds(false)), r#"{"time":0.3}"#, None, Ok((299_999_999, "{}"))),
        (Some(seconds(false)), r#"{"time":1700000000.123456}"#, None, Ok((1_700_000_000_123_456_001, "{}"))),
        (Some(seconds(false)), r#"{"time":null,"a":1}"#, None, Ok((NOW, r#"{"a":1}"#))),
        (Some(seconds(false)), r#"{"time":false,"a":1}"#, None, Ok((NOW, r#"{"a":1}"#))),
        (Some(seconds(false)), r#"{"a":1}"#, None, Ok((NOW, r#"{"a":1}"#))),
        (Some(seconds(false)), r#"{"time":"5"}"#, None, Err("invalid_time")),
        (Some(seconds(false)), r#"{"time":true}"#, None, Err("invalid_time")),
        (Some(seconds(false)), r#"{"time":[5]}"#, None, Err("invalid_time")),
        (Some(seconds(false)), r#"{"time":1e300}"#, None, Err("invalid_time")),
        (Some(seconds(false)), r#"{"time":18446744073709551615}"#, None, Err("invalid_time")),
        (Some(seconds(false)), r#"{"time":"5"}"#, Some(7), Ok((7, r#"{"time":"5"}"#))),
        (Some(written("float", None)), r#"{"time":"5.25"}"#, None, Ok((5_250_000_000, "{}"))),
        (Some(written("unixtime", None)), r#"{"time":5}"#, None, Ok((5 * NANOS, "{}"))),
        (
            Some(written("string", Some("%Y-%m-%d"))),
            r#"{"time":"1970-01-02"}"#,
            None,
            Ok((86_400 * NANOS, "{}")),
        ),
        (Some(written("string", Some("%Y"))), r#"{"time":"soon"}"#, None, Err("invalid_time")),
        (Some(written("string", Some("%Y"))), r#"{"time":1970}"#, None, Err("invalid_time")),
    ];
    for (time, record, given, expected) in cases {
        let rule = rule(time);
        for (form, body) in [(Form::Text, record.as_bytes().to_vec()), (Form::MsgPack, msgpack_of(record))] {
            let got = read(&rule, form, &body, given, "{}");
            match expected {
                Ok((time_ns, rest)) => {
                    assert_eq!(got, Ok((vec![format!("{time_ns} {rest}")], 0)), "{record}")
                }
                Err(reason) => assert_eq!(got.map_err(|why| why.reason), Err(reason), "{record}"),
            }
        }
    }
}

#[test]
fn one_bad_time_refuses_the_whole_body() {
    let body = br#"[{"time":1},{"time":"x"},{"time":2}]"#;
    assert!(read(&rule(Some(seconds(false))), Form::Text, body, None, "{}").is_err());
}

#[test]
fn added_fields_replace_those_of_the_record() {
    let rule = rule(Some(seconds(false)));
    for (record, added, expected) in [
        (r#"{"a":1}"#, r#"{"X":"y"}"#, r#"{"a":1,"X":"y"}"#),
        (r#"{"X":1,"a":2}"#, r#"{"X":"y","Z":["p","q"]}"#, r#"{"X":"y","a":2,"Z":["p","q"]}"#),
        (r#"{"time":3,"a":2}"#, r#"{"a":0}"#, r#"{"a":0}"#),
    ] {
        let time = if record.contains("time") { 3 * NANOS } else { NOW };
        let got = read(&rule, Form::Text, record.as_bytes(), None, added);
        assert_eq!(got, Ok((vec![format!("{time} {expected}")], 0)));
    }
}

#[test]
fn forms_are_decoded_as_ruby_does() {
    type Pair<'a> = (&'a [u8], &'a [u8]);
    let cases: [(&[u8], &[Pair<'_>]); 8] = [
        (b"", &[]),
        (b"a=1&b=2", &[(b"a", b"1"), (b"b", b"2")]),
        (b"a=b=c", &[(b"a", b"b=c")]),
        (b"a", &[(b"a", b"")]),
        (b"json=%7B%22a%22%3a1%7D", &[(b"json", b"{\"a\":1}")]),
        (b"a+b=c%20d%2B", &[(b"a b", b"c d+")]),
        (b"a=%zz%4&b=%", &[(b"a", b"%zz%4"), (b"b", b"%")]),
        (b"a=%ff", &[(b"a", b"\xff")]),
    ];
    for (text, expected) in cases {
        let got = decode_form(text, 10).unwrap();
        let got: Vec<Pair<'_>> = got.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        assert_eq!(got, expected, "{text:?}");
    }
    assert_eq!(decode_form(&b"a&".repeat(100), 100).unwrap_err().reason, "limit");
    assert_eq!(decode_form(&b"a&".repeat(99), 100).unwrap().len(), 100);
}

/// What a stream gives that is cut after every `step` bytes: "TAG NANOSECONDS JSON", and failures by reason.
fn streamed(rule: &Rule, sequence: Sequence, data: &[u8], step: usize) -> (Vec<String>, Vec<String>) {
    let given = Given { tag: Some("t"), time_ns: None, now_ns: NOW, added: (&[], 0) };
    let (mut shown, mut failed) = (Vec::new(), Vec::new());
    let mut rest = Vec::new();
    let pieces: Vec<&[u8]> = data.chunks(step).chain([&b""[..]]).collect();
    for (number, piece) in pieces.iter().enumerate() {
        rest.extend_from_slice(piece);
        let (taken, used) = rule.feed(sequence, &rest, number + 1 == pieces.len(), &given);
        rest.drain(..used);
        for (run, bytes) in taken.batch.iter_runs() {
            for entry in Entries::new(bytes) {
                let entry = entry.unwrap();
                let mut json = Vec::new();
                write_record(&mut json, entry.body, entry.pairs).unwrap();
                let tag = &taken.batch.tags[run.tag as usize];
                shown.push(format!("{tag} {} {}", entry.time_ns, String::from_utf8(json).unwrap()));
            }
        }
        failed.extend(taken.failures.iter().flat_map(|tally| vec![tally.reason.to_owned(); tally.count]));
    }
    assert!(rest.is_empty());
    (shown, failed)
}

#[test]
fn streams_give_the_same_however_they_are_cut() {
    let rule = rule(None);
    let cases: [(Sequence, &[u8], &[&str], usize); 5] = [
        (Sequence::Lines, b"{\"a\":1}\r\nno\n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"], 1),
        (
            Sequence::Json,
            b"{\"a\":1}{\"a\":\n[\"}\\\"{\"]}\n [{}]",
            &["{\"a\":1}", "{\"a\":[\"}\\\"{\"]}", "{}"],
            0,
        ),
        (Sequence::Json, b" oops {\n{\"a\":1}\n", &["{\"a\":1}"], 1),
        (Sequence::Json, b"{\"a\":1} {\"a\"", &["{\"a\":1}"], 1),
        (Sequence::Whole, b"{\"a\":\n1}", &["{\"a\":1}"], 0),
    ];
    for (sequence, data, records, failures) in cases {
        let expected: Vec<String> = records.iter().map(|record| format!("t {NOW} {record}")).collect();
        for step in [1, 2, 3, 7, 1000] {
            let (shown, failed) = streamed(&rule, sequence, data, step);
            assert_eq!((&shown, failed.len()), (&expected, failures), "{sequence:?} {step}");
        }
    }
}

#[test]
fn tag_and_time_come_from_the_record_and_bad_times_harm_nobody() {
    let mut rule = rule(Some(written("float", None)));
    rule.tag = Some(TagField { key: b"tag".to_vec(), keep: false, prefix: "p.".to_owned() });
    let data =
        b"{\"tag\":\"x\",\"a\":1,\"time\":5}\n{\"time\":\"6.5\",\"tag\":7}\n{\"time\":[]}\n{\"a\":2}\n";
    let (shown, failed) = streamed(&rule, Sequence::Lines, data, 1000);
    let expected = ["p.x 5000000000 {\"a\":1}", "p.7 6500000000 {}", "t 1000000000000 {\"a\":2}"];
    assert_eq!(shown, expected);
    assert_eq!(failed, ["invalid_time"]);
    // the tag is taken out before the time is looked for
    rule.tag = Some(TagField { key: b"time".to_vec(), keep: false, prefix: String::new() });
    assert_eq!(streamed(&rule, Sequence::Lines, b"{\"time\":5}", 99).0, [format!("5 {NOW} {{}}")]);
    rule.tag = Some(TagField { key: b"tag".to_vec(), keep: true, prefix: String::new() });
    let given = Given { tag: None, time_ns: None, now_ns: NOW, added: (&[], 0) };
    let (taken, _) = rule.feed(Sequence::Lines, b"{\"tag\":\"a\"}\n{}\n", true, &given);
    assert_eq!((taken.batch.count, &*taken.batch.tags[0], taken.failures[0].reason), (1, "a", "no_tag"));
}

/// Takes every text, as field `n` with its length.
struct Lengths;

impl Parser for Lengths {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(Lengths)
    }
}

impl Session for Lengths {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let start = out.fields.len();
        crate::msgpack::write_str(&mut out.fields, b"n");
        crate::msgpack::write_uint(&mut out.fields, text.len() as u64);
        out.push(start, 1, None);
        Ok(())
    }
}

#[test]
fn msgpack_values_are_told_apart() {
    let rule = Rule { parser: Arc::new(Lengths), time: None, tag: None };
    let data = [msgpack_of("{\"a\":1}"), msgpack_of("[{\"a\":2},3]"), msgpack_of("4")].concat();
    let whole: Vec<String> = [4, 6, 1].iter().map(|n| format!("t {NOW} {{\"n\":{n}}}")).collect();
    for step in [1, 2, 3, 1000] {
        assert_eq!(streamed(&rule, Sequence::MsgPack, &data, step), (whole.clone(), vec![]));
    }
    let (shown, failed) = streamed(&rule, Sequence::MsgPack, b"\x01\xc1\x01\x01", 1000);
    assert_eq!((shown.len(), failed), (1, vec!["malformed".to_owned()]));
}

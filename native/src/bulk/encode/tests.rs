use super::*;
use crate::json_in::transcode;
use crate::msgpack;

const AT: i64 = 1_700_000_000_250_000_000;

/// An entry of each JSON text, one second after the other.
fn chunk(records: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for (number, record) in records.iter().enumerate() {
        msgpack::write_entry_start(&mut data, AT + number as i64 * 1_000_000_000);
        transcode(record.as_bytes(), &mut data).unwrap();
    }
    data
}

fn target() -> Target<'static> {
    Target {
        tag: Some("t.a"),
        index: "Ix",
        date_format: "%Y.%m.%d",
        chunk_id: b"\x01\xff",
        ..Target::default()
    }
}

fn encode(config: &Config, target: &Target<'_>, records: &[&str]) -> Outcome {
    Encoder::new(config.clone()).unwrap().encode(&[&chunk(records)], target, 64).unwrap()
}

fn body(config: &Config, records: &[&str]) -> String {
    let outcome = encode(config, &target(), records);
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    assert_eq!(outcome.parts.len(), 1);
    String::from_utf8(outcome.parts[0].body.clone()).unwrap()
}

fn key(text: &str) -> Option<Accessor> {
    Some(Accessor::new(text).unwrap())
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn one_event_by_every_option() {
    let base = Config::default();
    let update = Config { operation: Operation::Update, id_key: key("id"), ..base.clone() };
    let upsert = Config { operation: Operation::Upsert, ..update.clone() };
    let logstash = Config { logstash_format: true, ..base.clone() };
    let mut stamp = Vec::new(); // in the machine's zone
    Dated::new("\"@timestamp\":\"%Y-%m-%dT%H:%M:%S.%9N%:z\"", None).unwrap().write(&mut stamp, AT);
    let stamp = String::from_utf8(stamp).unwrap();
    for (config, record, expected) in [
        (base.clone(), r#"{"a":1}"#, r#"{"index":{"_index":"ix"}} {"a":1}"#.to_owned()),
        (base.clone(), "{}", r#"{"index":{"_index":"ix"}} {}"#.to_owned()),
        (
            Config { with_type: true, ..base.clone() },
            "{}",
            r#"{"index":{"_index":"ix","_type":null}} {}"#.to_owned(),
        ),
        (
            Config { tag_key: Some("tag".into()), chunk_id_key: Some("cid".into()), ..base.clone() },
            "{}",
            r#"{"index":{"_index":"ix"}} {"cid":"01ff","tag":"t.a"}"#.to_owned(),
        ),
        // a field of that name is replaced where it stands
        (
            Config { tag_key: Some("tag".into()), ..base.clone() },
            r#"{"tag":"old","b":"tag"}"#,
            r#"{"index":{"_index":"ix"}} {"tag":"t.a","b":"tag"}"#.to_owned(),
        ),
        (
            Config { flatten: Some(".".into()), tag_key: Some("a.b".into()), ..base.clone() },
            r#"{"a":{"b":1,"c":[{}]}}"#,
            r#"{"index":{"_index":"ix"}} {"a.b":"t.a","a.c":[{}]}"#.to_owned(),
        ),
        (
            Config {
                id_key: key("$.a.id"),
                routing_key: key("r"),
                parent_key: key("p"),
                remove_keys: strings(&["a", "r"]),
                ..base.clone()
            },
            r#"{"a":{"id":"x\"y"},"r":7,"p":null}"#,
            r#"{"index":{"_index":"ix","_id":"x\"y","routing":7}} {"p":null}"#.to_owned(),
        ),
        (
            Config { routing_key: key("tag"), routing_name: "_routing".into(), tag_key: Some("tag".into()), ..base.clone() },
            "{}",
            r#"{"index":{"_index":"ix","_routing":"t.a"}} {"tag":"t.a"}"#.to_owned(),
        ),
        (
            Config { target_index_key: strings(&["m", "index"]), target_type_key: strings(&["kind"]), ..base.clone() },
            r#"{"m":{"index":"Own","x":1},"kind":"k"}"#,
            r#"{"index":{"_index":"own"}} {"m":{"x":1}}"#.to_owned(),
        ),
        (logstash.clone(), r#"{"a":1}"#, format!(r#"{{"index":{{"_index":"ix2023.11.14"}}}} {{"a":1,{stamp}}}"#)),
        (logstash.clone(), "{}", format!(r#"{{"index":{{"_index":"ix2023.11.14"}}}} {{{stamp}}}"#)),
        (
            logstash.clone(),
            r#"{"@timestamp":"2020-02-29T23:30:00-01:00"}"#,
            r#"{"index":{"_index":"ix2020.03.01"}} {"@timestamp":"2020-02-29T23:30:00-01:00"}"#.to_owned(),
        ),
        (
            Config { time_key: Some("t".into()), time_precision: 0, utc_index: false, ..logstash.clone() },
            r#"{"t":"2020-02-29T23:30:00-01:00"}"#,
            r#"{"index":{"_index":"ix2020.02.29"}} {"t":"2020-02-29T23:30:00-01:00","@timestamp":"2020-02-29T23:30:00-01:00"}"#.to_owned(),
        ),
        (
            Config { time_key: Some("t".into()), time_key_exclude_timestamp: true, ..logstash.clone() },
            r#"{"t":"2020-02-29"}"#,
            r#"{"index":{"_index":"ix2020.02.29"}} {"t":"2020-02-29"}"#.to_owned(),
        ),
        (
            Config { include_timestamp: true, remove_keys: strings(&["@timestamp"]), ..base.clone() },
            r#"{"a":1}"#,
            r#"{"index":{"_index":"ix"}} {"a":1}"#.to_owned(),
        ),
        (
            Config { operation: Operation::Create, id_key: key("id"), ..base.clone() },
            r#"{"id":1}"#,
            r#"{"create":{"_index":"ix","_id":1}} {"id":1}"#.to_owned(),
        ),
        (update.clone(), r#"{"id":1}"#, r#"{"update":{"_index":"ix","_id":1}} {"doc":{"id":1}}"#.to_owned()),
        (
            Config { suppress_doc_wrap: true, ..update.clone() },
            r#"{"id":1}"#,
            r#"{"update":{"_index":"ix","_id":1}} {"id":1}"#.to_owned(),
        ),
        (
            upsert.clone(),
            r#"{"id":1}"#,
            r#"{"update":{"_index":"ix","_id":1}} {"doc":{"id":1},"doc_as_upsert":true}"#.to_owned(),
        ),
        (
            Config { remove_keys_on_update: strings(&["b"]), ..upsert.clone() },
            r#"{"id":1,"b":2}"#,
            r#"{"update":{"_index":"ix","_id":1}} {"doc":{"id":1},"upsert":{"id":1,"b":2}}"#.to_owned(),
        ),
        (
            Config { remove_keys_on_update_key: Some("rm".into()), suppress_doc_wrap: true, ..upsert.clone() },
            r#"{"id":1,"b":2,"rm":["b",null]}"#,
            r#"{"update":{"_index":"ix","_id":1}} {"id":1}"#.to_owned(),
        ),
    ] {
        assert_eq!(body(&config, &[record]).replace("\n", " ").trim_end(), expected, "{config:?}");
    }
}

#[test]
fn every_way_gives_the_same() {
    // the same records with and without a reason to take every event apart
    let records = [r#"{"a":1,"b":"x"}"#, "{}", r#"{"@timestamp":"2020-01-01T00:00:00Z"}"#, r#"{"tag":1}"#];
    for id_key in [None, key("nothing")] {
        let config = Config {
            logstash_format: true,
            tag_key: Some("tag".into()),
            id_key: id_key.clone(),
            ..Config::default()
        };
        let apart = Config { flatten: Some("_".into()), ..config.clone() };
        let straight = body(&config, &records[..2]);
        assert_eq!(straight, body(&apart, &records[..2]));
        assert_eq!(body(&config, &records), body(&apart, &records));
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let id = Config { id_key: key("id"), ..Config::default() };
    let create = Config { operation: Operation::Create, ..id.clone() };
    let index = Config { target_index_key: strings(&["i"]), ..Config::default() };
    let removing =
        Config { operation: Operation::Update, remove_keys_on_update_key: Some("rm".into()), ..id.clone() };
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(513));
    for (config, record, reason) in [
        (&create, "{}", "missing_id"),
        (&create, r#"{"id":false}"#, "missing_id"),
        (&id, r#"{"id":""}"#, "bad_id"),
        (&id, r#"{"id":{}}"#, "bad_id"),
        (&id, &long, "bad_id"),
        (&Config { routing_key: key("r"), ..Config::default() }, r#"{"r":[1]}"#, "bad_routing"),
        (&Config { parent_key: key("p"), ..Config::default() }, r#"{"p":""}"#, "bad_parent"),
        (&index, r#"{"i":1}"#, "bad_index"),
        (&index, r#"{"i":""}"#, "bad_index"),
        (&removing, r#"{"id":1,"rm":"a"}"#, "bad_remove_keys"),
    ] {
        let good = r#"{"id":"1","i":"x"}"#;
        let outcome = encode(config, &target(), &[good, record, good]);
        let at = chunk(&[good]).len();
        assert_eq!(outcome.refused, [(reason, vec![at])], "{record}");
        assert_eq!(outcome.parts[0].items.len(), 2);
        let lines = String::from_utf8(outcome.parts[0].body.clone()).unwrap();
        assert_eq!(lines.lines().count(), 4, "{lines}");
    }
}

#[test]
fn bodies_are_split() {
    let records = [r#"{"a":1}"#; 10];
    let line = body(&Config::default(), &records[..1]).len();
    for (limit, sizes) in [
        (Some(line * 3), vec![3, 3, 3, 1]),
        (Some(line * 4 - 1), vec![3, 3, 3, 1]),
        (Some(0), vec![1; 10]),
        (Some(line * 10), vec![10]),
        (None, vec![10]),
    ] {
        let outcome = encode(&Config::default(), &Target { limit, ..target() }, &records);
        let found: Vec<_> = outcome.parts.iter().map(|part| part.items.len()).collect();
        assert_eq!(found, sizes);
        for part in &outcome.parts {
            let starts: Vec<_> = (0..part.items.len()).map(|number| number * line).collect();
            assert_eq!(part.items.iter().map(|item| item.start).collect::<Vec<_>>(), starts);
        }
    }
}

#[test]
fn indices_in_the_url() {
    let config = Config {
        include_index_in_url: true,
        target_index_key: strings(&["i"]),
        operation: Operation::Create,
        deterministic_id: true,
        ..Config::default()
    };
    let records = [r#"{"n":0}"#, r#"{"i":"b","n":1}"#, r#"{"n":2}"#, r#"{"i":"b","n":3}"#];
    let outcome = encode(&config, &target(), &records);
    let found: Vec<_> = outcome.parts.iter().map(|part| (part.index.as_deref(), part.items.len())).collect();
    assert_eq!(found, [(Some("ix"), 2), (Some("b"), 2)]);
    assert!(outcome.parts[0].body.starts_with(b"{\"create\":{\"_id\":\""));
    let outcome = encode(&config, &Target { limit: Some(1), ..target() }, &records);
    let mut found: Vec<_> = outcome.parts.iter().map(|part| part.index.as_deref()).collect();
    found.sort_unstable();
    assert_eq!(found, [Some("b"), Some("b"), Some("ix"), Some("ix")]);
}

#[test]
fn the_index_follows_the_day() {
    let config = Config { logstash_format: true, ..Config::default() };
    let mut data = Vec::new();
    let midnight = 1_700_006_400;
    for second in [midnight - 1, midnight, midnight - 1, midnight + 86_400, 0] {
        msgpack::write_entry_start(&mut data, second * 1_000_000_000);
        data.push(0x80);
    }
    let target = Target { date_format: "%y%m%d", index: "l-", ..target() };
    let outcome = Encoder::new(config).unwrap().encode(&[&data], &target, 0).unwrap();
    let text = String::from_utf8(outcome.parts[0].body.clone()).unwrap();
    let dates: Vec<_> = text.lines().step_by(2).map(|line| &line[22..28]).collect();
    assert_eq!(dates, ["231114", "231115", "231114", "231116", "700101"]);
}

#[test]
fn fields_that_are_no_time_are_noted() {
    let config = Config { logstash_format: true, time_key: Some("t".into()), ..Config::default() };
    let outcome =
        encode(&config, &Target { now_ns: AT, ..target() }, &[r#"{"t":"no"}"#, r#"{"t":"2020-01-01"}"#]);
    assert_eq!(outcome.time_error_count, 1);
    let mut pos = 0;
    let entry = read_entry(&outcome.time_errors, &mut pos).unwrap();
    assert_eq!((entry.time_ns, pos), (AT, outcome.time_errors.len()));
    let mut json = Vec::new();
    json_out::write_record(&mut json, entry.body, entry.pairs).unwrap();
    let expected = r#"{"tag":"t.a","time":1700000000,"format":null,"value":"no"}"#;
    assert_eq!(String::from_utf8(json).unwrap(), expected);
    assert!(String::from_utf8(outcome.parts[0].body.clone()).unwrap().contains("ix2023.11.14"));
}

#[test]
fn deterministic_ids() {
    let config = Config { deterministic_id: true, ..Config::default() };
    let ids = |target: &Target<'_>, records: &[&str]| -> Vec<String> {
        let mut data = Vec::new();
        for record in records {
            msgpack::write_entry_start(&mut data, AT);
            transcode(record.as_bytes(), &mut data).unwrap();
        }
        let outcome = Encoder::new(config.clone()).unwrap().encode(&[&data], target, 0).unwrap();
        let text = String::from_utf8(outcome.parts[0].body.clone()).unwrap();
        text.lines().step_by(2).map(|line| line.split('"').nth(9).unwrap().to_owned()).collect()
    };
    let records = [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#, r#"{"a":1}"#];
    let first = ids(&target(), &records);
    assert_eq!(first, ids(&target(), &records));
    let mut all = first.clone();
    all.extend(ids(&Target { chunk_id: b"other", ..target() }, &records));
    all.extend(ids(&Target { tag: Some("t.b"), ..target() }, &records));
    assert!(all.iter().all(|id| id.len() == 22 && id.bytes().all(|byte| URL_SAFE.contains(&byte))));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 12);
    // without what went before, an event keeps its id unless an equal one is gone
    assert_eq!(ids(&target(), &records[1..2]), first[1..2]);
    // the ids must never change: documents would double over an update
    assert_eq!(first[0], "DtCXNoZGUyQ_4Q14_FSvmJ");
}

#[test]
fn broken_entries_end_their_block_only() {
    let good = chunk(&[r#"{"a":1}"#]);
    for broken in [&b"\xc1"[..], b"\x92\xc0\x80", b"\x92\x01\x90", &good[..good.len() - 1], b"\x00\x00"] {
        for config in [
            Config::default(),
            Config { deterministic_id: true, ..Config::default() },
            Config { flatten: Some("_".into()), ..Config::default() },
        ] {
            let block = [&good, broken].concat();
            let encoder = Encoder::new(config).unwrap();
            let outcome = encoder.encode(&[&block, &good], &target(), 0).unwrap();
            assert_eq!(outcome.unreadable, broken.len());
            let part = &outcome.parts[0];
            assert_eq!(part.items.iter().map(|item| item.entry).collect::<Vec<_>>(), [0, block.len()]);
            assert_eq!(part.body.iter().filter(|byte| **byte == b'\n').count(), 4);
        }
    }
}

/// `cargo test --release --no-default-features measure_bulk -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn measure_bulk() {
    use std::hint::black_box;
    let mut data = Vec::new();
    let mut text = String::new();
    let count = 20_000;
    for number in 0..count {
        let agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko)";
        let record = format!(
            r#"{{"host":"83.149.9.{}","user":"-","method":"GET","path":"/presentations/logstash/{number}.png","code":"200","size":"203023","referer":"http://semicomplete.com/presentations/","agent":"{agent}","pri":"6"}}"#,
            number % 256
        );
        text.push_str(&record);
        msgpack::write_entry_start(&mut data, AT + number * 3_333);
        transcode(record.as_bytes(), &mut data).unwrap();
    }
    println!("{} bytes an entry", data.len() / count as usize);
    let time = |name: &str, run: &mut dyn FnMut() -> usize| {
        let mut best = f64::MAX;
        let mut bytes = 0;
        for _ in 0..30 {
            let start = std::time::Instant::now();
            bytes = black_box(run());
            best = best.min(start.elapsed().as_secs_f64() / count as f64 * 1e9);
        }
        println!("{name}: {best:.0} ns, {} bytes", bytes / count as usize);
    };
    let mut out = Vec::with_capacity(text.len() + data.len());
    time("JSON lines", &mut || {
        out.clear();
        let mut pos = 0;
        while pos < data.len() {
            let event = read_event(&data, pos).unwrap();
            pos = event.pos;
            json_out::write_record_at(&mut out, &data, &mut pos, event.pairs, Floats::Oj).unwrap();
            out.push(b'\n');
        }
        out.len()
    });
    let base = Config::default();
    let logstash = Config { logstash_format: true, ..base.clone() };
    for (name, config) in [
        ("fixed index", base.clone()),
        ("logstash_format", logstash.clone()),
        ("logstash_format, tag", Config { tag_key: Some("tag".into()), ..logstash.clone() }),
        ("logstash_format, id_key", Config { id_key: key("host"), ..logstash.clone() }),
        ("logstash_format, deterministic_id", Config { deterministic_id: true, ..logstash.clone() }),
        (
            "logstash_format, remove_keys",
            Config { remove_keys: strings(&["pri", "user"]), ..logstash.clone() },
        ),
        ("logstash_format, flatten_hashes", Config { flatten: Some("_".into()), ..logstash.clone() }),
    ] {
        let encoder = Encoder::new(config).unwrap();
        time(name, &mut || {
            let outcome = encoder.encode(&[black_box(&data)], &target(), data.len() * 2).unwrap();
            outcome.parts[0].body.len()
        });
    }
}

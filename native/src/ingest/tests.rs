use super::edit::walk;
use super::*;
use crate::msgpack::Entries;
use crate::msgpack::Token;
use crate::parser::Mismatch;

/// "k=v,k=v" with an optional "@SECONDS " before it; "!" does not match.
struct Pairs {
    estimate: bool,
    keys: Option<Vec<Vec<u8>>>,
}

impl Parser for Pairs {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(Pairs { estimate: self.estimate, keys: None })
    }
    fn estimate_current_event(&self) -> bool {
        self.estimate
    }
    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        self.keys.clone()
    }
}

impl Session for Pairs {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        let text = std::str::from_utf8(text).map_err(|_| Mismatch::NoMatch)?;
        if text.starts_with('!') {
            return Err(Mismatch::NoMatch);
        }
        for event in text.split(';') {
            let (time, rest) = match event.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
                Some((time, rest)) => (time.parse::<i64>().ok().map(|s| s * 1_000_000_000), rest),
                None => (None, event),
            };
            let start = out.fields.len();
            let mut pairs = 0;
            for (key, value) in rest.split(',').filter_map(|pair| pair.split_once('=')) {
                msgpack::write_str(&mut out.fields, key.as_bytes());
                match value.parse::<u64>() {
                    Ok(number) => msgpack::write_uint(&mut out.fields, number),
                    Err(_) => msgpack::write_str(&mut out.fields, value.as_bytes()),
                }
                pairs += 1;
            }
            out.push(start, pairs, time);
        }
        Ok(())
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn show(value: &[u8]) -> String {
    match msgpack::read_token(value, &mut 0).unwrap() {
        Token::Str(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

fn run(rule: Rule, messages: &[&str]) -> (Vec<(String, i64, String)>, Taken) {
    run_with(Pairs { estimate: true, keys: None }, rule, messages)
}

fn run_with(parser: Pairs, rule: Rule, messages: &[&str]) -> (Vec<(String, i64, String)>, Taken) {
    let ingest = Ingest::new(Arc::new(parser), rule);
    let mut sink = Sink::default();
    let mut filling = ingest.open(&mut sink, 7_000_000_000);
    let ip = "10.0.0.9".parse().unwrap();
    for message in messages {
        filling.message(message.as_bytes(), ingest.needs_source().then_some(ip));
    }
    drop(filling);
    let taken = sink.take();
    assert!(sink.is_empty());
    let mut events = vec![];
    for (run, bytes) in taken.batch.iter_runs() {
        let before = events.len();
        for entry in Entries::new(bytes) {
            let entry = entry.unwrap();
            let mut text = vec![];
            let mut counted = 0;
            walk(entry.body, |key, _, value, end| {
                let key = String::from_utf8(key.to_vec()).unwrap();
                text.push(format!("{key}={}", show(&entry.body[value..end])));
                counted += 1;
                true
            });
            assert_eq!(counted, entry.pairs);
            let tag = taken.batch.tags[run.tag as usize].to_string();
            events.push((tag, entry.time_ns / 1_000_000_000, text.join(",")));
        }
        assert_eq!(events.len() - before, run.count as usize);
    }
    assert_eq!(events.len(), taken.batch.count);
    (events, taken)
}

fn event(tag: &str, time: i64, text: &str) -> (String, i64, String) {
    (tag.to_owned(), time, text.to_owned())
}

#[test]
fn one_tag() {
    let rule = Rule { tag: "t".into(), chomp: true, ..Rule::default() };
    let (events, taken) = run(rule, &["a=x\r\n", "!no", "@5 b=y;c=z", "!again"]);
    assert_eq!(events, [event("t", 7, "a=x"), event("t", 5, "b=y"), event("t", 7, "c=z")]);
    assert_eq!(taken.failures, [Tally { reason: "unmatched", count: 2, sample: b"!no".to_vec() }]);
    assert_eq!(taken.received(), 5);
}

#[test]
fn no_time_and_no_estimate_gives_no_event() {
    let rule = Rule { tag: "t".into(), ..Rule::default() };
    let (events, taken) = run_with(Pairs { estimate: false, keys: None }, rule, &["a=x", "@5 b=y"]);
    assert_eq!(events, [event("t", 5, "b=y")]);
    assert_eq!(taken.failures[0].reason, "no_time");
}

#[test]
fn syslog_priority_is_stripped_before_the_parser() {
    let rule = Rule { tag: "s".into(), syslog: true, ..Rule::default() };
    let (events, taken) = run(rule, &["<6>a=b", "<192>a=b", "<1000>a=c\nd=e", "x\n<15>a=d", "<>a=b", "a=b"]);
    assert_eq!(
        events,
        [
            event("s.kern.info", 7, "a=b"),
            event("s..emerg", 7, "a=b"),
            event("s..emerg", 7, "a=c"),
            event("s.user.debug", 7, "a=d"),
        ]
    );
    assert_eq!(taken.failures, [Tally { reason: "no_priority", count: 2, sample: b"<>a=b".to_vec() }]);
}

#[test]
fn syslog_priority_of_the_parser_leaves_the_record() {
    let rule = Rule {
        tag: "s".into(),
        syslog: true,
        with_priority: true,
        severity_key: some("sev"),
        facility_key: some("a"),
        ..Rule::default()
    };
    let (events, taken) = run(rule, &["pri=6,a=b", "a=b,pri=999,c=d", "a=b", "pri=x,a=b"]);
    assert_eq!(
        events,
        [event("s.kern.info", 7, "a=kern,sev=info"), event("s..debug", 7, "a=Nil,c=d,sev=debug"),]
    );
    assert_eq!(taken.failures[0].count, 2);
}

#[test]
fn unmatched_lines_become_events() {
    let rule = Rule {
        tag: "s".into(),
        syslog: true,
        emit_unmatched_lines: true,
        source_address_key: some("from"),
        ..Rule::default()
    };
    let (events, taken) = run(rule, &["nothing", "<6>!no"]);
    assert_eq!(
        events,
        [
            event("s.unmatched", 7, "unmatched_line=nothing,from=10.0.0.9"),
            event("s.unmatched", 7, "unmatched_line=<6>!no,from=10.0.0.9"),
        ]
    );
    assert_eq!((taken.failures.len(), taken.notices.len(), taken.received()), (0, 2, 2));
}

#[test]
fn added_fields_replace_in_place() {
    let rule = Rule { tag: "t".into(), source_address_key: some("from"), ..Rule::default() };
    let (events, _) = run(rule, &["a=1,from=x,b=y", "a=b"]);
    assert_eq!(events, [event("t", 7, "a=Uint(1),from=10.0.0.9,b=y"), event("t", 7, "a=b,from=10.0.0.9")]);
}

#[test]
fn appending_is_editing() {
    let rule = |syslog, severity: Option<&str>, facility: Option<&str>| Rule {
        tag: "t".into(),
        syslog,
        severity_key: severity.map(str::to_owned),
        facility_key: facility.map(str::to_owned),
        source_address_key: some("from"),
        ..Rule::default()
    };
    for (syslog, severity, facility, apart) in [
        (true, Some("sev"), Some("fac"), true),
        (true, None, Some("fac"), true),
        (true, Some("same"), Some("same"), false),
        (true, Some("a"), None, false),
        (false, None, None, true),
    ] {
        let messages = ["<34>a=1,b=2", "<191>a=x", "<999>b=y;a=z", "<0>!"];
        let keys = Some(vec![b"a".to_vec(), b"b".to_vec(), b"<34>a".to_vec()]);
        let parser = Pairs { estimate: true, keys };
        let ingest = Ingest::new(
            Arc::new(Pairs { estimate: true, keys: parser.keys() }),
            rule(syslog, severity, facility),
        );
        assert_eq!(ingest.appended.is_some(), apart);
        let appended = run_with(parser, rule(syslog, severity, facility), &messages);
        let edited = run(rule(syslog, severity, facility), &messages);
        assert_eq!(appended.0, edited.0);
        assert_eq!(appended.1.batch.data, edited.1.batch.data);
    }
}

#[test]
fn tag_from_a_field() {
    for (keep, left) in [(false, "b=c"), (true, "k=t.x,b=c")] {
        let rule = Rule { tag: "t".into(), tag_key: some("k"), keep_tag_key: keep, ..Rule::default() };
        let (events, _) = run(rule, &["k=t.x,b=c", "a=b", "k=12", "k=t,a=b"]);
        assert_eq!(events[0], event("t.x", 7, left));
        assert_eq!(events[1], event("t", 7, "a=b"));
        assert_eq!(events[2].0, "12");
        assert_eq!(events[3].0, "t");
    }
}

#[test]
fn a_field_that_is_tag_and_source_is_removed_then_added() {
    let rule = Rule { tag: "t".into(), tag_key: some("k"), source_address_key: some("k"), ..Rule::default() };
    assert_eq!(run(rule, &["k=x,b=c"]).0, [event("x", 7, "b=c,k=10.0.0.9")]);
}

#[test]
fn chomp_as_ruby() {
    for (text, wanted) in [("a\n", "a"), ("a\r\n", "a"), ("a\r", "a"), ("a\n\n", "a\n"), ("", ""), ("\n", "")]
    {
        assert_eq!(chomp(text.as_bytes()), wanted.as_bytes());
    }
}

#[test]
fn huge_priorities_keep_their_severity() {
    assert_eq!(strip_priority(b"<99999999999999999999999999999999999999>x").map(|p| p.0 & 7), Some(7));
    assert!(strip_priority(b"<99999999999999999999999999999999999999>x").is_some_and(|p| p.0 > 191));
    assert_eq!(strip_priority(b"<1x>"), None);
    assert_eq!(strip_priority(b""), None);
}

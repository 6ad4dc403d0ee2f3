use super::explain::{elements, explain};
use super::*;
use crate::options::ParseOptions;
use crate::ruby_regexp::{Flags, translate};

const LEGACY: &str = include_str!("../../../parsers/patterns/legacy");
const ECS: &str = include_str!("../../../parsers/patterns/ecs-v1");

#[test]
fn every_library_pattern_compiles() {
    for text in [LEGACY, ECS] {
        let library = Library::new(&[text]);
        let names: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' ').map(|(name, _)| name))
            .collect();
        assert!(names.len() > 300);
        for name in names {
            let expanded = library.expand(&format!("%{{{name}:field}}")).unwrap();
            crate::extract::compile(&expanded.source, Flags::default())
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            let translated = translate(&expanded.source, Flags::default()).unwrap();
            let utf = translated.utf.unwrap();
            // the second program must compile too, or texts beyond ASCII would not match
            let utf = [b"(*UTF)(*UCP)", &utf[..]].concat();
            let why = crate::pcre::Regexp::new(&utf, None, false, false).err();
            let refused_only_for_the_mode = why.is_none_or(|why| why.message.contains("UTF"));
            assert!(refused_only_for_the_mode, "{name}");
        }
    }
}

#[test]
fn references_are_read_as_the_plugin_reads_them() {
    let library = Library::new(&["# comment\nAA a+\nBB  b \nCC %{AA:x}%{BB}\nLOOP %{LOOP}\n"]);
    for (pattern, source, types) in [
        ("%{AA}", "(?:a+)", ""),
        ("%{AA:n}-%{BB:m:integer}", "(?<n>a+)-(?<m>b )", "n=string m=integer"),
        ("%{CC:c}", "(?<c>(?<x>a+)(?:b ))", "c=string x=string"),
        ("%{AA:[a][b]}", "(?<a.b>a+)", "a.b=string"),
        ("%{AA:@x:y}", "(?<@x:y>a+)", "@x:y=string"),
        ("%{AA:t:time:%d/%b/%Y:%H}", "(?<t>a+)", "t=time:%d/%b/%Y:%H"),
        ("%{AA:l:array:;}", "(?<l>a+)", "l=array:;"),
        ("%{AA:i:int}", "(?<i:int>a+)", "i:int=string"),
        ("%{AA n} %{} %", "%{AA n} %{} %", ""),
    ] {
        let expanded = library.expand(pattern).unwrap();
        let shown: Vec<String> = expanded.types.iter().map(|(name, kind)| format!("{name}={kind}")).collect();
        assert_eq!((&*expanded.source, &*shown.join(" ")), (source, types), "{pattern}");
    }
    assert!(library.expand("%{NOPE}").unwrap_err().contains("NOPE"));
    assert!(library.expand("%{LOOP}").unwrap_err().contains("itself"));
}

#[test]
fn an_explanation_names_the_element_that_fails() {
    let library = Library::new(&[LEGACY]);
    assert_eq!(
        elements("^%{IP:a} x(?:b|c)+[d-e]{2}\\d"),
        ["^", "%{IP:a}", " x", "(?:b|c)+", "[d-e]{2}", "\\d"]
    );
    let pattern = "^%{IP:client} %{WORD:method} %{NUMBER:n}";
    let (parts, matched, start, end) = explain(&library, pattern, b"10.0.0.1 GET x").unwrap();
    assert_eq!((&*parts[matched], start, end), ("%{NUMBER:n}", 0, 13));
    assert_eq!(explain(&library, pattern, b"10.0.0.1 GET 5").unwrap().1, parts.len());
}

/// The forms that expansion puts in place of standard patterns match the same.
#[test]
fn faster_forms_match_the_same() {
    let definition = |name: &str| {
        let start = format!("{name} ");
        LEGACY.lines().find_map(|line| line.strip_prefix(&*start)).unwrap().to_owned()
    };
    let library = Library::new(&[LEGACY]);
    for name in ["QUOTEDSTRING", "IPV6"] {
        let written = definition(name);
        let used = library.expand(&format!("%{{{name}}}")).unwrap().source;
        assert!(!used.contains(&written) || used.contains("(?="), "{name} has a faster form");
        let (slow, _) = crate::extract::compile(&written, Flags::default()).unwrap();
        let (fast, _) = crate::extract::compile(&used, Flags::default()).unwrap();
        let alphabet: &[u8] = if name == "IPV6" { b":a1.:2f%" } else { b"\"\\'x`\n\"a" };
        let mut state = 7u64;
        for _ in 0..30_000 {
            let mut text = Vec::new();
            for _ in 0..(state >> 60) + 2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            let whole = |regexp: &crate::pcre::Regexp| {
                let mut matcher = regexp.matcher();
                let found = matcher.search(regexp, &text, Script::of(&text)).unwrap();
                found.then(|| matcher.capture(&text, 0).unwrap().to_vec())
            };
            assert_eq!(whole(&fast), whole(&slow), "{name} on {}", String::from_utf8_lossy(&text));
        }
    }
}

fn parse(pattern: &str, options: ParseOptions, text: &[u8]) -> Events {
    let library = Library::new(&[LEGACY]);
    let pattern = GrokPattern { pattern: pattern.to_owned(), name: vec![0], options };
    let (parser, bad) = GrokParser::new(&library, &[pattern], false, None, Some("why")).unwrap();
    assert!(bad.is_empty());
    let mut out = Events::default();
    parser.session().parse(text, &mut out).unwrap();
    out
}

pub const LINE: &[u8] = b"83.149.9.216 - - [17/May/2015:10:05:03 +0000] \"GET /presentations/logstash-monitorama-2013/images/kibana-search.png HTTP/1.1\" 200 203023 \"http://semicomplete.com/presentations/logstash-monitorama-2013/\" \"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36\"";

#[test]
fn apache_lines_are_taken_apart() {
    let out = parse("%{COMBINEDAPACHELOG}", ParseOptions::default(), LINE);
    assert_eq!(out.items[0].pairs, 11);
    let out = parse("%{COMBINEDAPACHELOG}", ParseOptions::default(), b"nonsense");
    assert_eq!(out.items[0].pairs, 2);
}

/// `cargo test --release --no-default-features measure -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn measure() {
    use std::hint::black_box;
    let time = |name: &str, parser: &dyn Parser, line: &[u8]| {
        let mut session = parser.session();
        let mut out = Events::default();
        let mut best = f64::MAX;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            for _ in 0..5_000 {
                out.clear();
                session.parse(black_box(line), &mut out).unwrap();
                black_box(&out.fields);
            }
            best = best.min(start.elapsed().as_secs_f64() / 5_000.0 * 1e9);
        }
        println!("{name}: {best:.0} ns, {} pairs", out.items[0].pairs);
    };
    let combined = r#"/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>(?:[^\"]|\\.)*?)(?: +\S*)?)?" (?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>(?:[^\"]|\\.)*)" "(?<agent>(?:[^\"]|\\.)*)")?$/"#;
    let nine = r#"/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+) (?<path>[^ ]*) [^"]*" (?<code>[^ ]*) (?<size>[^ ]*) "(?<referer>[^"]*)" "(?<agent>[^"]*)"$/"#;
    let mut timed = ParseOptions { time_key: Some("time".to_owned()), ..ParseOptions::default() };
    timed.time.format = Some("%d/%b/%Y:%H:%M:%S %z".to_owned());
    for (name, source) in [("fluentd apache2", combined), ("9 captures", nine)] {
        for (what, options) in [("plain", ParseOptions::default()), ("timed", timed.clone())] {
            let parser = crate::regexp::RegexpParser::new(source, false, false, &options).unwrap();
            time(&format!("regexp {name} {what}"), &parser, LINE);
        }
    }
    let library = Library::new(&[LEGACY]);
    for pattern in [
        "%{COMBINEDAPACHELOG}",
        "%{COMMONAPACHELOG}",
        "%{IPORHOST:a} ",
        "%{SYSLOGBASE} %{GREEDYDATA:m}",
        "%{TIMESTAMP_ISO8601:t} %{LOGLEVEL:l}",
    ] {
        let line: &[u8] = match pattern.as_bytes()[2] {
            b'S' => b"Mar  7 12:01:02 host-1.example app[123]: something happened here",
            b'T' => b"2023-07-01T12:00:00.123+0000 ERROR x",
            _ => LINE,
        };
        let one =
            GrokPattern { pattern: pattern.to_owned(), name: vec![0], options: ParseOptions::default() };
        let (parser, _) = GrokParser::new(&library, &[one], false, None, None).unwrap();
        time(pattern, &parser, line);
    }
    let formats = [
        ("%b %d %H:%M:%S", "Mar  7 12:01:0"),
        ("%d/%b/%Y:%H:%M:%S %z", "07/Mar/2023:12:01:0"),
        ("%Y-%m-%dT%H:%M:%S.%L%z", "2023-03-07T12:01:0"),
        ("", "2023-03-07T12:01:0"),
    ];
    for (format, prefix) in formats {
        let spec = crate::time::TimeSpec {
            format: (!format.is_empty()).then(|| format.to_owned()),
            ..Default::default()
        };
        let parser = crate::time::TimeParser::new(&spec).unwrap();
        let tail = match format {
            "%b %d %H:%M:%S" => "",
            "%d/%b/%Y:%H:%M:%S %z" => " +0000",
            _ => ".123Z",
        };
        let texts: Vec<String> = (0..10).map(|digit| format!("{prefix}{digit}{tail}")).collect();
        let mut cache = crate::time::TimeCache::default();
        let mut measure = |what: &str, texts: &[String]| {
            let mut best = f64::MAX;
            for _ in 0..20 {
                let start = std::time::Instant::now();
                for _ in 0..5_000 {
                    for text in texts {
                        black_box(parser.parse(black_box(text.as_bytes()), &mut cache)).unwrap();
                    }
                }
                best = best.min(start.elapsed().as_secs_f64() * 1e9 / 5_000.0 / texts.len() as f64);
            }
            println!("time {format:?}: {best:.1} ns {what}");
        };
        measure("changing", &texts);
        measure("same", &texts[..1]);
    }
}

use super::*;

fn spec(format: &str, zone: Option<&str>) -> TimeSpec {
    TimeSpec {
        kind: "string".to_owned(),
        format: (!format.is_empty()).then(|| format.to_owned()),
        zone: zone.map(str::to_owned),
        ..TimeSpec::default()
    }
}

fn time(format: &str, zone: Option<&str>, text: &str) -> Option<i64> {
    let parser = TimeParser::new(&spec(format, zone)).unwrap();
    let mut cache = TimeCache::default();
    let first = parser.parse(text.as_bytes(), &mut cache);
    assert_eq!(parser.parse(text.as_bytes(), &mut cache), first, "the cache changes nothing");
    first
}

const S: i64 = 1_000_000_000;

#[test]
fn formats_give_what_ruby_gives() {
    for (format, zone, text, want) in [
        ("%d/%b/%Y:%H:%M:%S %z", None, "28/Feb/2023:12:00:00 +0900", Some(1_677_553_200 * S)),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2023-07-01T12:00:00+0000", Some(1_688_212_800 * S)),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2023-07-01T12:00:00.5+0000", None),
        ("%Y-%m-%dT%H:%M:%S.%L%z", None, "2023-02-28T12:00:00.003Z", Some(1_677_585_600 * S + 3_000_000)),
        (
            "%Y-%m-%dT%H:%M:%S.%L%z",
            None,
            "2023-02-28T12:00:00.123456-05:00",
            Some(1_677_603_600 * S + 123_456_000),
        ),
        ("%Y-%m-%d %H:%M:%S", Some("America/New_York"), "2023-07-01 12:00:00", Some(1_688_227_200 * S)),
        ("%Y-%m-%d %H:%M:%S", Some("America/New_York"), "2023-12-01 12:00:00", Some(1_701_450_000 * S)),
        ("%Y-%m-%d %H:%M:%S", Some("+09:00"), "2023-07-01 12:00:00", Some(1_688_180_400 * S)),
        ("%Y-%m-%d %H:%M:%S", Some("UTC"), "2023-07-01 12:00:00 and more", Some(1_688_212_800 * S)),
        ("%F %T", Some("UTC"), "2023-07-01 12:00:00", Some(1_688_212_800 * S)),
        ("%Y%m%d%H%M%S", Some("UTC"), "20230701120000", Some(1_688_212_800 * S)),
        ("%Y-%m-%d %I:%M:%S %p", Some("UTC"), "2023-07-01 12:00:00 PM", Some(1_688_212_800 * S)),
        ("%Y-%m-%d %I:%M:%S %p", Some("UTC"), "2023-07-01 12:00:00 am", Some(1_688_169_600 * S)),
        ("%s", None, "1688212800", Some(1_688_212_800 * S)),
        ("%s.%N", None, "1688212800.5", Some(1_688_212_800 * S + 500_000_000)),
        ("%Q", None, "1688212800123", Some(1_688_212_800 * S + 123_000_000)),
        ("%Y-%j", Some("UTC"), "2023-182", Some(1_688_169_600 * S)),
        ("%a %b %e %H:%M:%S %Y", Some("UTC"), "Sat Jul  1 12:00:00 2023", Some(1_688_212_800 * S)),
        ("%A, %d %B %Y", Some("UTC"), "Saturday, 01 JULY 2023", Some(1_688_169_600 * S)),
        ("%Y-%m-%d %H:%M:%S %Z", None, "2023-07-01 12:00:00 UTC", Some(1_688_212_800 * S)),
        ("%Y-%m-%d %H:%M:%S %Z", None, "2023-07-01 12:00:00 EST", Some(1_688_230_800 * S)),
        (
            "%Y-%m-%d %H:%M:%S,%3N",
            Some("UTC"),
            "2023-07-01 12:00:00,250",
            Some(1_688_212_800 * S + 250_000_000),
        ),
        ("%y-%m-%d", Some("UTC"), "68-01-01", Some(3_092_601_600 * S)),
        ("%y-%m-%d", Some("UTC"), "69-01-01", Some(-31_536_000 * S)),
        ("%Y-%m-%d", Some("UTC"), "2023-02-30", Some(1_677_715_200 * S)),
        ("%Y-%m-%d", Some("UTC"), "2023-13-01", None),
        ("%Y-%m-%d", Some("UTC"), "2023-1-1", Some(1_672_531_200 * S)),
        ("%H:%M", Some("UTC"), "25:00", None),
        ("%Y", Some("UTC"), "", None),
        ("%iso8601", None, "2023-07-01T12:00:00.25Z", Some(1_688_212_800 * S + 250_000_000)),
        ("%iso8601", None, "2023-07-01T12:00:00+02:00", Some(1_688_205_600 * S)),
        ("%iso8601", None, "2023-07-01 12:00:00Z", None),
        ("", None, "2023-07-01 12:00:00 +0900", Some(1_688_180_400 * S)),
        ("", None, "2023-07-01T12:00:00.5Z", Some(1_688_212_800 * S + 500_000_000)),
        ("", None, "Sat, 01 Jul 2023 12:00:00 GMT", Some(1_688_212_800 * S)),
        ("", None, "Sat Jul  1 12:00:00 UTC 2023", Some(1_688_212_800 * S)),
        ("", None, "2023/07/01 12:00:00Z", Some(1_688_212_800 * S)),
        ("", None, "July 1, 2023 12:00 UTC", Some(1_688_212_800 * S)),
        ("", None, "20230701T120000Z", Some(1_688_212_800 * S)),
        ("", None, "01/Jul/2023:12:00:00 +0000", None),
        ("", None, "nonsense", None),
        ("", None, "", None),
    ] {
        assert_eq!(time(format, zone, text), want, "{text:?} by {format:?} in {zone:?}");
    }
}

/// What Fluentd answered, with TZ=UTC.
#[test]
fn odd_texts_give_what_fluentd_gives() {
    for (format, zone, text, want) in [
        // the strptime gem: no space for a digit, no names of zones
        ("%e", None, " 4", None),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2001-12-19T01:27:31utc", None),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2001-04-03T20:26:49JST", None),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2023-07-01T12:00:00+9", Some(1_688_180_400)),
        ("%d/%b/%Y:%H:%M:%S %z]", None, "01/Jul/2023:12:00:00 Z]", None),
        // Time.strptime: any number of digits, names; what it does not know is local
        ("%Y-%m-%d %H:%M:%S %Z", None, "2023-07-01 12:00:00 X", Some(1_688_252_400)),
        ("%Y-%m-%d %H:%M:%S %Z", None, "2023-07-01 12:00:00 -8", Some(1_688_212_800)),
        ("%Y-%m-%d %H:%M:%S %Z", None, "2023-07-01 12:00:00 MS7", None),
        ("%FT%T%z", None, "2001-04-09T04:59:38BST0", None),
        ("%FT%T%z", None, "2023-07-01T12:00:00+25:00", None),
        ("%FT%T.%L%:z", Some("UTC"), "1999-02-02T06:08:07.3P", Some(917_935_687)),
        ("%Y-%jT%H:%M", None, "2023-0T1:48", None),
        ("%j]%m[", None, "400]03[", None),
        ("%d-%b-%y %H.%M.%S %p", None, "06-Apr-91 0.2.8 AM0", Some(670_896_128)),
        ("%s%L", None, "2023-13-01", Some(2022)),
        ("%s", Some("+09:00"), "1700000000", Some(1_699_967_600)),
        ("%iso8601", Some("+09:00"), "2023-07-01T12:00:00", Some(1_688_212_800)),
        ("%iso8601", None, "2023-07-01", None),
        ("%iso8601", None, "2023-07-01T24:00:00Z", Some(1_688_256_000)),
        ("%iso8601", None, "2023-07-01T24:00:01Z", None),
        // Time.parse finds what it can
        ("", None, "1", None),
        ("", None, "051", Some(i64::MIN)),
        ("", None, "'0", Some(946_684_800)),
        ("", None, "920206371.055", Some(i64::MIN)),
        ("", None, "20230701", Some(1_688_169_600)),
        ("", None, "2023-07-01 25:00:00", None),
        ("", None, "2023-07-01T12:00:00 PST8", Some(1_688_212_800)),
        ("", None, "2023-07-01 12:00:00 -0800", Some(1_688_241_600)),
        ("", None, "12/25/2023 10:00", None),
        ("", None, "25/12/2023 10:00", Some(1_703_498_400)),
        ("", None, "3rd Feb 2001 04:05:06 PM", Some(981_216_306)),
        ("", None, "Feb 3 01", Some(981_158_400)),
        ("", None, "H31.04.30", Some(1_556_582_400)),
        ("", None, "[20230701T120000.5+09:00]", Some(1_688_212_800)),
        ("", None, "Sat", None),
    ] {
        let got = time(format, zone, text);
        if want == Some(i64::MIN) {
            assert!(got.is_some(), "{text:?}: on the present day");
        } else {
            let seconds = got.map(|time| time.div_euclid(S));
            assert_eq!(seconds, want, "{text:?} by {format:?} in {zone:?}");
        }
    }
}

#[test]
fn numbers_are_read_as_ruby_reads_them() {
    let parser =
        |kind: &str| TimeParser::new(&TimeSpec { kind: kind.to_owned(), ..TimeSpec::default() }).unwrap();
    let mut cache = TimeCache::default();
    assert_eq!(parser("unixtime").parse(b"1700000000.9", &mut cache), Some(1_700_000_000 * S));
    assert_eq!(parser("unixtime").from_number(1_700_000_000.9), Some(1_700_000_000 * S));
    cache = TimeCache::default();
    let float = parser("float");
    assert_eq!(float.parse(b"1700000000.123456", &mut cache), Some(1_700_000_000 * S + 123_456_000));
    assert_eq!(float.parse(b"1700000000", &mut cache), Some(1_700_000_000 * S));
    assert_eq!(float.from_number(1_700_000_000.1), Some(1_700_000_000 * S + 100_000_000));
    assert_eq!(float.from_number(1_700_000_000.123_456), Some(1_700_000_000 * S + 123_456_000));
    assert_eq!(float.from_number(1_700_000_000.123_456_7), Some(1_700_000_000 * S + 123_456_700));
    assert_eq!(float.from_number(f64::NAN), None);
    assert_eq!(TimeParser::new(&spec("", None)).unwrap().from_integer(5), None);
    let mixed = TimeSpec {
        kind: "mixed".to_owned(),
        format: Some("%iso8601".to_owned()),
        fallbacks: vec!["unixtime".to_owned()],
        ..TimeSpec::default()
    };
    let mixed = TimeParser::new(&mixed).unwrap();
    cache = TimeCache::default();
    assert_eq!(mixed.parse(b"1688212800", &mut cache), Some(1_688_212_800 * S));
    assert_eq!(mixed.parse(b"2023-07-01T12:00:00Z", &mut cache), Some(1_688_212_800 * S));
    assert_eq!(mixed.parse(b"neither", &mut cache), None);
}

#[test]
fn what_is_wrong_is_named() {
    let why = |spec: &TimeSpec| TimeParser::new(spec).err().unwrap_or_default();
    assert!(why(&spec("%Y-%i", None)).contains("\"%i\""));
    assert!(why(&spec("%Y %", None)).contains("ends inside"));
    assert!(why(&spec("%Y", Some("Mars/Olympus"))).contains("Mars/Olympus"));
    assert!(why(&spec("%Y", Some("PST"))).contains("PST"));
    assert!(why(&spec("", Some("+09:00"))).contains("time_format"));
}

#[test]
fn a_year_that_is_missing_is_the_present_one() {
    let parser = TimeParser::new(&spec("%b %d %H:%M:%S", Some("UTC"))).unwrap();
    let mut cache = TimeCache::default();
    let time = parser.parse(b"Mar  5 01:02:03", &mut cache).unwrap();
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let want = jiff::civil::date(now.year(), 3, 5).at(1, 2, 3, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(time, want.timestamp().as_second() * S);
    assert_eq!(parser.parse(b"Mar  5 01:02:03", &mut cache), Some(time));
}

#[test]
fn local_times_agree_with_the_tz_database_around_transitions() {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let parser = TimeParser::new(&spec("%Y-%m-%d %H:%M:%S", Some("America/New_York"))).unwrap();
    let mut cache = TimeCache::default();
    for day in ["2023-03-12", "2023-11-05"] {
        for minute in 0..24 * 60 {
            let text = format!("{day} {:02}:{:02}:07", minute / 60, minute % 60);
            let civil: jiff::civil::DateTime = text.replace(' ', "T").parse().unwrap();
            let want = zone.to_ambiguous_timestamp(civil).compatible().unwrap().as_second() * S;
            assert_eq!(parser.parse(text.as_bytes(), &mut cache), Some(want), "{text}");
        }
    }
}

#[test]
fn strftime_writes_what_ruby_writes() {
    let at = 1_688_212_805 * S + 12_345_678;
    for (format, zone, want) in [
        (None, Some("UTC"), "2023-07-01T12:00:05Z"),
        (None, Some("+09:00"), "2023-07-01T21:00:05+09:00"),
        (Some("%Y-%m-%d %H:%M:%S.%N %z"), Some("UTC"), "2023-07-01 12:00:05.012345678 +0000"),
        (Some("%S.%L %3N %6N %12N"), Some("UTC"), "05.012 012 012345 012345678000"),
        (Some("%e|%-d|%j|%-j|%_m|%y|%C"), Some("UTC"), " 1|1|182|182| 7|23|20"),
        (Some("%I:%M %p %P %l %k"), Some("UTC"), "12:00 PM pm 12 12"),
        (Some("%a %A %b %B %^a %h"), Some("UTC"), "Sat Saturday Jul July SAT Jul"),
        (Some("%F %T %D %R %%"), Some("UTC"), "2023-07-01 12:00:05 07/01/23 12:00 %"),
        (Some("%z %:z %::z %Z"), Some("America/New_York"), "-0400 -04:00 -04:00:00 EDT"),
        (Some("%s %u %w %U %W %V %G"), Some("UTC"), "1688212805 6 6 26 26 26 2023"),
        (Some("%i %"), Some("UTC"), "%i %"),
        (Some("%10Y|%-H|%010d"), Some("UTC"), "0000002023|12|0000000001"),
    ] {
        let mut formatter = TimeFormatter::new(format, zone).unwrap();
        let mut out = Vec::new();
        formatter.write(&mut out, at);
        assert_eq!(String::from_utf8(out).unwrap(), want, "{format:?}");
    }
    let mut formatter = TimeFormatter::new(Some("%s.%3N"), None).unwrap();
    let mut out = Vec::new();
    for time in [S, S + 1_000_000, 2 * S, S] {
        formatter.write(&mut out, time);
        out.push(b' ');
    }
    assert_eq!(out, b"1.000 1.001 2.000 1.000 ");
}

#[test]
fn a_text_as_long_as_the_mark_of_an_empty_slot_is_no_cached_text() {
    let parser = TimeParser::new(&TimeSpec { kind: "string".into(), ..TimeSpec::default() }).unwrap();
    assert_eq!(parser.parse(&[b'1'; 255], &mut TimeCache::default()), None);
}

use super::*;
use crate::pcre::{Regexp, Script};

fn search(literal: &str, text: &[u8]) -> Option<Vec<(String, String)>> {
    let (source, flags) = split_literal(literal).unwrap();
    let translated = translate(source, flags).unwrap_or_else(|why| panic!("{literal}: {why}"));
    let regexp = Regexp::new(&translated.bytes, translated.utf.clone(), flags.ignorecase, flags.multiline)
        .unwrap_or_else(|why| panic!("{literal} -> {}: {why:?}", String::from_utf8_lossy(&translated.bytes)));
    let mut matcher = regexp.matcher();
    if !matcher.search(&regexp, text, Script::of(text)).unwrap() {
        return None;
    }
    let mut found = vec![(
        String::new(),
        String::from_utf8_lossy(matcher.capture(text, 0).unwrap_or_default()).into_owned(),
    )];
    for (name, groups) in &translated.names {
        if let Some(value) = groups.iter().rev().find_map(|group| matcher.capture(text, *group)) {
            found.push((name.clone(), String::from_utf8_lossy(value).into_owned()));
        }
    }
    Some(found)
}

/// The whole match, by Ruby's rules.
#[test]
fn matches_are_rubys() {
    for (literal, text, want) in [
        ("/b$/", "ab\ncd", Some("b")),
        ("/^c/", "ab\ncd", Some("c")),
        ("/a.b/", "a\nb", None),
        ("/a.b/m", "a\nb", Some("a\nb")),
        ("/HELLO/i", "hello", Some("hello")),
        ("a/b", "xa/by", Some("a/b")),
        ("/\\/x/", "a/x", Some("/x")),
        ("/\\h+/", "xyzBEEF!", Some("BEEF")),
        ("/\\H+/", "beefxyz", Some("xyz")),
        ("/a\\vb/", "a\x0bb", Some("a\x0bb")),
        ("/\\Aa\\z/", "a\n", None),
        ("/\\Aa\\Z/", "a\n", Some("a")),
        ("/(?x)a b # c\n d/", "abd", Some("abd")),
        ("/(?x)a\\ b/", "a b", Some("a b")),
        ("/a b/x", "xa b", Some("a b")),
        ("/[[:alpha:]]+/", "1äb2", Some("äb")),
        ("/\\w+/", "äb", Some("b")),
        ("/\\bb/", "äb b", Some("b")),
        ("/\\bb/", "äb", None),
        ("/\\d+/", "٣4", Some("4")),
        ("/[a-c[x-z]]+/", "mayzb", Some("ayzb")),
        ("/[a-z&&[^aeiou]]+/", "aeixyz", Some("xyz")),
        ("/[^a-z&&[^x]]+/", "abx1", Some("x1")),
        ("/[\\w&&[^\\d]]+/", "12ab3", Some("ab")),
        ("/[[[:alnum:]]_%!$@:.,+~-]+/", "#a_1%-", Some("a_1%-")),
        ("/[^\\s\\]]+/", "] ab]", Some("ab")),
        ("/[\\D]+/", "12ab", Some("ab")),
        ("/[x\\W]+/", "ab!x?", Some("!x?")),
        ("/[+-=]+/", "a1+2", Some("1+2")),
        ("/[\\w-]+/", "!a-b", Some("a-b")),
        ("/[]a]+/", "x]a", Some("]a")),
        ("/\\p{Alpha}+/", "1äb", Some("äb")),
        ("/\\p{^Alpha}+/", "a12", Some("12")),
        ("/\\P{Digit}+/", "12ab", Some("ab")),
        ("/\\p{Han}+/", "ab漢字", Some("漢字")),
        ("/\\u00e9|\\u{1F600}/", "x😀", Some("😀")),
        ("/\\xE3\\x81\\x82/", "xあ", Some("あ")),
        ("/é+/", "xéé", Some("éé")),
        ("/a{2}+/", "aaaaa", Some("aaaa")),
        ("/a{2}?b/", "b", Some("b")),
        ("/a{,2}/", "aaa", Some("aa")),
        ("/a{1,3}?/", "aaa", Some("a")),
        ("/a++a/", "aaa", None),
        ("/(?>a+)b/", "aab", Some("aab")),
        ("/x{/", "x{", Some("x{")),
        ("/{a}/", "{a}", Some("{a}")),
        ("/a(?i)b|c/", "aC", Some("aC")),
        ("/(?i:a)b/", "Ab", Some("Ab")),
        ("/(?m:a.)b/", "a\nb", Some("a\nb")),
        ("/(?x: a b )c d/", "abc d", Some("abc d")),
        ("/(a)\\1/", "aa", Some("aa")),
        ("/(?<q>['\"])x\\k<q>/", "'x\" 'x'", Some("'x'")),
        ("/\\A(?<p>\\((?:[^()]|\\g<p>)*\\))\\z/", "(a(b)c)", Some("(a(b)c)")),
        ("/(?<=a)b(?!c)/", "bcab", Some("b")),
        ("/a(?#comment)b/", "ab", Some("ab")),
        ("/\\R/", "a\r\nb", Some("\r\n")),
        ("/a**b/", "aab", Some("aab")),
        ("/\\-\\!\\#/", "-!#", Some("-!#")),
        ("/#{x}/", "#{x}", Some("#{x}")),
        ("/\\e\\[1m/", "\x1b[1m", Some("\x1b[1m")),
        ("/\\101/", "A", Some("A")),
    ] {
        let got = search(literal, text.as_bytes()).map(|found| found[0].1.clone());
        assert_eq!(got.as_deref(), want, "{literal} on {text:?}");
    }
}

#[test]
fn named_groups_are_rubys() {
    let pairs = |literal: &str, text: &str| {
        search(literal, text.as_bytes()).map(|found| {
            found[1..].iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        })
    };
    for (literal, text, want) in [
        ("/(?<a>x)(y)(?<b>z)/", "xyz", Some("a=x b=z")),
        ("/^(?:a=(?<v>\\d+)|b=(?<v>\\w+))$/", "b=xy", Some("v=xy")),
        ("/(?<w>\\w+) (?<w>\\w+)/", "one two", Some("w=two")),
        ("/(?<w>\\w+)(?: (?<w>\\d+))?/", "one two", Some("w=one")),
        ("/(?<@timestamp>a)(?<client.ip>b)(?<x-y>c)/", "abc", Some("@timestamp=a client.ip=b x-y=c")),
        ("/(?'q'a)/", "a", Some("q=a")),
        ("/(?<a>x)?(?<b>y)/", "y", Some("b=y")),
        ("/(?<a>x)?(?(<a>)y|z)/", "z", Some("")),
        ("/(?<é>x)/", "x", Some("é=x")),
        ("/[(?<no>](?<yes>a)/", "(a", Some("yes=a")),
        ("/(?#(?<no>)(?<yes>a)/", "a", Some("yes=a")),
    ] {
        assert_eq!(pairs(literal, text).as_deref(), want, "{literal} on {text:?}");
    }
}

#[test]
fn invalid_utf8_runs_over_bytes() {
    assert_eq!(search("/a(?<b>.)c/", b"a\xffc").unwrap()[1].1, "\u{fffd}");
    assert_eq!(search("/\\xff(?<b>.)/", b"a\xffc").unwrap()[1].1, "c");
    assert!(search("/\\xff(?<b>.)/", "é".as_bytes()).is_none());
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    for (source, position, word) in [
        ("a(b", 1, "closed"),
        ("ab)", 2, "closes no group"),
        ("[a", 0, "closed"),
        ("a[]", 1, "empty"),
        ("*a", 0, "repeat"),
        ("(?~x)", 0, "absent"),
        ("(?<a>x)\\1", 7, "named"),
        ("\\k<zz>", 0, "zz"),
        ("[z-a]", 1, "range"),
        ("a\\", 1, "backslash"),
        ("\\p{No/Such}", 0, "property"),
        ("(?y)", 0, "(?y"),
        ("\\u12", 0, "code point"),
        ("a{70000}", 1, "70000"),
        ("(?<", 0, "name"),
        ("(?<>a)", 0, "name"),
    ] {
        let error = translate(source, Flags::default()).err().unwrap_or_else(|| panic!("{source} passed"));
        assert_eq!(error.position, position, "{source}: {error}");
        assert!(error.message.contains(word), "{source}: {error}");
    }
    assert!(split_literal("/abc").is_err());
    assert!(split_literal("/abc/def").is_err());
    let flags = |literal: &str| {
        split_literal(literal)
            .map(|(source, flags)| (source.len(), flags.ignorecase, flags.multiline, flags.extended))
            .ok()
    };
    assert_eq!(flags("/a b/x"), Some((3, false, false, false)), "Fluentd knows no x behind the slash");
    assert_eq!(flags("/abc/mi"), Some((3, true, true, false)));
    assert_eq!(flags("/abc/mix"), Some((3, true, true, false)));
    assert_eq!(flags("/api/v1"), Some((3, false, false, false)));
}

/// Any source ends in a translation or an error, never in a panic (a small fuzzer without a seed file).
#[test]
fn any_source_is_translated_or_refused() {
    let pieces = [
        "(", ")", "[", "]", "\\", "?", "<", ">", "a", "^", "-", "&&", "{", "1", ",", "}", "(?<n>", "é", "#",
        "\\p{", "\\x", ":", "|", "\\k<", "(?", "*",
    ];
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut source = String::new();
        for _ in 0..(state >> 60) + 1 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            source.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        for extended in [false, true] {
            if let Ok(translated) = translate(&source, Flags { extended, ..Flags::default() }) {
                // PCRE2 may still refuse it, but says so
                let _ = Regexp::new(&translated.bytes, translated.utf, false, false);
            }
        }
    }
}

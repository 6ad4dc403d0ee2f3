use super::*;
use crate::extract;
use crate::pcre::{Regexp, Script};
use crate::ruby_regexp::{Flags, translate};

pub(crate) const APACHE: &str = r#"^(?<clientip>\S+) (?<identd>\S+) (?<auth>\S+) \[(?<timestamp>[^\]]+)\] "(?<verb>\S+) (?<request>\S+) HTTP\/(?<httpversion>[^"]+)" (?<response>\d+) (?<bytes>\S+) "(?<referrer>[^"]*)" "(?<agent>[^"]*)"$"#;
const LINE: &str = r#"203.0.113.7 - alice [23/Nov/2026:18:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 2326 "-" "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)""#;

/// Where the groups of a match stand.
type Spans = Vec<Option<(usize, usize)>>;

fn spans(groups: &[usize]) -> Spans {
    groups.chunks(2).map(|pair| (pair[0] != UNSET).then_some((pair[0], pair[1]))).collect()
}

/// What the path says: None: unknown.
fn by_path(path: &Path, text: &[u8]) -> Option<Option<Spans>> {
    let mut groups = vec![0; 2 * (path.captures() + 1)];
    match path.walk(text, &mut groups) {
        Walk::Match => Some(Some(spans(&groups))),
        Walk::No => Some(None),
        Walk::Unknown => None,
    }
}

/// What PCRE2 alone says.
fn by_program(source: &str, flags: Flags, text: &[u8]) -> Option<Spans> {
    let translated = translate(source, flags).unwrap();
    let regexp = Regexp::new(&translated.bytes, translated.utf, flags.ignorecase, flags.multiline).unwrap();
    let mut matcher = regexp.matcher();
    let groups = compile(source, flags).map_or(0, |path| path.captures());
    let found = matcher.search(&regexp, text, Script::of(text)).unwrap();
    found.then(|| (0..=groups).map(|group| matcher.span(group)).collect())
}

#[test]
fn a_line_of_a_log_needs_no_engine() {
    let path = compile(APACHE, Flags::default()).unwrap();
    let found = by_path(&path, LINE.as_bytes()).unwrap().unwrap();
    assert_eq!(Some(found), by_program(APACHE, Flags::default(), LINE.as_bytes()).map(Some).unwrap());
    // every field but the last is followed by what it cannot hold: a mismatch is certain
    assert_eq!(by_path(&path, b"203.0.113.7 - alice 23/Nov"), Some(None));
    assert_eq!(by_path(&path, b""), Some(None));
    // ... where no other line could match
    assert_eq!(by_path(&path, format!("x\n{LINE}").as_bytes()), None);
}

#[test]
fn patterns_that_have_a_path_and_those_that_have_none() {
    for source in [
        r"^(?<a>[^ ]*) (?<b>\d{3})$",
        r"(?<a>.*?): (?<b>.*)",
        r"\A\[(?<level>INFO|WARN|ERROR)\]\z",
        r#"^(?<a>\S+)(?: "(?<b>[^"]*)")?(?<c>.*)$"#,
        r"^(?<a>(?<b>x+)y)$",
        r"é(?<a>.)",
        r"(a)(b)?",
        r"[\w.-]+@[a-z]+",
        "",
    ] {
        assert!(compile(source, Flags::default()).is_some(), "{source}");
    }
    for source in [
        r"a|b",
        "(?<a>x)+",
        "(?i)a",
        r"\bword",
        "(?=a)",
        "(?<=a)b",
        "a++",
        "a*+",
        "(?<a>.*?)",
        "(?<a>.*?)[ab]",
        "é+",
        "[é]",
        "[[:alpha:]]",
        "[a&&b]",
        r"\p{Alpha}",
        r"(?<a>a)\k<a>",
        "a{,}",
        "a{+0,}",
        "a{1,2}?",
        "(?>a)",
        "a^",
        "[]a]",
        r"\R",
        "a{1}{2}",
        "(a",
        "a)",
        "[a",
        "(?#x)a",
        "a?{2}",
        r"(?<a>[a-\d])",
    ] {
        assert!(compile(source, Flags::default()).is_none(), "{source}");
    }
    assert!(compile("a", Flags { ignorecase: true, ..Flags::default() }).is_none());
}

#[test]
fn a_path_that_failed_is_left_to_the_engine() {
    for (source, text, found) in [
        (r"^(?<a>.*) (?<b>\d+)$", "x 1 y 2", true),
        (r"^(?<a>.*)b", "abab x", true),
        (r"^(?<a>\w+)\d$", "abc1", true),
        (r"^(?<a>[^,]*?), (?<b>\d+)", "a, b", false),
        (r"^(?:(?<a>x+)y|(?<b>x+))z", "xxz", true),
        (r"^(?<a>x)?(?<b>x)$", "x", true),
        (r"(?<a>\d+)$", "ab12", true),
        (r"^(?<a>[^\n]+)$", "a\r", true),
        (r"^(?<a>b+)$", "a\nbb", true),
    ] {
        let (regexp, _) = extract::compile(source, Flags::default()).unwrap();
        let mut matcher = regexp.matcher();
        assert_eq!(
            matcher.search(&regexp, text.as_bytes(), Script::of(text.as_bytes())),
            Ok(found),
            "{source}"
        );
        if found {
            let expected = by_program(source, Flags::default(), text.as_bytes()).unwrap();
            let spans: Vec<_> = (0..expected.len()).map(|group| matcher.span(group)).collect();
            assert_eq!(spans, expected, "{source}");
        }
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<'a>(&mut self, parts: &[&'a str]) -> &'a str {
        parts[self.below(parts.len())]
    }
}

/// A pattern of parts, in groups up to a depth.
fn pattern(random: &mut Random, depth: usize) -> String {
    const ATOMS: &[&str] = &[
        "a", "b", " ", "-", r"\S", r"\d", r"\w", "[^ ]", "[^a-]", "[ab]", ".", r"\s", r"\n", "é", r"[^\]]",
        r"\W",
    ];
    const QUANTIFIERS: &[&str] = &["", "", "", "+", "*", "?", "+?", "*?", "{2}", "{1,2}", "{1,}"];
    let mut source = String::new();
    for _ in 0..=random.below(4) {
        match random.below(if depth < 3 { 8 } else { 5 }) {
            5 => source += &format!("({})", pattern(random, depth + 1)),
            6 => source += &format!("(?:{}|{})", pattern(random, depth + 1), pattern(random, depth + 1)),
            7 => source += &format!("({}|{})?", pattern(random, depth + 1), pattern(random, depth + 1)),
            _ => {
                source += random.of(ATOMS);
                source += random.of(QUANTIFIERS);
            }
        }
    }
    source
}

#[test]
fn what_it_says_is_what_the_engine_says() {
    let mut random = Random(1);
    let (mut matches, mut none, mut unknown) = (0, 0, 0);
    for _ in 0..60_000 {
        let start = random.of(&["", "^", r"\A"]);
        let end = random.of(&["", "$", r"\z", "$"]);
        let source = format!("{start}{}{end}", pattern(&mut random, 0));
        let flags = Flags { multiline: random.below(4) == 0, ..Flags::default() };
        let Some(path) = compile(&source, flags) else { continue };
        let program = translate(&source, flags).unwrap();
        let program = Regexp::new(&program.bytes, program.utf, false, flags.multiline).unwrap();
        let mut matcher = program.matcher();
        for _ in 0..8 {
            let text: String = (0..random.below(24))
                .map(|_| random.of(&["a", "b", " ", "-", "1", "]", "\n", "é", "a", "\u{a0}"]))
                .collect();
            let script = Script::of(text.as_bytes());
            if script == Script::Utf8 && path.counts_bytes() {
                continue;
            }
            let Ok(found) = matcher.search(&program, text.as_bytes(), script) else { continue };
            let expected = found.then(|| (0..=path.captures()).map(|group| matcher.span(group)).collect());
            match by_path(&path, text.as_bytes()) {
                None => unknown += 1,
                Some(found) => {
                    assert_eq!(found, expected, "/{source}/ multiline={} on {text:?}", flags.multiline);
                    if found.is_some() { matches += 1 } else { none += 1 }
                }
            }
        }
    }
    assert!(matches > 5_000 && none > 5_000 && unknown > 1_000, "{matches} {none} {unknown}");
}

fn check_ends<B: Blocks>(set: [bool; 256]) {
    let class = Class::of(&set);
    for len in 0..70 {
        for stop in [b'"', b' ', b'\t', b'\r', b'a', b'0', 0x80, 0xff, 0] {
            for at in 0..len {
                for fill in [b'x', b'5'] {
                    let mut text = vec![fill; len];
                    text[at] = stop;
                    for pos in [0, at / 2, at, len] {
                        let expected = (pos..len).find(|&at| !set[usize::from(text[at])]).unwrap_or(len);
                        assert_eq!(class.end::<B>(&text, pos), expected, "{class:?} {text:?} from {pos}");
                    }
                }
            }
        }
    }
}

#[test]
fn runs_end_where_they_should_at_any_place_of_a_block() {
    let sets: [fn(u8) -> bool; 7] = [
        |byte| byte != b'"',
        |byte| byte != b'"' && byte != b' ',
        |byte| !matches!(byte, b'\t'..=b'\r' | b' '),
        |byte| byte.is_ascii_digit(),
        |byte| byte.is_ascii_alphanumeric(),
        |_| true,
        |byte| byte >= 0x80,
    ];
    for has in sets {
        let set = std::array::from_fn(|byte| has(byte as u8));
        check_ends::<Bytes>(set);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            check_ends::<scan::Avx2>(set);
        }
    }
}

/// Lines of a log, each different.
pub(crate) fn lines() -> Vec<String> {
    let mut random = Random(7);
    (0..4096)
        .map(|number| {
            let path = "/a/b-c_d.html?x=1&y=2".repeat(1 + random.below(3));
            let agent = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 ".repeat(1 + random.below(4));
            let verb = random.of(&["GET", "POST", "HEAD", "PUT"]);
            let end = &path[..random.below(path.len())];
            let referrer = &path[..1 + random.below(path.len() - 1)];
            let agent = &agent[..random.below(agent.len())];
            let [high, low] = [random.below(256), random.below(256)];
            let bits = 1 + random.below(24);
            let size = random.below(1 << bits);
            format!(
                r#"10.0.{high}.{low} - user{number} [23/Nov/2026:18:00:00 +0000] "{verb} /{end} HTTP/1.1" 200 {size} "{referrer}" "{agent}""#
            )
        })
        .collect()
}

#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    let (with, _) = extract::compile(APACHE, Flags::default()).unwrap();
    let translated = translate(APACHE, Flags::default()).unwrap();
    let without = Regexp::new(&translated.bytes, translated.utf, false, false).unwrap();
    let lines = lines();
    for (name, regexp) in [("path", &with), ("program", &without), ("path", &with), ("program", &without)] {
        let mut matcher = regexp.matcher();
        let nanos = (0..40).map(|_| {
            let started = std::time::Instant::now();
            for line in std::hint::black_box(&lines) {
                assert!(matcher.search(regexp, line.as_bytes(), Script::Ascii).unwrap());
            }
            started.elapsed().as_nanos() / lines.len() as u128
        });
        println!("{name}: {} ns", nanos.min().unwrap_or(0));
    }
}

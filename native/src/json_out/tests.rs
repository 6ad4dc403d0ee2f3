use super::*;
use crate::msgpack;

fn json(text: &[u8]) -> String {
    let mut out = b"x".to_vec();
    write_string(&mut out, text);
    String::from_utf8(out).unwrap()[1..].to_string()
}

#[test]
fn strings_are_escaped_as_fluentd_does() {
    for (text, expected) in [
        ("", r#""""#),
        ("plain", r#""plain""#),
        ("a\"b,c\td\\e/f", r#""a\"b,c\td\\e/f""#),
        ("a\nb\r\x08\x0c", r#""a\nb\r\b\f""#),
        ("\u{1}\u{1f}\u{0}", r#""\u0001\u001f\u0000""#),
        ("<&>'/\u{7f}", "\"<&>'/\u{7f}\""),
        ("\u{2028}é✓😀", "\"\u{2028}é✓😀\""),
    ] {
        assert_eq!(json(text.as_bytes()), expected);
    }
}

#[test]
fn every_byte_at_every_place_of_a_block() {
    for len in 1..40 {
        for place in 0..len {
            for byte in 0..=255u8 {
                let mut text = vec![b'a'; len];
                text[place] = byte;
                let out = json(&text);
                let middle = match byte {
                    0x80.. => "\u{fffd}".to_string(),
                    b'"' => "\\\"".to_string(),
                    b'\\' => "\\\\".to_string(),
                    8 => "\\b".to_string(),
                    9 => "\\t".to_string(),
                    10 => "\\n".to_string(),
                    12 => "\\f".to_string(),
                    13 => "\\r".to_string(),
                    0..0x20 => format!("\\u{byte:04x}"),
                    _ => (byte as char).to_string(),
                };
                let expected = format!("\"{}{}{}\"", "a".repeat(place), middle, "a".repeat(len - place - 1));
                assert_eq!(out, expected, "{byte:#x} at {place} of {len}");
            }
        }
    }
}

#[test]
fn invalid_utf8_behind_valid_text_is_replaced() {
    for (text, expected) in [
        (&b"\xc3\xa9\xff"[..], "\"é\u{fffd}\""),
        (b"caf\xe9 \"x\"\n and more than one block", "\"caf\u{fffd} \\\"x\\\"\\n and more than one block\""),
        (b"\xf0\x9f\x98", "\"\u{fffd}\""),
        (b"\xed\xa0\x80", "\"\u{fffd}\u{fffd}\u{fffd}\""),
        ("ééééééééééééé\n\u{1}é".as_bytes(), "\"ééééééééééééé\\n\\u0001é\""),
    ] {
        assert_eq!(json(text), expected);
    }
}

#[test]
fn the_portable_scan_agrees() {
    for place in 0..scan::portable::WIDTH {
        for other in [b'a', 0x01, 0xff, b'"', 0x21, 0x5d] {
            for byte in 0..=255u8 {
                let mut block = [b'a'; scan::portable::WIDTH];
                block[place] = byte;
                for later in &mut block[place + 1..] {
                    *later = other;
                }
                let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
                let ascii = block.iter().position(|b| special(b) || *b >= 0x80);
                let text = block.iter().position(special);
                let mut copied = [0; scan::portable::WIDTH];
                // SAFETY: both arrays have WIDTH bytes.
                let found = unsafe {
                    (
                        scan::portable::copy_ascii(block.as_ptr(), copied.as_mut_ptr()),
                        scan::portable::copy_text(block.as_ptr(), copied.as_mut_ptr()),
                    )
                };
                assert_eq!(found, (ascii.unwrap_or(8), text.unwrap_or(8)));
                assert_eq!(copied, block);
            }
        }
    }
}

#[test]
fn all_types_and_odd_keys() {
    let mut body = Vec::new();
    msgpack::write_str(&mut body, b"s");
    msgpack::write_str(&mut body, "é".as_bytes());
    msgpack::write_nil(&mut body);
    msgpack::write_nil(&mut body);
    msgpack::write_int(&mut body, -1);
    msgpack::write_bool(&mut body, true);
    msgpack::write_float(&mut body, 1.5);
    msgpack::write_uint(&mut body, u64::MAX);
    msgpack::write_bin(&mut body, b"\xff");
    msgpack::write_event_time(&mut body, 1_700_000_000_250_000_000);
    msgpack::write_array_header(&mut body, 1);
    msgpack::write_str(&mut body, b"k");
    msgpack::write_map_header(&mut body, 0);
    msgpack::write_str(&mut body, b"l");
    msgpack::write_array_header(&mut body, 3);
    msgpack::write_float(&mut body, f64::NAN);
    msgpack::write_array_header(&mut body, 0);
    msgpack::write_map_header(&mut body, 1);
    msgpack::write_str(&mut body, b"x");
    msgpack::write_bool(&mut body, false);
    let expected = "{\"s\":\"é\",\"\":null,\"-1\":true,\"1.5\":18446744073709551615,\
                    \"\u{fffd}\":1700000000,\"[\\\"k\\\"]\":{},\"l\":[null,[],{\"x\":false}]}";
    let mut out = Vec::new();
    write_record(&mut out, &body, 7).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    write_pairs(&mut out, &body, 7).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), expected[1..expected.len() - 1]);
    for cut in 0..body.len() {
        let mut out = b"before".to_vec();
        assert_eq!(write_record(&mut out, &body[..cut], 7), Err(Malformed::Truncated));
        assert_eq!(out, b"before");
    }
}

#[test]
fn nesting_is_limited() {
    let mut body = vec![0xa1, b'k'];
    body.extend(std::iter::repeat_n(0x91, 100_000));
    let mut out = Vec::new();
    assert_eq!(write_record(&mut out, &body, 1), Err(Malformed::TooDeep));
    assert!(out.is_empty());
    let levels = MAX_DEPTH as usize - 1;
    let mut body = vec![0xa1, b'k'];
    body.extend(std::iter::repeat_n(0x91, levels));
    body.push(0xc0);
    write_record(&mut out, &body, 1).unwrap();
    assert_eq!(out.len(), r#"{"k":null}"#.len() + 2 * levels);
}

#[test]
fn floats_as_oj_and_as_ruby() {
    for (value, oj, ruby) in [
        (0.0, "0.0", "0.0"),
        (-0.0, "0.0", "-0.0"),
        (1.5, "1.5", "1.5"),
        (100.0, "100.0", "100.0"),
        (1e14, "100000000000000.0", "100000000000000.0"),
        (1e15, "1000000000000000.0", "1.0e+15"),
        (1e16, "10000000000000000.0", "1.0e+16"),
        (-1e18, "-1000000000000000000.0", "-1.0e+18"),
        (1e20, "1.0e+20", "1.0e+20"),
        (1e-5, "1.0e-05", "1.0e-05"),
        (f64::INFINITY, "null", "null"),
    ] {
        for (floats, expected) in [(Floats::Oj, oj), (Floats::Ruby, ruby)] {
            let mut out = Vec::new();
            write_float(&mut out, value, floats);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    let mut bodies = Vec::new();
    for number in 0..2048_usize {
        let mut body = Vec::new();
        let agent =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 ".repeat(2);
        for (key, value) in [
            ("host", "web-12.example".to_string()),
            ("ident", "nginx".to_string()),
            ("pid", number.to_string()),
            ("time", "Nov 23 18:00:00".to_string()),
            ("facility", "local0".to_string()),
            ("severity", "info".to_string()),
            ("clientip", format!("203.0.{}.{}", number % 256, number % 77)),
            ("identd", "-".to_string()),
            ("auth", format!("user{}", number % 1000)),
            ("timestamp", "23/Nov/2026:18:00:00 +0000".to_string()),
            ("verb", "GET".to_string()),
            ("request", format!("/{}?n={number}", "path/".repeat(number * 7 % 11))),
            ("httpversion", "1.1".to_string()),
            ("response", "200".to_string()),
            ("bytes", (number * 31 % 100_000).to_string()),
            ("referrer", format!("http://{}/", "example.org/".repeat(number * 13 % 6))),
            ("agent", agent[..20 + number * 17 % 120].to_string()),
        ] {
            msgpack::write_str(&mut body, key.as_bytes());
            msgpack::write_str(&mut body, value.as_bytes());
        }
        bodies.push(body);
    }
    let data = bodies.concat();
    for _ in 0..3 {
        let nanos = (0..60).map(|_| {
            let mut out = Vec::with_capacity(2 << 20);
            let started = std::time::Instant::now();
            let mut pos = 0;
            let mut sink = Sink::new(&mut out, Floats::Oj);
            while pos < data.len() {
                pos = sink.pairs(&data, pos, 17, 1).unwrap();
            }
            sink.commit();
            started.elapsed().as_nanos() / bodies.len() as u128
        });
        println!("{} ns", nanos.min().unwrap_or(0));
    }
}

use super::*;
use crate::msgpack::skip_value;
use crate::msgpack::write_str_header;

fn bytes(text: &str) -> Result<Vec<u8>, Mismatch> {
    let mut out = Vec::new();
    transcode(text.as_bytes(), &mut out).map(|()| out)
}

#[test]
fn values_are_written_in_their_shortest_form() {
    for (text, expected) in [
        ("null", &b"\xc0"[..]),
        ("true", b"\xc3"),
        (" false ", b"\xc2"),
        ("0", b"\x00"),
        ("-0", b"\x00"),
        ("-1", b"\xff"),
        ("300", b"\xcd\x01\x2c"),
        ("1.5", b"\xcb\x3f\xf8\0\0\0\0\0\0"),
        ("-0.0", b"\xcb\x80\0\0\0\0\0\0\0"),
        ("1e2", b"\xcb\x40\x59\0\0\0\0\0\0"),
        ("1e-400", b"\xcb\0\0\0\0\0\0\0\0"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xb418446744073709551616"),
        ("-9223372036854775808", b"\xd3\x80\0\0\0\0\0\0\0"),
        ("-9223372036854775809", b"\xb4-9223372036854775809"),
        ("1e400", b"\xa51e400"),
        ("\"\"", b"\xa0"),
        (r#""a\"\\\/\b\f\n\r\t""#, b"\xa9a\"\\/\x08\x0c\n\r\t"),
        (r#""\u00e9\ud83d\ude00""#, b"\xa6\xc3\xa9\xf0\x9f\x98\x80"),
        ("[]", b"\x90"),
        ("[1,[2],{}]", b"\x93\x01\x91\x02\x80"),
        ("{\"a\":{\"b\":[]}}", b"\x81\xa1a\x81\xa1b\x90"),
        ("[NaN,-Infinity]", b"\x92\xcb\x7f\xf8\0\0\0\0\0\0\xcb\xff\xf0\0\0\0\0\0\0"),
        (r#""\x\é\\\"""#, b"\xa5x\xc3\xa9\\\""),
        ("/* x */ [1, // y\n 2]", b"\x92\x01\x02"),
        ("\"a\tb\"", b"\xa3a\tb"),
    ] {
        assert_eq!(bytes(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "[1,]",
        "[,]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:2}",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-01",
        "0x1",
        "Nan",
        "Inf",
        "-Inf",
        "-NaN",
        "nul",
        "truex",
        "\"",
        "\"\\\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "1 2",
        "{}{}",
        "/",
        "/*",
        "1 /* ",
        "'a'",
        "\u{feff}",
    ] {
        assert_eq!(bytes(text), Err(Mismatch::NoMatch), "{text}");
    }
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800x""#] {
        assert_eq!(bytes(text), Err(Mismatch::NoMatch), "{text}");
    }
    assert_eq!(&bytes(r#""\ud83d\u0041""#).unwrap()[1..], "\u{1f441}".as_bytes());
}

#[test]
fn strings_that_are_no_utf8_are_bin() {
    let mut out = Vec::new();
    transcode(b"{\"k\xff\":[\"a\xff\",\"ok\",\"\\n\xff\"]}", &mut out).unwrap();
    assert_eq!(out, b"\x81\xa2k\xff\x93\xc4\x02a\xff\xa2ok\xc4\x02\n\xff");
}

#[test]
fn the_last_of_two_values_counts_at_the_place_of_the_first() {
    assert_eq!(bytes(r#"{"a":1,"b":2,"a":3}"#).unwrap(), b"\x82\xa1a\x03\xa1b\x02");
    assert_eq!(bytes(r#"{"x":{"a":1,"\u0061":[2]},"a":0}"#).unwrap(), b"\x82\xa1x\x81\xa1a\x91\x02\xa1a\x00");
    let many: Vec<String> = (0..1000).map(|n| format!("\"key number {}\":{n}", n % 700)).collect();
    let out = bytes(&format!("{{{}}}", many.join(","))).unwrap();
    assert_eq!(out[..3], [0xde, 700u16.to_be_bytes()[0], 700u16.to_be_bytes()[1]]);
    let mut pos = 0;
    skip_value(&out, &mut pos).unwrap();
    assert_eq!(pos, out.len());
    assert!(out.windows(15).any(|part| part == b"key number 1\xcd\x02\xbd"));
}

#[test]
fn nesting_is_limited_and_long_containers_grow() {
    for depth in [1, 8, 9, 100, 256] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let out = bytes(&text).unwrap();
        let mut pos = 0;
        skip_value(&out, &mut pos).unwrap();
        assert_eq!(pos, out.len());
    }
    assert_eq!(bytes(&"[".repeat(257)), Err(Mismatch::Limit));
    assert_eq!(bytes(&"{\"a\":".repeat(1_000_000)), Err(Mismatch::Limit));
    for len in [15usize, 16, 65_535, 65_536] {
        let out = bytes(&format!("[{}7]", "7,".repeat(len - 1))).unwrap();
        let mut expected = Vec::new();
        write_array_header(&mut expected, len);
        expected.extend(std::iter::repeat_n(7, len));
        assert_eq!(out, expected);
    }
}

#[test]
fn quotes_are_found_wherever_they_are() {
    for len in 0..100 {
        for end in [b'"', b'\\'] {
            let mut text = vec![b'#'; len];
            text.push(end);
            text.extend_from_slice(b"\"\\ tail");
            assert_eq!(quote_or_backslash(&text, 0), Some(len));
            assert_eq!(quote_or_backslash(&text[..len], 0), None);
        }
    }
}

#[test]
fn cut_off_text_is_refused_at_every_byte() {
    let text = br#"{"a":[1,2.5e3,"x\u00e9\n",{"b":null,"c":true}],"a":-7,"d":"y"}"#;
    for len in 0..text.len() {
        assert_eq!(transcode(&text[..len], &mut Vec::new()), Err(Mismatch::NoMatch), "{len}");
    }
    transcode(text, &mut Vec::new()).unwrap();
}

#[test]
fn long_keys_keep_their_bytes() {
    for len in [0usize, 31, 32, 255, 256, 65_536] {
        let mut out = Vec::new();
        write_str_header(&mut out, len);
        out.extend(std::iter::repeat_n(b'k', len));
        assert_eq!(key_bytes(&out).len(), len);
    }
}

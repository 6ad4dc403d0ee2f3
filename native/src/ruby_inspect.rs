//! Values as Ruby 3.1 prints them: `to_s` and `inspect` (`{"a"=>1, "b"=>nil}`).
//!
//! Fluentd's formatters `hash` and `single_value` print records this way. Its workers run with ASCII as external
//! encoding, so that every other character is escaped: `\u00E9`, `\u{1F600}`.

use crate::msgpack::{MAX_DEPTH, Malformed, Token, read_token};

/// Appends `value` as `Float#to_s`: fewest digits, an exponent below 1e-4 and for whole numbers from 1e15 on,
/// `NaN`, `Infinity`.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let size = value.abs();
    let has_fraction = (1e15..1e16).contains(&size) && size.fract() != 0.0;
    if size == 0.0 || (1e-4..1e15).contains(&size) || has_fraction {
        return out.extend_from_slice(text.as_bytes()); // laid out alike
    }
    // d.ddd and an exponent, from whatever layout the library chose
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole.as_bytes(), fraction.as_bytes()].concat();
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    exponent += whole.len() as i32 - 1 - leading as i32;
    let mut digits = &digits[leading..];
    while let [rest @ .., b'0'] = digits
        && !rest.is_empty()
    {
        digits = rest;
    }
    out.extend_from_slice(sign.as_bytes());
    out.push(digits[0]);
    out.push(b'.');
    out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
    out.extend_from_slice(format!("e{exponent:+03}").as_bytes());
}

/// Appends the value at `pos` as `to_s`: strings as their bytes, nil as nothing, others as `inspect`.
///
/// # Errors
/// [`Malformed`]; `out` may then hold a part.
pub fn write_to_s(out: &mut Vec<u8>, data: &[u8], pos: &mut usize) -> Result<(), Malformed> {
    let start = *pos;
    match read_token(data, pos)? {
        Token::Nil => {}
        Token::Str(text) | Token::Bin(text) => out.extend_from_slice(text),
        Token::Ext(0, raw) if raw.len() == 8 => {
            let seconds = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
            out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
        }
        Token::Ext(_, raw) => out.extend_from_slice(raw),
        _ => {
            *pos = start;
            inspect_value(out, data, pos, 1)?;
        }
    }
    Ok(())
}

/// Appends `pairs` pairs from `pos` on as `Hash#inspect`.
///
/// # Errors
/// [`Malformed`]; `out` may then hold a part.
pub fn inspect_pairs(
    out: &mut Vec<u8>,
    data: &[u8],
    pos: &mut usize,
    pairs: usize,
    depth: u32,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::TooDeep);
    }
    out.push(b'{');
    for index in 0..pairs {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        inspect_value(out, data, pos, depth)?;
        out.extend_from_slice(b"=>");
        inspect_value(out, data, pos, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn inspect_value(out: &mut Vec<u8>, data: &[u8], pos: &mut usize, depth: u32) -> Result<(), Malformed> {
    match read_token(data, pos)? {
        Token::Nil => out.extend_from_slice(b"nil"),
        Token::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Token::Uint(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Token::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Token::Float(value) => write_float(out, value),
        Token::Str(text) | Token::Bin(text) => inspect_text(out, text),
        Token::Ext(0, raw) if raw.len() == 8 => {
            let seconds = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
            out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
        }
        Token::Ext(_, raw) => inspect_text(out, raw),
        Token::Array(len) => {
            if depth >= MAX_DEPTH {
                return Err(Malformed::TooDeep);
            }
            out.push(b'[');
            for index in 0..len {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                inspect_value(out, data, pos, depth + 1)?;
            }
            out.push(b']');
        }
        Token::Map(len) => inspect_pairs(out, data, pos, len, depth + 1)?,
    }
    Ok(())
}

fn inspect_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    // nearly all text is printable ASCII to its end
    let plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\' | b'#');
    let start = text.iter().position(|byte| !plain(byte)).unwrap_or(text.len());
    out.extend_from_slice(&text[..start]);
    for chunk in text[start..].utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(char) = chars.next() {
            let letter = match char {
                '"' | '\\' => char as u8,
                '\n' => b'n',
                '\r' => b'r',
                '\t' => b't',
                '\x0c' => b'f',
                '\x0b' => b'v',
                '\x08' => b'b',
                '\x07' => b'a',
                '\x1b' => b'e',
                '#' if matches!(chars.peek(), Some('$' | '@' | '{')) => b'#',
                ' '..='~' => {
                    out.push(char as u8);
                    continue;
                }
                '\0'..='\u{ffff}' => {
                    out.extend_from_slice(format!("\\u{:04X}", char as u32).as_bytes());
                    continue;
                }
                _ => {
                    out.extend_from_slice(format!("\\u{{{:X}}}", char as u32).as_bytes());
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', letter]);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02X}").as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_have_rubys_layout() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.25, "-1.25"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1.0e-05"),
            (0.000012345, "1.2345e-05"),
            (123_456_789.123, "123456789.123"),
            (100_000_000_000_000.0, "100000000000000.0"),
            (1e15, "1.0e+15"),
            (1_234_567_890_123_456.0, "1.234567890123456e+15"),
            (1_234_567_890_123_456.8, "1234567890123456.8"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (1e16, "1.0e+16"),
            (12_345_678_901_234_567_890.0, "1.2345678901234567e+19"),
            (1e100, "1.0e+100"),
            (-1.5e-300, "-1.5e-300"),
            (5e-324, "5.0e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn every_power_of_ten_reads_back() {
        for exponent in -323..=308 {
            for digits in ["1", "1.5", "9.999", "1.2345678901234567"] {
                let value: f64 = format!("{digits}e{exponent}").parse().unwrap();
                assert_eq!(float(value).parse::<f64>().unwrap(), value);
            }
        }
    }

    #[test]
    fn hashes_are_inspected() {
        let mut body = Vec::new();
        msgpack::write_str(&mut body, b"s");
        msgpack::write_str(&mut body, "q\"\\\n\u{1}\u{7f}é\u{1f600}#{x}#y\u{1b}".as_bytes());
        msgpack::write_str(&mut body, b"n");
        msgpack::write_nil(&mut body);
        msgpack::write_int(&mut body, 1);
        msgpack::write_array_header(&mut body, 2);
        msgpack::write_float(&mut body, 1.5);
        msgpack::write_bool(&mut body, true);
        msgpack::write_str(&mut body, b"o");
        msgpack::write_map_header(&mut body, 1);
        msgpack::write_str(&mut body, b"k");
        msgpack::write_bin(&mut body, b"\xffx");
        let mut out = Vec::new();
        inspect_pairs(&mut out, &body, &mut 0, 4, 1).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"s\"=>\"q\\\"\\\\\\n\\u0001\\u007F\\u00E9\\u{1F600}\\#{x}#y\\e\", \"n\"=>nil, 1=>[1.5, true], \
             \"o\"=>{\"k\"=>\"\\xFFx\"}}"
        );
    }
}

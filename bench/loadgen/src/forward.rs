//! The forward protocol's MessagePack, as much as a load generator and a counting sink need.

/// Where the MessagePack object that starts at `at` ends; None while it is not whole.
#[must_use]
pub fn skip(data: &[u8], mut at: usize) -> Option<usize> {
    let mut pending = 1_u64;
    while pending > 0 {
        pending -= 1;
        let kind = *data.get(at)?;
        at += 1;
        let (bytes, children) = match kind {
            0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(kind & 15)),
            0x90..=0x9f => (0, u64::from(kind & 15)),
            0xa0..=0xbf => (usize::from(kind & 31), 0),
            0xc4 | 0xd9 => (1 + uint(data, at, 1)?, 0),
            0xc5 | 0xda => (2 + uint(data, at, 2)?, 0),
            0xc6 | 0xdb => (4 + uint(data, at, 4)?, 0),
            0xc7 => (2 + uint(data, at, 1)?, 0),
            0xc8 => (3 + uint(data, at, 2)?, 0),
            0xc9 => (5 + uint(data, at, 4)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4..=0xd8 => (1 + (1 << (kind - 0xd4)), 0),
            0xdc => (2, uint(data, at, 2)? as u64),
            0xdd => (4, uint(data, at, 4)? as u64),
            0xde => (2, 2 * uint(data, at, 2)? as u64),
            0xdf => (4, 2 * uint(data, at, 4)? as u64),
        };
        at += bytes;
        if at > data.len() {
            return None;
        }
        pending += children;
    }
    Some(at)
}

/// A big-endian number of `width` bytes.
fn uint(data: &[u8], at: usize, width: usize) -> Option<usize> {
    Some(data.get(at..at + width)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
}

/// The content of a whole str or bin object; None if it is something else.
#[must_use]
pub fn text(object: &[u8]) -> Option<&[u8]> {
    match object.first()? {
        0xa0..=0xbf => object.get(1..),
        0xc4 | 0xd9 => object.get(2..),
        0xc5 | 0xda => object.get(3..),
        0xc6 | 0xdb => object.get(5..),
        _ => None,
    }
}

/// What one message of a client holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The bytes that hold its events: a PackedForward's payload, a Forward's array, a Message's time and record.
    pub events: &'a [u8],
    /// Compressed as gzip.
    pub gzip: bool,
    /// To be acknowledged.
    pub chunk: Option<&'a [u8]>,
    /// How many events it says it has.
    pub size: Option<u64>,
    /// Bytes of the message.
    pub length: usize,
}

/// The message at the start of `data`; None while it is not whole.
///
/// # Errors
/// It is no message of the protocol.
pub fn message(data: &[u8]) -> Result<Option<Message<'_>>, String> {
    let Some(&first) = data.first() else { return Ok(None) };
    let (fields, tag) = match first {
        0x92..=0x94 => (usize::from(first & 15), 1),
        _ => return Err(format!("a message starts with {first:#04x}")),
    };
    let Some(second) = skip(data, tag) else { return Ok(None) };
    let Some(&kind) = data.get(second) else { return Ok(None) };
    let Some(third) = skip(data, second) else { return Ok(None) };
    let batch = matches!(kind, 0x90..=0x9f | 0xdc | 0xdd | 0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb);
    let (after, rest) = if batch {
        (third, fields - 2)
    } else {
        let Some(end) = skip(data, third) else { return Ok(None) };
        (end, fields.checked_sub(3).ok_or("a message without a record")?)
    };
    let whole = &data[second..after];
    let packed = if batch { text(whole) } else { None };
    let mut message =
        Message { events: packed.unwrap_or(whole), gzip: false, chunk: None, size: None, length: after };
    if rest > 0 {
        let Some(end) = skip(data, after) else { return Ok(None) };
        options(&data[after..end], &mut message);
        message.length = end;
    }
    Ok(Some(message))
}

fn options<'a>(map: &'a [u8], message: &mut Message<'a>) {
    let Some(&count @ 0x80..=0x8f) = map.first() else { return };
    let mut at = 1;
    for _ in 0..count & 15 {
        let Some(value) = skip(map, at) else { return };
        let Some(end) = skip(map, value) else { return };
        match text(&map[at..value]) {
            Some(b"chunk") => message.chunk = text(&map[value..end]),
            Some(b"compressed") => message.gzip = text(&map[value..end]) == Some(b"gzip"),
            Some(b"size") => message.size = number(&map[value..end]),
            _ => {}
        }
        at = end;
    }
}

fn number(object: &[u8]) -> Option<u64> {
    match *object.first()? {
        small @ 0..=0x7f => Some(u64::from(small)),
        0xcc..=0xcf => uint(object, 1, object.len() - 1).map(|n| n as u64),
        _ => None,
    }
}

/// Appends a str.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=255 => out.extend_from_slice(&[0xd9, n as u8]),
        n => {
            out.push(0xda);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[u8], option: &[u8]) -> Vec<u8> {
        let mut out = vec![if option.is_empty() { 0x92 } else { 0x93 }];
        put_text(&mut out, b"tag");
        out.push(0xc6);
        out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        out.extend_from_slice(entries);
        out.extend_from_slice(option);
        out
    }

    #[test]
    fn a_message_is_known_when_its_last_byte_is_there() {
        let option = b"\x83\xa5chunk\xa2id\xa4size\xcd\x03\xe8\xaacompressed\xa4gzip";
        let messages = [
            packed(b"entries", option),
            packed(b"", b""),
            b"\x93\xa3tag\x91\x92\xd7\x00abcdefgh\x81\xa1k\xa1v\x80".to_vec(),
            b"\x93\xa3tag\xce\x65\x00\x00\x00\x81\xa1k\xdc\x00\x02\xc0\xc3".to_vec(),
        ];
        for bytes in &messages {
            for cut in 0..bytes.len() {
                assert_eq!(message(&bytes[..cut]), Ok(None));
            }
            let mut longer = bytes.clone();
            longer.push(0x93);
            assert_eq!(message(&longer).map(|m| m.map(|m| m.length)), Ok(Some(bytes.len())));
        }
        let whole = message(&messages[0]).expect("valid").expect("whole");
        assert_eq!((whole.events, whole.chunk), (&b"entries"[..], Some(&b"id"[..])));
        assert_eq!((whole.size, whole.gzip), (Some(1000), true));
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"\x91\xa1a", b"\x92\xa1a\x01\x80", b"\xc0"] {
            assert!(message(bytes).is_err());
        }
    }
}

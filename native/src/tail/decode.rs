//! `encoding` and `from_encoding`: lines in other encodings than UTF-8.

use encoding_rs::{Encoding, UTF_8};

use super::lines::Eol;

const NUL: u8 = 0;

/// An encoding by Ruby's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    /// Bytes of any kind: `ASCII-8BIT`, `US-ASCII`.
    Ascii,
    /// The first 256 code points.
    Latin1,
    /// One of the WHATWG's.
    Known(&'static Encoding),
}

impl Charset {
    fn find(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        Some(match lower.as_str() {
            "ascii-8bit" | "binary" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "646" => Charset::Ascii,
            "iso-8859-1" | "iso8859-1" => Charset::Latin1,
            // which end comes first would have to be guessed for every line
            "utf-16" | "utf-32" | "utf-32le" | "utf-32be" | "utf-7" => return None,
            "cp932" | "csshiftjis" => Charset::Known(encoding_rs::SHIFT_JIS),
            "cp936" => Charset::Known(encoding_rs::GBK),
            "cp949" => Charset::Known(encoding_rs::EUC_KR),
            "cp950" => Charset::Known(encoding_rs::BIG5),
            "cp951" | "big5-hkscs" => Charset::Known(encoding_rs::BIG5),
            "eucjp" | "eucjp-ms" | "euc-jp-ms" | "cp51932" => Charset::Known(encoding_rs::EUC_JP),
            "euckr" => Charset::Known(encoding_rs::EUC_KR),
            "euccn" | "gb12345" | "euc-cn" => Charset::Known(encoding_rs::GBK),
            "cp65001" | "utf-8-mac" | "utf8-mac" => Charset::Known(UTF_8),
            "maccyrillic" => Charset::Known(encoding_rs::X_MAC_CYRILLIC),
            "cp866" => Charset::Known(encoding_rs::IBM866),
            "cp878" => Charset::Known(encoding_rs::KOI8_R),
            _ => {
                let windows = lower.strip_prefix("cp").map(|number| format!("windows-{number}"));
                Charset::Known(Encoding::for_label(windows.as_ref().unwrap_or(&lower).as_bytes())?)
            }
        })
    }

    fn eol(self) -> Eol {
        match self {
            Charset::Known(known) if known == encoding_rs::UTF_16LE => Eol::Wide([b'\n', NUL]),
            Charset::Known(known) if known == encoding_rs::UTF_16BE => Eol::Wide([NUL, b'\n']),
            _ => Eol::Byte,
        }
    }
}

/// Makes UTF-8 of lines, without what another encoding does not have.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    from: Charset,
    to: Charset,
}

/// What the two parameters mean: what ends a line, and how it becomes UTF-8 where it is something else.
/// `encoding` alone says what the bytes are; Fluentd's JSON and MessagePack are UTF-8 whatever it is.
///
/// # Errors
/// (parameter, what is wrong).
pub fn decoding(
    encoding: Option<&str>,
    from_encoding: Option<&str>,
) -> Result<(Eol, Option<Decoder>), (&'static str, String)> {
    let find = |param, name: Option<&str>| {
        name.map(|name| Charset::find(name).ok_or((param, format!("unknown encoding name - {name}"))))
            .transpose()
    };
    let (to, from) = (find("encoding", encoding)?, find("from_encoding", from_encoding)?);
    let eol = from.or(to).map_or(Eol::Byte, Charset::eol);
    let decoder = to.map(|to| Decoder { from: from.unwrap_or(to), to });
    let needed = |it: &Decoder| it.from != it.to || ![Charset::Ascii, Charset::Known(UTF_8)].contains(&it.to);
    Ok((eol, decoder.filter(needed)))
}

impl Decoder {
    /// Appends `line` as UTF-8; what cannot be converted is replaced, as Ruby does it.
    pub fn convert(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut text = String::new();
        match self.from {
            Charset::Ascii => text
                .extend(line.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' })),
            Charset::Latin1 => text.extend(line.iter().map(|byte| char::from(*byte))),
            Charset::Known(from) => text.push_str(&from.decode_without_bom_handling(line).0),
        }
        if self.from == self.to || text.is_ascii() {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        let mut buffer = [0; 4];
        for character in text.chars() {
            let bytes = character.encode_utf8(&mut buffer);
            let known = match self.to {
                Charset::Ascii => character.is_ascii(),
                Charset::Latin1 => u8::try_from(character).is_ok(),
                // UTF-16, for which UTF-8 stands in here, has all
                Charset::Known(to) => !to.encode(bytes).2,
            };
            out.extend_from_slice(if known { bytes.as_bytes() } else { b"?" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_converted() {
        for (from, to, line, wanted) in [
            ("euc-jp", "utf-8", &b"\xc6\xfc\xcb\xdc\n"[..], "日本\n".as_bytes()),
            ("Windows-31J", "UTF-8", b"\x93\xfa\x96\x7b\n", "日本\n".as_bytes()),
            ("CP932", "UTF-8", b"\x93\xfa\n", "日\n".as_bytes()),
            ("ascii-8bit", "utf-8", b"te\x86st\n", "te\u{fffd}st\n".as_bytes()),
            ("iso-8859-1", "utf-8", b"\xe9\x80\n", "é\u{80}\n".as_bytes()),
            ("cp1252", "utf-8", b"\x80\n", "€\n".as_bytes()),
            ("utf-16le", "utf-8", b"a\0\n\0", b"a\n"),
            ("utf-16be", "utf-8", b"\0a\0\n", b"a\n"),
            ("utf-8", "iso-8859-1", "é日\n".as_bytes(), "é?\n".as_bytes()),
            ("utf-8", "euc-jp", "日\u{1f600}\n".as_bytes(), "日?\n".as_bytes()),
            ("utf-8", "utf-16le", "日\n".as_bytes(), "日\n".as_bytes()),
            ("utf-16le", "utf-16le", b"\xe5\x65\n\0", "日\n".as_bytes()),
            ("shift_jis", "shift_jis", b"\x93\xfa\x80\n", "日\u{80}\n".as_bytes()),
            ("utf-8", "us-ascii", "aé\n".as_bytes(), b"a?\n"),
        ] {
            let (_, decoder) = decoding(Some(to), Some(from)).unwrap();
            let mut out = vec![];
            decoder.unwrap().convert(line, &mut out);
            assert_eq!(out, wanted, "{from} -> {to}");
        }
    }

    #[test]
    fn what_ends_a_line() {
        assert_eq!(decoding(None, None).unwrap().0, Eol::Byte);
        assert_eq!(decoding(Some("utf-8"), Some("utf-16be")).unwrap().0, Eol::Wide([0, b'\n']));
        assert_eq!(decoding(Some("utf-16le"), None).unwrap().0, Eol::Wide([b'\n', 0]));
        assert!(decoding(Some("utf-8"), Some("UTF-8")).unwrap().1.is_none());
        assert!(decoding(Some("ascii-8bit"), None).unwrap().1.is_none());
        assert_eq!(decoding(Some("no-such"), None).unwrap_err().0, "encoding");
        assert_eq!(decoding(Some("utf-8"), Some("utf-32")).unwrap_err().0, "from_encoding");
    }
}

//! Decompresses payloads (`compressed: gzip`, `compressed: zstd`), which a hostile sender may have made.

use std::fmt;
use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// A payload may grow to so many bytes whatever its ratio.
const HARMLESS: usize = 16 << 20;
/// Beyond that it may be so many times as long as it was: what deflate can reach (1032) and logs cannot.
const RATIO: usize = 1100;

/// Why a payload cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// A method that is not known.
    Method(String),
    /// Broken data.
    Broken(io::Error),
    /// More than so many bytes come out.
    TooLong(usize),
    /// So many times as much comes out as went in, or more.
    Bomb(usize),
}

impl Unusable {
    /// The ledger's word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Unusable::Method(_) | Unusable::Broken(_) => "decompress_error",
            Unusable::TooLong(_) | Unusable::Bomb(_) => "decompression_size_limit",
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Method(name) => write!(f, "compressed {name:?} is neither gzip nor zstd nor text"),
            Unusable::Broken(why) => write!(f, "{why}"),
            Unusable::TooLong(limit) => write!(f, "more than decompression_size_limit, {limit} bytes"),
            Unusable::Bomb(ratio) => write!(f, "more than {ratio} times as long decompressed"),
        }
    }
}

/// Decompresses all members or frames of `data`.
///
/// # Errors
/// [`Unusable`]. At most the limit and one read more is ever held.
pub fn inflate(method: &[u8], data: &[u8], limit: usize) -> Result<Vec<u8>, Unusable> {
    let by_ratio = data.len().saturating_mul(RATIO).max(HARMLESS);
    let most = limit.min(by_ratio);
    let mut out = Vec::with_capacity(data.len().saturating_mul(4).min(most).min(1 << 20));
    let read = match method {
        b"gzip" => MultiGzDecoder::new(data).take(most as u64 + 1).read_to_end(&mut out),
        // HTTP's "deflate" is zlib's format; some senders leave its two bytes away (RFC 9110, 8.4.1.2)
        b"deflate" if is_zlib(data) => ZlibDecoder::new(data).take(most as u64 + 1).read_to_end(&mut out),
        b"deflate" => DeflateDecoder::new(data).take(most as u64 + 1).read_to_end(&mut out),
        b"zstd" => zstd::stream::read::Decoder::with_buffer(data)
            .and_then(|decoder| decoder.take(most as u64 + 1).read_to_end(&mut out)),
        other => return Err(Unusable::Method(String::from_utf8_lossy(&other[..other.len().min(64)]).into())),
    };
    read.map_err(Unusable::Broken)?;
    match out.len() <= most {
        true => Ok(out),
        false if most == limit => Err(Unusable::TooLong(limit)),
        false => Err(Unusable::Bomb(RATIO)),
    }
}

/// Whether `data` starts as zlib's format does (RFC 1950, 2.2).
fn is_zlib(data: &[u8]) -> bool {
    matches!(data, [method, flags, ..] if method & 15 == 8 && (u32::from(*method) << 8 | u32::from(*flags)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_and_frames_are_joined() {
        let double = |part: Vec<u8>| [part.clone(), part].concat();
        assert_eq!(inflate(b"gzip", &double(gzip(b"abc")), 100).unwrap(), b"abcabc");
        assert_eq!(
            inflate(b"zstd", &double(zstd::encode_all(&b"abc"[..], 1).unwrap()), 100).unwrap(),
            b"abcabc"
        );
    }

    #[test]
    fn deflate_is_with_or_without_the_head_of_zlib() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(b"abc").unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(b"abc").unwrap();
        for packed in [zlib.finish().unwrap(), raw.finish().unwrap()] {
            assert_eq!(inflate(b"deflate", &packed, 3).unwrap(), b"abc");
            assert!(matches!(inflate(b"deflate", &packed, 2), Err(Unusable::TooLong(2))));
            assert!(matches!(inflate(b"deflate", &packed[..2], 9), Err(Unusable::Broken(_))));
        }
    }

    #[test]
    fn what_is_too_long_or_broken_is_refused() {
        let zeros = vec![0; 100_000];
        for (method, packed) in
            [(&b"gzip"[..], gzip(&zeros)), (b"zstd", zstd::encode_all(&zeros[..], 3).unwrap())]
        {
            assert_eq!(inflate(method, &packed, 100_000).unwrap(), zeros);
            assert!(matches!(inflate(method, &packed, 99_999), Err(Unusable::TooLong(99_999))));
            assert!(matches!(
                inflate(method, &packed[..packed.len() - 3], 1 << 20),
                Err(Unusable::Broken(_))
            ));
            assert!(matches!(inflate(method, b"garbage", 1 << 20), Err(Unusable::Broken(_))));
        }
        assert!(matches!(inflate(b"lz4", b"x", 100), Err(Unusable::Method(_))));
        let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 3).unwrap();
        assert!(matches!(inflate(b"zstd", &bomb, 1 << 30), Err(Unusable::Bomb(_))));
    }
}

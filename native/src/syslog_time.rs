//! The time in a syslog header: found as Fluentd finds it, parsed by hand where it has its usual form.
//!
//! Two caches, because the same second, minute and hour come again and again: the last text as a whole,
//! and the last text without its seconds. Whatever has another form goes through [`TimeParser`].

use memchr::memchr;

use crate::parser::Mismatch;
use crate::time::{TimeCache, TimeParser, TimeSpec};

const SECOND: i64 = 1_000_000_000;
/// Fluentd's default for RFC 3164.
pub const RFC3164_FORMAT: &str = "%b %d %H:%M:%S";
/// Fluentd's default for RFC 5424.
pub const RFC5424_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%L%z";
const RFC5424_WITHOUT_FRACTION: &str = "%Y-%m-%dT%H:%M:%S%z";

/// How one message format writes its time.
pub struct HeaderFormat {
    parser: TimeParser,
    /// RFC 5424 tries the form without a fraction where the first does not fit.
    fallback: Option<TimeParser>,
    /// Of how many words parted by spaces the time consists.
    pub words: usize,
    /// Whether the string engine takes 15 characters for it: the default format, with a fraction or not.
    pub fixed_width: bool,
    /// Whether the usual form can be parsed by hand.
    pub usual: bool,
}

fn word_count(format: &str) -> usize {
    let mut words = 1;
    let mut last = 0;
    for byte in format.bytes() {
        words += usize::from(byte == b' ' && last != b' ');
        last = byte;
    }
    words
}

impl HeaderFormat {
    /// For RFC 3164.
    ///
    /// # Errors
    /// As [`TimeParser::new`].
    pub fn rfc3164(format: &str, time: &TimeSpec) -> Result<Self, String> {
        Ok(HeaderFormat {
            parser: TimeParser::new(&TimeSpec { format: Some(format.to_owned()), ..time.clone() })?,
            fallback: None,
            words: word_count(format),
            fixed_width: [RFC3164_FORMAT, "%b %d %H:%M:%S.%N"].contains(&format),
            usual: format == RFC3164_FORMAT && matches!(time.kind.as_str(), "" | "string"),
        })
    }

    /// For RFC 5424.
    ///
    /// # Errors
    /// As [`TimeParser::new`].
    pub fn rfc5424(format: &str, time: &TimeSpec) -> Result<Self, String> {
        let without = TimeSpec { format: Some(RFC5424_WITHOUT_FRACTION.to_owned()), ..time.clone() };
        Ok(HeaderFormat {
            fallback: Some(TimeParser::new(&without)?),
            usual: format == RFC5424_FORMAT && matches!(time.kind.as_str(), "" | "string"),
            ..Self::rfc3164(format, time)?
        })
    }

    fn parse(&self, text: &[u8], caches: &mut [TimeCache; 2]) -> Option<i64> {
        let [cache, fallback] = caches;
        self.parser.parse(text, cache).or_else(|| self.fallback.as_ref()?.parse(text, fallback))
    }
}

/// One session's memory of header times.
#[derive(Default)]
pub struct HeaderTime {
    /// The time of the last message, nanoseconds since the epoch.
    pub time_ns: i64,
    /// Its text, runs of spaces squeezed.
    pub text: Vec<u8>,
    /// The header bytes that gave it, with the space behind.
    raw: Vec<u8>,
    /// "Feb 28 12:0" or "2023-02-28T12:00", whose time is `base`.
    prefix: Vec<u8>,
    base: i64,
    /// Of the format's parsers.
    caches: [TimeCache; 2],
}

impl HeaderTime {
    /// Reads the time at `start` by words, as Fluentd's regexp engine does: further spaces before a word
    /// do not count. Returns where the rest of the message starts.
    ///
    /// # Errors
    /// `InvalidTime` where there are too few words or they are no time.
    #[inline]
    pub fn read(&mut self, format: &HeaderFormat, message: &[u8], start: usize) -> Result<usize, Mismatch> {
        let rest = &message[start..];
        if !self.raw.is_empty() && rest.starts_with(&self.raw) {
            return Ok(start + self.raw.len());
        }
        if format.usual
            && format.fallback.is_some()
            && let Some(len) = self.read_iso(rest)
        {
            return Ok(start + len + 1);
        }
        self.raw.clear();
        let (end, squeeze) = words(rest, format.words).ok_or(Mismatch::InvalidTime)?;
        self.text.clear();
        if squeeze {
            let mut last = 0;
            for byte in &rest[..end] {
                if *byte != b' ' || last != b' ' {
                    self.text.push(*byte);
                }
                last = *byte;
            }
        } else {
            self.text.extend_from_slice(&rest[..end]);
        }
        self.parse_text(format)?;
        self.raw.extend_from_slice(&rest[..=end]);
        Ok(start + end + 1)
    }

    /// Takes `text` itself as the time.
    ///
    /// # Errors
    /// `InvalidTime`.
    #[inline]
    pub fn set(&mut self, format: &HeaderFormat, text: &[u8]) -> Result<(), Mismatch> {
        self.raw.clear();
        self.text.clear();
        self.text.extend_from_slice(text);
        self.parse_text(format)
    }

    fn parse_text(&mut self, format: &HeaderFormat) -> Result<(), Mismatch> {
        let split = self.text.len().saturating_sub(4);
        let tail = if format.usual && format.fallback.is_none() {
            minute_and_second(&self.text[split..])
        } else {
            None
        };
        match tail {
            // zones change their offset at full ten minutes, so these are safe to add
            Some(seconds) if self.prefix == self.text[..split] => self.time_ns = self.base + seconds * SECOND,
            _ => {
                self.time_ns = format.parse(&self.text, &mut self.caches).ok_or(Mismatch::InvalidTime)?;
                if let Some(seconds) = tail {
                    self.prefix.clear();
                    self.prefix.extend_from_slice(&self.text[..split]);
                    self.base = self.time_ns - seconds * SECOND;
                }
            }
        }
        Ok(())
    }

    /// `2023-02-28T12:00:00.123456+01:00` and a space, by hand; gives the length of the time. None means
    /// another form, or a value out of range: the general parser decides.
    #[inline]
    fn read_iso(&mut self, rest: &[u8]) -> Option<usize> {
        let (date, clock) = rest.split_at_checked(16)?;
        let base = if self.prefix == date { self.base } else { iso_minute(date)? };
        let (&[b':', s1 @ b'0'..=b'5', s2 @ b'0'..=b'9'], mut tail) = clock.split_first_chunk::<3>()? else {
            return None;
        };
        let mut nanos = 0;
        if let Some((b'.', fraction)) = tail.split_first() {
            let mut scale = SECOND;
            let mut len = 0;
            while let Some(digit @ b'0'..=b'9') = fraction.get(len) {
                scale /= 10;
                nanos += i64::from(digit - b'0') * scale;
                len += 1;
            }
            if len == 0 {
                return None;
            }
            tail = &fraction[len..];
        }
        let (offset, zone_len) = match *tail {
            [b'Z', ..] => (0, 1),
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, ..] | [sign @ (b'+' | b'-'), h1, h2, m1, m2, ..] => {
                let minutes = two(h1, h2, 23)? * 60 + two(m1, m2, 59)?;
                let len = if tail[3] == b':' { 6 } else { 5 };
                (if sign == b'-' { -minutes } else { minutes }, len)
            }
            _ => return None,
        };
        if tail.get(zone_len) != Some(&b' ') {
            return None;
        }
        let len = rest.len() - tail.len() + zone_len;
        if self.prefix != date {
            self.prefix.clear();
            self.prefix.extend_from_slice(date);
            self.base = base;
        }
        let seconds = i64::from(s1 - b'0') * 10 + i64::from(s2 - b'0') - offset * 60;
        self.time_ns = base + seconds * SECOND + nanos;
        self.text.clear();
        self.text.extend_from_slice(&rest[..len]);
        self.raw.clear();
        Some(len)
    }
}

/// Where the `count`th word ends (at a space), and whether spaces are to be squeezed.
fn words(text: &[u8], count: usize) -> Option<(usize, bool)> {
    let mut at = 0;
    let mut squeeze = false;
    for _ in 0..count {
        while text.get(at) == Some(&b' ') {
            squeeze = true;
            at += 1;
        }
        at += memchr(b' ', &text[at..])? + 1;
    }
    Some((at - 1, squeeze))
}

/// The seconds in `m:ss`, the tail of `hh:mm:ss` behind the tens of minutes.
#[inline]
fn minute_and_second(tail: &[u8]) -> Option<i64> {
    match *tail {
        [m @ b'0'..=b'9', b':', s1 @ b'0'..=b'5', s2 @ b'0'..=b'9'] => {
            Some(i64::from(m - b'0') * 60 + i64::from(s1 - b'0') * 10 + i64::from(s2 - b'0'))
        }
        _ => None,
    }
}

#[inline]
fn two(tens: u8, ones: u8, max: i64) -> Option<i64> {
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return None;
    }
    Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')).filter(|value| *value <= max)
}

/// Nanoseconds since the epoch of `2023-02-28T12:00`, read as UTC.
fn iso_minute(text: &[u8]) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2] = text else { return None };
    let year = two(y1, y2, 99)? * 100 + two(y3, y4, 99)?;
    let (month, day) = (two(m1, m2, 12)?, two(d1, d2, 31)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        0 => return None,
        _ => 31,
    };
    // what nanoseconds in 64 bits can hold
    if day == 0 || day > month_days || !(1700..=2200).contains(&year) {
        return None;
    }
    // days since the epoch; the year starts in March, so that the leap day is its last
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era_days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = era_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
    let minutes = two(h1, h2, 23)? * 60 + two(n1, n2, 59)?;
    Some((days * 86_400 + minutes * 60) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_minutes_count_from_the_epoch() {
        for (text, seconds) in [
            ("1970-01-01T00:00", 0),
            ("2000-02-29T23:59", 951_868_740),
            ("2023-02-28T12:00", 1_677_585_600),
            ("1900-03-01T00:00", -2_203_891_200),
            ("2100-03-01T00:00", 4_107_542_400),
        ] {
            assert_eq!(iso_minute(text.as_bytes()), Some(seconds * SECOND), "{text}");
        }
        for text in ["2023-02-29T12:00", "2023-13-01T00:00", "2023-00-01T00:00", "2023-01-00T00:00"] {
            assert_eq!(iso_minute(text.as_bytes()), None, "{text}");
        }
        assert_eq!(iso_minute(b"2023-01-01T24:00"), None);
        assert_eq!(iso_minute(b"2023-01-01 12:00"), None);
        assert_eq!(iso_minute(b"1500-01-01T12:00"), None);
    }

    #[test]
    fn words_are_counted_as_the_format_has_them() {
        assert_eq!(word_count(RFC3164_FORMAT), 3);
        assert_eq!(word_count(RFC5424_FORMAT), 1);
        assert_eq!(word_count("%b  %d %H"), 3);
        assert_eq!(words(b"Feb  8 12:00:00 host", 3), Some((15, true)));
        assert_eq!(words(b"Feb 28 12:00:00 host", 3), Some((15, false)));
        assert_eq!(words(b" Feb 28 12:00:00 host", 3), Some((16, true)));
        assert_eq!(words(b"Feb 28 12:00:00", 3), None);
        assert_eq!(words(b"", 1), None);
    }

    #[test]
    fn rfc5424_times_keep_nanoseconds() {
        for (text, nanos) in [
            ("2023-02-28T12:00:00.003Z x", 3_000_000),
            ("2023-02-28T12:00:00Z x", 0),
            ("2023-02-28T12:00:00.123456789Z x", 123_456_789),
            ("2023-02-28T12:00:00.1234567899Z x", 123_456_789),
            ("2023-02-28T13:30:00.1+01:30 x", 100_000_000),
            ("2023-02-28T10:30:00.1-0130 x", 100_000_000),
        ] {
            let mut time = HeaderTime::default();
            assert_eq!(time.read_iso(text.as_bytes()), Some(text.len() - 2), "{text}");
            assert_eq!(time.time_ns, 1_677_585_600 * SECOND + nanos, "{text}");
            assert_eq!(time.text, &text.as_bytes()[..text.len() - 2]);
            // once more, from the cached minute
            assert!(time.read_iso(text.as_bytes()).is_some());
            assert_eq!(time.time_ns, 1_677_585_600 * SECOND + nanos, "{text}");
        }
        for text in [
            "2023-02-28T12:00:60Z x",
            "2023-02-28T12:00:00.Z x",
            "2023-02-28T12:00:00 x",
            "2023-02-28T12:00:00Zx y",
            "- x",
            "2023-02-28T12:00:00Z",
            "",
        ] {
            assert_eq!(HeaderTime::default().read_iso(text.as_bytes()), None, "{text}");
        }
    }
}

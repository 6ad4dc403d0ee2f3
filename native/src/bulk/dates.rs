//! Dates in index names and `@timestamp` fields, made once for many events.

use crate::msgpack::{Token, read_token};
use crate::time::{TimeCache, TimeFormatter, TimeParser};

const NANOS: i64 = 1_000_000_000;

/// `+09:30` for seconds east of UTC.
fn zone_name(offset: i32) -> String {
    let minutes = offset.unsigned_abs() / 60;
    format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
}

/// One strftime format in its own zone and, for texts with an offset, in others.
pub struct Dated {
    format: String,
    formatter: TimeFormatter,
    elsewhere: Option<(i32, TimeFormatter)>,
}

impl Dated {
    /// Compiles. `zone` None: the machine's.
    ///
    /// # Errors
    /// A message that names the zone.
    pub fn new(format: &str, zone: Option<&str>) -> Result<Self, String> {
        let formatter = TimeFormatter::new(Some(format), zone)?;
        Ok(Dated { format: format.to_owned(), formatter, elsewhere: None })
    }

    /// Appends the time in the format's own zone.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>, time_ns: i64) {
        self.formatter.write(out, time_ns);
    }

    /// Appends the time at an offset.
    pub fn write_at(&mut self, out: &mut Vec<u8>, time_ns: i64, offset: i32) {
        let known = self.elsewhere.take().filter(|(known, _)| *known == offset);
        // every zone name that `zone_name` gives is known
        let entry = known.or_else(|| {
            let formatter = TimeFormatter::new(Some(&self.format), Some(&zone_name(offset))).ok()?;
            Some((offset, formatter))
        });
        match entry {
            Some((offset, mut formatter)) => {
                formatter.write(out, time_ns);
                self.elsewhere = Some((offset, formatter));
            }
            None => self.formatter.write(out, time_ns),
        }
    }

    /// For how long a text of this format stays the same, in nanoseconds: a quarter of an hour where it has
    /// nothing finer than hours (zones change on quarters).
    pub fn granularity(&self) -> i64 {
        let bytes = self.format.as_bytes();
        let mut step = 900 * NANOS;
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'%' {
                at += 1;
                while bytes.get(at).is_some_and(|flag| b"-0_^#:123456789EO".contains(flag)) {
                    at += 1;
                }
                match bytes.get(at) {
                    Some(b'N' | b'L') => return 1,
                    Some(b'M' | b'S' | b's' | b'T' | b'X' | b'R' | b'r' | b'c' | b'+') => step = NANOS,
                    _ => {}
                }
            }
            at += 1;
        }
        step
    }
}

/// Reads the time out of a record's field.
pub struct FieldTime {
    parser: TimeParser,
    format: Option<String>,
}

/// One caller's memory over a [`FieldTime`].
#[derive(Default)]
pub struct FieldTimeCache {
    time: TimeCache,
    numeric: Option<TimeFormatter>,
}

impl FieldTime {
    /// Compiles `time_key_format`.
    ///
    /// # Errors
    /// A message that names the directive.
    pub fn new(format: Option<&str>) -> Result<Self, String> {
        Ok(FieldTime { parser: TimeParser::for_records(format)?, format: format.map(str::to_owned) })
    }

    /// (nanoseconds since the epoch, seconds east of UTC) of a MessagePack value; None where it is no time.
    /// A number counts as seconds, and is brought through the format where there is one.
    pub fn read(&self, value: &[u8], cache: &mut FieldTimeCache) -> Option<(i64, i32)> {
        let seconds = match read_token(value, &mut 0).ok()? {
            Token::Str(text) | Token::Bin(text) => {
                return self.parser.parse_with_offset(text, &mut cache.time);
            }
            Token::Uint(seconds) => i64::try_from(seconds).ok()?.checked_mul(NANOS)?,
            Token::Int(seconds) => seconds.checked_mul(NANOS)?,
            Token::Float(seconds) if seconds.abs() < 9.2e9 => {
                let whole = seconds.floor();
                whole as i64 * NANOS + ((seconds - whole) * 1e9) as i64
            }
            _ => return None,
        };
        let format = self.format.as_deref().unwrap_or("%Y-%m-%d %H:%M:%S.%N%z");
        if cache.numeric.is_none() {
            cache.numeric = TimeFormatter::new(Some(format), None).ok();
        }
        let mut text = Vec::with_capacity(40);
        cache.numeric.as_mut()?.write(&mut text, seconds);
        self.parser.parse_with_offset(&text, &mut cache.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    #[test]
    fn what_is_finer_than_an_hour_is_made_more_often() {
        for (format, step) in [
            ("%Y.%m.%d", 900 * NANOS),
            ("%Y.%m.%d.%H", 900 * NANOS),
            ("%-H:%_M", NANOS),
            ("%T", NANOS),
            ("%s", NANOS),
            ("%3N", 1),
            ("%Y%%M", 900 * NANOS),
            ("plain", 900 * NANOS),
            ("%", 900 * NANOS),
        ] {
            assert_eq!(Dated::new(format, None).unwrap().granularity(), step, "{format}");
        }
    }

    #[test]
    fn times_of_fields() {
        let text = |text: &str| {
            let mut value = Vec::new();
            msgpack::write_str(&mut value, text.as_bytes());
            value
        };
        let mut number = Vec::new();
        msgpack::write_float(&mut number, 1_700_000_000.25);
        let at = 1_700_000_000 * NANOS;
        for (format, value, expected) in [
            (None, text("2023-11-15T07:13:20.5+09:00"), Some((at + NANOS / 2, 32_400))),
            (None, text("2023-11-14 22:13:20"), Some((at, 0))),
            (None, text("no time"), None),
            (None, vec![0xc0], None),
            (None, vec![0xce, 0x65, 0x53, 0xf1, 0x00], Some((at, 0))),
            (None, number, Some((at + NANOS / 4, 0))),
            (None, vec![0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], None),
            (Some("%s"), vec![0xce, 0x65, 0x53, 0xf1, 0x00], Some((at, 0))),
            (Some("%d/%b/%Y:%H:%M:%S %z"), text("14/Nov/2023:17:13:20 -0500"), Some((at, -18_000))),
            (Some("%d/%b/%Y"), text("2023-11-14"), None),
            (None, vec![0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ] {
            let field = FieldTime::new(format).unwrap();
            let read = field.read(&value, &mut FieldTimeCache::default());
            let shift = if matches!(value.first(), Some(0xce | 0xcb)) { None } else { Some(()) };
            match shift {
                // numbers pass through the machine's zone, whose offset they then have
                None => assert_eq!(read.map(|(at, _)| at), expected.map(|(at, _)| at)),
                Some(()) => assert_eq!(read, expected, "{format:?} {value:?}"),
            }
        }
    }

    #[test]
    fn other_offsets() {
        let mut dated = Dated::new("%Y-%m-%dT%H:%M:%S.%3N%:z", Some("UTC")).unwrap();
        let mut out = Vec::new();
        for offset in [0, 32_400, -12_600, -12_600] {
            dated.write_at(&mut out, 1_700_000_000_250_000_000, offset);
            out.push(b' ');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2023-11-14T22:13:20.250+00:00 2023-11-15T07:13:20.250+09:00 \
             2023-11-14T18:43:20.250-03:30 2023-11-14T18:43:20.250-03:30 "
        );
    }
}

//! Time zones: fixed offsets, and the tz database by jiff.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::calendar::civil_from_days;

/// A time zone as `timezone`, `utc` and `localtime` name it.
#[derive(Debug, Clone)]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    /// With transitions.
    Rules(TimeZone),
}

impl Zone {
    /// `None`: the machine's zone (`TZ`, else /etc/localtime). "+09:00", "+0900", "+09", "UTC", or a name
    /// of the tz database with a slash in it ("Asia/Tokyo"). Abbreviations such as PST are ambiguous and
    /// not accepted, as in Fluentd.
    ///
    /// # Errors
    /// A message that names the zone.
    pub fn new(name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name else {
            return Ok(Self::simplified(TimeZone::system()));
        };
        if let Some(offset) = numeric(name.as_bytes()) {
            return Ok(Zone::Fixed(offset));
        }
        if name.eq_ignore_ascii_case("utc") || name == "Z" {
            return Ok(Zone::Fixed(0));
        }
        let unknown =
            || format!("unknown timezone \"{name}\": expected +HH:MM, UTC or a name such as \"Asia/Tokyo\"");
        if !name.contains('/') {
            return Err(unknown());
        }
        TimeZone::get(name).map(Self::simplified).map_err(|_| unknown())
    }

    fn simplified(zone: TimeZone) -> Self {
        match zone.to_fixed_offset() {
            Ok(offset) => Zone::Fixed(offset.seconds()),
            Err(_) if zone.is_unknown() => Zone::Fixed(0),
            Err(_) => Zone::Rules(zone),
        }
    }

    /// Whether this is UTC itself.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        matches!(self, Zone::Fixed(0))
    }

    /// Seconds east of UTC at an instant (seconds since the epoch), and the zone's abbreviation there.
    #[must_use]
    pub fn at(&self, epoch: i64) -> (i32, String) {
        match self {
            Zone::Fixed(0) => (0, "UTC".to_owned()),
            Zone::Fixed(offset) => (*offset, String::new()),
            Zone::Rules(zone) => match Timestamp::from_second(epoch) {
                Ok(at) => {
                    let info = zone.to_offset_info(at);
                    (info.offset().seconds(), info.abbreviation().to_owned())
                }
                Err(_) => (0, "UTC".to_owned()),
            },
        }
    }

    /// Seconds east of UTC for wall-clock time, given as if it were UTC. In a gap the offset before it
    /// counts, in a fold the earlier instant.
    #[must_use]
    pub fn offset_for_local(&self, wall: i64) -> i32 {
        let zone = match self {
            Zone::Fixed(offset) => return *offset,
            Zone::Rules(zone) => zone,
        };
        let (year, month, day) = civil_from_days(wall.div_euclid(86_400));
        let second = wall.rem_euclid(86_400);
        let civil = i16::try_from(year).ok().and_then(|year| {
            let (hour, minute) = ((second / 3600) as i8, (second / 60 % 60) as i8);
            DateTime::new(year, month as i8, day as i8, hour, minute, (second % 60) as i8, 0).ok()
        });
        let at = civil.and_then(|civil| zone.to_ambiguous_timestamp(civil).compatible().ok());
        at.map_or(0, |at| (wall - at.as_second()) as i32)
    }
}

/// `+HH:MM`, `+HHMM`, `+HH` as seconds.
fn numeric(text: &[u8]) -> Option<i32> {
    let (sign, rest) = match text.first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let two = |at: usize| -> Option<i32> {
        let pair = rest.get(at..at + 2)?;
        let digits = pair.iter().all(u8::is_ascii_digit);
        digits.then(|| i32::from(pair[0] - b'0') * 10 + i32::from(pair[1] - b'0'))
    };
    let minutes = match rest.len() {
        2 => 0,
        4 => two(2)?,
        5 if rest[2] == b':' => two(3)?,
        _ => return None,
    };
    let hours = two(0)?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Seconds east of UTC for a zone name in a text, as Ruby's `Time.zone_offset` knows them.
pub fn named_offset(name: &[u8]) -> Option<i32> {
    let hours = match name.to_ascii_uppercase().as_slice() {
        b"UTC" | b"UT" | b"GMT" | b"Z" => 0,
        b"EST" | b"CDT" => -5,
        b"EDT" => -4,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        [letter @ b'A'..=b'I'] => i32::from(letter - b'A') + 1,
        [letter @ b'K'..=b'M'] => i32::from(letter - b'K') + 10,
        [letter @ b'N'..=b'Y'] => -(i32::from(letter - b'N') + 1),
        _ => return None,
    };
    Some(hours * 3600)
}

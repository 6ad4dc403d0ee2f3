//! Times: moments with a zone, and their formats.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::eval::Given;
use super::node::{Method, Operator};
use super::{Env, Raised, Value};
use crate::time::TimeFormatter;

const SECOND: i128 = 1_000_000_000;

/// In which zone a time is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneOf {
    /// The machine's.
    Local,
    /// UTC.
    Utc,
    /// Seconds east of UTC.
    Offset(i32),
}

/// A Time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since the epoch.
    pub ns: i64,
    /// Its zone.
    pub zone: ZoneOf,
}

/// Compiled formats, each with its zone.
#[derive(Default)]
pub struct Clocks {
    known: Vec<(Key, ZoneOf, TimeFormatter)>,
}

/// Number of a format in the expression, or one of those that methods use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Slot(usize),
    Own(&'static str),
}

/// Zones of offsets are as many as events say: those beyond are not kept.
const MOST_CLOCKS: usize = 64;

impl Clocks {
    /// Appends a moment in the format of that number.
    pub fn write(&mut self, slot: usize, format: &str, moment: Moment, out: &mut Vec<u8>) {
        self.write_by(Key::Slot(slot), format, moment, out);
    }

    fn own(&mut self, format: &'static str, moment: Moment, out: &mut Vec<u8>) {
        self.write_by(Key::Own(format), format, moment, out);
    }

    fn write_by(&mut self, key: Key, format: &str, moment: Moment, out: &mut Vec<u8>) {
        let known = self.known.iter().position(|(other, zone, _)| *other == key && *zone == moment.zone);
        let at = match known {
            Some(at) => at,
            None => {
                let name = match moment.zone {
                    ZoneOf::Local => None,
                    ZoneOf::Utc => Some("UTC".to_owned()),
                    ZoneOf::Offset(seconds) => Some(offset_text(seconds)),
                };
                let Ok(made) = TimeFormatter::new(Some(format), name.as_deref()) else { return };
                if self.known.len() >= MOST_CLOCKS {
                    self.known.clear();
                }
                self.known.push((key, moment.zone, made));
                self.known.len() - 1
            }
        };
        self.known[at].2.write(out, moment.ns);
    }

    /// Appends `Time#to_s`.
    pub fn write_to_s(&mut self, moment: Moment, out: &mut Vec<u8>) {
        let format =
            if moment.zone == ZoneOf::Utc { "%Y-%m-%d %H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S %z" };
        self.own(format, moment, out);
    }
}

fn offset_text(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let size = seconds.unsigned_abs();
    format!("{sign}{:02}:{:02}", size / 3600, size / 60 % 60)
}

/// `Time.now`
pub fn now<'a>() -> Value<'a> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Value::Time(Moment { ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), zone: ZoneOf::Local })
}

/// A number of seconds in nanoseconds, rounded down.
fn nanoseconds(value: &Value<'_>) -> Result<i128, Raised> {
    match value {
        Value::Int(seconds) if seconds.abs() < 1 << 60 => Ok(seconds * SECOND),
        Value::Float(seconds) if seconds.abs() < 1e18 => {
            let whole = seconds.floor();
            Ok(whole as i128 * SECOND + ((seconds - whole) * 1e9).floor() as i128)
        }
        Value::Int(_) | Value::Float(_) => Err(out_of_range()),
        other => {
            let name = other.conversion_name();
            Err(Raised(format!("TypeError: can't convert {name} into an exact number")))
        }
    }
}

fn out_of_range() -> Raised {
    Raised("RangeError: a time beyond the years 1677 to 2262".to_owned())
}

fn moment<'a>(ns: i128, zone: ZoneOf) -> Result<Value<'a>, Raised> {
    i64::try_from(ns).map(|ns| Value::Time(Moment { ns, zone })).map_err(|_| out_of_range())
}

/// `Time.at(x)`
pub fn at<'a>(value: &Value<'_>) -> Result<Value<'a>, Raised> {
    match value {
        Value::Time(moment) => Ok(Value::Time(*moment)),
        other => moment(nanoseconds(other)?, ZoneOf::Local),
    }
}

/// `time + seconds`, `time - seconds`, `time - time`
pub fn moved<'a>(time: Moment, operator: Operator, by: &Value<'_>) -> Result<Value<'a>, Raised> {
    match (by, operator) {
        (Value::Time(other), Operator::Subtract) => {
            Ok(Value::Float((i128::from(time.ns) - i128::from(other.ns)) as f64 / 1e9))
        }
        (Value::Time(_), _) => Err(Raised("TypeError: time + time?".to_owned())),
        (_, Operator::Subtract) => moment(i128::from(time.ns) - nanoseconds(by)?, time.zone),
        _ => moment(i128::from(time.ns) + nanoseconds(by)?, time.zone),
    }
}

/// Methods of times.
pub fn call<'a>(
    time: Moment,
    method: Method,
    arguments: &[Given<'a>],
    env: &mut Env<'a, '_>,
) -> Result<Option<Value<'a>>, Raised> {
    let own = |format: &'static str, env: &mut Env<'a, '_>| {
        let mut out = Vec::new();
        env.memory.clocks.own(format, time, &mut out);
        out
    };
    let format = match method {
        Method::Inspect => {
            let mut out = own("%Y-%m-%d %H:%M:%S", env);
            let nanos = i128::from(time.ns).rem_euclid(SECOND);
            if nanos > 0 {
                out.extend_from_slice(format!(".{nanos:09}").trim_end_matches('0').as_bytes());
            }
            let zone = own(if time.zone == ZoneOf::Utc { " UTC" } else { " %z" }, env);
            out.extend_from_slice(&zone);
            return Ok(Some(Value::Text(Cow::Owned(out))));
        }
        Method::ToI => return Ok(Some(Value::Int(i128::from(time.ns).div_euclid(SECOND)))),
        Method::ToF => return Ok(Some(Value::Float(time.ns as f64 / 1e9))),
        Method::Nanoseconds => return Ok(Some(Value::Int(i128::from(time.ns).rem_euclid(SECOND)))),
        Method::Microseconds => return Ok(Some(Value::Int(i128::from(time.ns).rem_euclid(SECOND) / 1000))),
        Method::Utc => return Ok(Some(Value::Time(Moment { zone: ZoneOf::Utc, ..time }))),
        Method::Localtime => {
            let zone = match arguments {
                [] => ZoneOf::Local,
                [zone, ..] => zone_of(zone.value()?)?,
            };
            return Ok(Some(Value::Time(Moment { zone, ..time })));
        }
        Method::Iso8601 => {
            let digits = match arguments {
                [] => 0,
                [digits, ..] => digits.int()?,
            };
            let mut out = own("%Y-%m-%dT%H:%M:%S", env);
            if digits > 0 {
                out.push(b'.');
                let fraction = format!("{:09}", i128::from(time.ns).rem_euclid(SECOND));
                let digits = usize::try_from(digits).unwrap_or(0).min(100);
                out.extend(fraction.bytes().chain(std::iter::repeat(b'0')).take(digits));
            }
            if time.zone == ZoneOf::Utc {
                out.push(b'Z');
            } else {
                out.append(&mut own("%:z", env));
            }
            return Ok(Some(Value::Text(Cow::Owned(out))));
        }
        Method::UtcOffset => {
            let text = own("%::z", env);
            let part = |at: usize| i128::from(text[at] - b'0') * 10 + i128::from(text[at + 1] - b'0');
            let size = part(1) * 3600 + part(4) * 60 + part(7);
            return Ok(Some(Value::Int(if text[0] == b'-' { -size } else { size })));
        }
        Method::Year => "%Y",
        Method::Month => "%-m",
        Method::Day => "%-d",
        Method::Hour => "%-H",
        Method::Min => "%-M",
        Method::Second => "%-S",
        Method::Weekday => "%w",
        Method::DayOfYear => "%-j",
        _ => return Ok(None),
    };
    let text = own(format, env);
    Ok(std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).map(Value::Int))
}

/// `"+09:00"`, `"UTC"`, `"Z"`, or seconds.
fn zone_of(value: &Value<'_>) -> Result<ZoneOf, Raised> {
    let wrong = |shown: &str| {
        Raised(format!(
            "ArgumentError: \"+HH:MM\", \"-HH:MM\", \"UTC\" or \"A\"..\"I\",\"K\"..\"Z\" expected for utc_offset: {shown}"
        ))
    };
    match value {
        Value::Int(seconds) => i32::try_from(*seconds)
            .ok()
            .filter(|seconds| seconds.abs() < 86_400)
            .map(ZoneOf::Offset)
            .ok_or_else(|| Raised("ArgumentError: utc_offset out of range".to_owned())),
        Value::Text(text) => {
            let shown = String::from_utf8_lossy(text);
            match (shown.as_bytes(), shown.get(1..3), shown.get(4..6)) {
                (b"UTC" | b"Z", ..) => Ok(ZoneOf::Utc),
                (&[sign @ (b'+' | b'-'), _, _, b':', _, _], Some(hours), Some(minutes)) => {
                    let two = |text: &str| {
                        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                        text.parse::<i32>().ok().filter(|_| digits)
                    };
                    match (two(hours), two(minutes)) {
                        (Some(hours), Some(minutes)) if hours < 24 && minutes < 60 => {
                            let size = hours * 3600 + minutes * 60;
                            Ok(ZoneOf::Offset(if sign == b'-' { -size } else { size }))
                        }
                        _ => Err(wrong(&shown)),
                    }
                }
                _ => Err(wrong(&shown)),
            }
        }
        other => Err(other.no_conversion("exact number")),
    }
}

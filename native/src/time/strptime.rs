//! strptime with Ruby's directives.
//!
//! Fluentd reads a format with the `strptime` gem where that knows all its directives and with Ruby's
//! `Time.strptime` where not; the two differ in small things: zones, padding, how many digits a year or a
//! fraction may have. Both ignore what follows the matched text.
//! White space in a format stands for any amount of it, none included. `%3N`, `%6N` and `%9N` (which
//! Ruby knows only for output) read at most so many digits.

use super::calendar::{day_name, month_by_name};
use super::resolve::Fields;
use super::zone::named_offset;

#[derive(Debug, Clone, PartialEq)]
enum Op {
    Literal(Box<[u8]>),
    Byte(u8),
    Space,
    /// At most so many digits.
    Year(usize),
    Year2,
    Month,
    MonthName,
    DayName,
    Day,
    /// A space may stand for the first digit.
    DayPadded,
    DayOfYear,
    /// Up to 23.
    Hour,
    /// Up to 24; a space may stand for the first digit.
    HourPadded,
    Hour12,
    Minute,
    Second,
    /// Digits, at most so many.
    Fraction(usize),
    /// `%L` before it is known what follows.
    Millis,
    /// As Fraction, behind a sign.
    SignedFraction(usize),
    AmPm,
    Epoch,
    EpochMillis,
    /// As the gem reads one: digits with or without a sign; a Z is left where it is.
    Offset,
    /// As Ruby reads one: names too.
    Zone,
    /// The same, read over.
    IgnoredZone,
    Century,
    /// Digits of a directive that says nothing about the time when a date is given (week numbers).
    Ignored(usize),
    /// The same for a number of a week or its year, from which alone no time is made.
    Week(usize),
}

/// A compiled format.
#[derive(Debug, Clone)]
pub struct Program {
    ops: Vec<Op>,
    /// Whether only directives of the strptime gem are in it: hours end at 23 then.
    gem: bool,
}

impl Program {
    /// Whether Ruby's strptime gem knows all directives.
    pub fn is_gem(&self) -> bool {
        self.gem
    }

    /// Compiles.
    ///
    /// # Errors
    /// A message that names the unknown directive.
    pub fn new(format: &str) -> Result<Self, String> {
        let mut ops = Vec::new();
        let mut gem = true;
        compile(format.as_bytes(), format, &mut ops, &mut gem)?;
        if !gem {
            as_ruby(&mut ops);
        }
        let dated =
            |op: &Op| matches!(op, Op::Month | Op::MonthName | Op::DayOfYear | Op::Epoch | Op::EpochMillis);
        if ops.iter().any(|op| matches!(op, Op::Week(_))) && !ops.iter().any(dated) {
            return Err(format!("time format \"{format}\" has a week but no month: it gives no date"));
        }
        Ok(Program { ops, gem })
    }

    /// For a configured zone. Fluentd looks for `%z` and `%Z` alone to see whether a text has its own; where
    /// that stands in another form (`%:z`, `%+`) the configured one counts.
    pub fn in_zone(mut self, format: &str) -> Self {
        if !format.contains("%z") && !format.contains("%Z") {
            for op in self.ops.iter_mut().filter(|op| **op == Op::Zone) {
                *op = Op::IgnoredZone;
            }
        }
        self
    }

    /// The parts of `text`; None where it does not fit.
    #[inline]
    pub fn run(&self, text: &[u8]) -> Option<Fields> {
        let mut fields = Fields { present: self.gem, ..Fields::default() };
        let mut at = 0;
        for op in &self.ops {
            match op {
                Op::Byte(byte) => {
                    if text.get(at) != Some(byte) {
                        return None;
                    }
                    at += 1;
                }
                Op::Literal(literal) => {
                    if !text.get(at..)?.starts_with(literal) {
                        return None;
                    }
                    at += literal.len();
                }
                Op::Space => {
                    while text.get(at).is_some_and(is_space) {
                        at += 1;
                    }
                }
                Op::Day => fields.day = two(text, &mut at, 1, 31)?,
                Op::DayPadded => fields.day = padded(text, &mut at, 1, 31)?,
                Op::Hour => fields.hour = Some(two(text, &mut at, 0, 23)?),
                Op::HourPadded => fields.hour = Some(padded(text, &mut at, 0, 24)?),
                Op::Minute => fields.minute = Some(two(text, &mut at, 0, 59)?),
                Op::Second => fields.second = Some(two(text, &mut at, 0, 60)?),
                Op::Month => fields.month = two(text, &mut at, 1, 12)?,
                Op::MonthName => {
                    let (month, len) = month_by_name(text.get(at..)?)?;
                    fields.month = month;
                    at += len;
                }
                Op::Year(width) => {
                    let negative = sign(text, &mut at);
                    let year = i32::try_from(digits(text, &mut at, *width)?).ok()?;
                    fields.year = Some(if negative { -year } else { year });
                }
                Op::Fraction(width) => fields.nanos = Some(i64::from(fraction(text, &mut at, *width)?)),
                Op::Offset => {
                    let (offset, len) = gem_offset(text.get(at..)?)?;
                    fields.zone = Some(Some(offset));
                    at += len;
                }
                Op::Zone => {
                    let len = zone(text.get(at..)?)?;
                    fields.zone = Some(zone_offset(&text[at..at + len]));
                    at += len;
                }
                other => rare(other, text, &mut at, &mut fields)?,
            }
        }
        Some(fields)
    }
}

#[cold]
fn rare(op: &Op, text: &[u8], at: &mut usize, fields: &mut Fields) -> Option<()> {
    match op {
        Op::Year2 => {
            let year = digits(text, at, 2)? as i32;
            fields.year = Some(year + if year < 69 { 2000 } else { 1900 });
        }
        Op::DayName => *at += day_name(text.get(*at..)?)?,
        Op::DayOfYear => {
            let day = digits(text, at, 3)?;
            fields.day_of_year = (1..=366).contains(&day).then_some(day as u16)?;
        }
        Op::Hour12 => fields.hour = Some(padded(text, at, 1, 12)?),
        Op::AmPm => {
            let rest = text.get(*at..)?;
            let dotted = rest.len() >= 4 && rest[1] == b'.' && rest[3] == b'.';
            let second = *rest.get(if dotted { 2 } else { 1 })?;
            fields.pm = match (rest[0] | 0x20, second | 0x20) {
                (b'a', b'm') => Some(false),
                (b'p', b'm') => Some(true),
                _ => return None,
            };
            *at += if dotted { 4 } else { 2 };
        }
        Op::Epoch | Op::EpochMillis => {
            let negative = sign(text, at);
            let value = i64::try_from(digits(text, at, usize::MAX)?).ok()?;
            let unit = if *op == Op::Epoch { 1_000_000_000 } else { 1_000_000 };
            fields.epoch_ns = Some((if negative { -value } else { value }).saturating_mul(unit));
        }
        Op::SignedFraction(width) => {
            let negative = sign(text, at);
            let nanos = i64::from(fraction(text, at, *width)?);
            fields.nanos = Some(if negative { -nanos } else { nanos });
        }
        Op::Century => fields.century = Some(digits(text, at, 2)? as i32),
        Op::IgnoredZone => *at += zone(text.get(*at..)?)?,
        Op::Ignored(width) | Op::Week(width) => {
            digits(text, at, *width)?;
        }
        _ => return None,
    }
    Some(())
}

fn compile(format: &[u8], whole: &str, ops: &mut Vec<Op>, gem: &mut bool) -> Result<(), String> {
    let mut at = 0;
    while let Some(&byte) = format.get(at) {
        at += 1;
        if is_space(&byte) {
            if ops.last() != Some(&Op::Space) {
                ops.push(Op::Space);
            }
            continue;
        }
        if byte != b'%' {
            literal(ops, byte);
            continue;
        }
        // flags and width, which Ruby has for output only, except E, O and colons
        let start = at;
        while format.get(at).is_some_and(|flag| b"-0^#_:EO".contains(flag) || flag.is_ascii_digit()) {
            at += 1;
        }
        let flags = &format[start..at];
        let Some(&directive) = format.get(at) else {
            return Err(format!("time format \"{whole}\" ends inside a directive"));
        };
        at += 1;
        let width = std::str::from_utf8(flags).ok().and_then(|flags| {
            flags.trim_start_matches(['-', '^', '#', '_', ':', 'E', 'O']).parse::<usize>().ok()
        });
        if !flags.is_empty() || !b"BHMNSYbdehmnyz".contains(&directive) {
            *gem = false;
        }
        let expand = |text: &[u8], ops: &mut Vec<Op>, gem: &mut bool| compile(text, whole, ops, gem);
        match directive {
            b'Y' => ops.push(Op::Year(4)),
            b'C' => ops.push(Op::Century),
            b'y' => ops.push(Op::Year2),
            b'm' => ops.push(Op::Month),
            b'B' | b'b' | b'h' => ops.push(Op::MonthName),
            b'A' | b'a' => ops.push(Op::DayName),
            b'd' | b'e' => ops.push(Op::Day),
            b'j' => ops.push(Op::DayOfYear),
            b'H' | b'k' => ops.push(Op::Hour),
            b'I' | b'l' => ops.push(Op::Hour12),
            b'M' => ops.push(Op::Minute),
            b'S' => ops.push(Op::Second),
            b'L' if width.is_none() => ops.push(Op::Millis),
            b'L' | b'N' => ops.push(Op::Fraction(width.filter(|width| *width > 0).unwrap_or(9))),
            b'p' | b'P' => ops.push(Op::AmPm),
            b's' => ops.push(Op::Epoch),
            b'Q' => ops.push(Op::EpochMillis),
            b'z' => ops.push(Op::Offset),
            b'Z' => ops.push(Op::Zone),
            b'u' | b'w' => ops.push(Op::Ignored(1)),
            b'U' | b'V' | b'W' | b'g' => ops.push(Op::Week(2)),
            b'G' => ops.push(Op::Week(4)),
            b'n' | b't' => ops.push(Op::Space),
            b'%' => literal(ops, b'%'),
            b'D' | b'x' => expand(b"%m/%d/%y", ops, gem)?,
            b'F' => expand(b"%Y-%m-%d", ops, gem)?,
            b'T' | b'X' => expand(b"%H:%M:%S", ops, gem)?,
            b'R' => expand(b"%H:%M", ops, gem)?,
            b'r' => expand(b"%I:%M:%S %p", ops, gem)?,
            b'c' => expand(b"%a %b %e %H:%M:%S %Y", ops, gem)?,
            b'v' => expand(b"%e-%b-%Y", ops, gem)?,
            b'+' => expand(b"%a %b %e %H:%M:%S %Z %Y", ops, gem)?,
            _ => {
                return Err(format!(
                    "unknown directive \"%{}\" at character {} of time format \"{whole}\"",
                    String::from_utf8_lossy(&format[start..at]),
                    start
                ));
            }
        }
    }
    Ok(())
}

/// The forms that `Time.strptime` has of what the gem knows too. It reads any number of digits for `%Y`, `%N`
/// and `%L` where no digit can follow.
fn as_ruby(ops: &mut [Op]) {
    for index in 0..ops.len() {
        let number_next = match ops.get(index + 1) {
            None | Some(Op::Space | Op::MonthName | Op::DayName | Op::AmPm | Op::Offset | Op::Zone) => false,
            Some(Op::Byte(byte)) => byte.is_ascii_digit(),
            Some(Op::Literal(literal)) => literal[0].is_ascii_digit(),
            Some(_) => true,
        };
        let most = |width: usize| if number_next { width } else { usize::MAX };
        ops[index] = match ops[index] {
            Op::Year(width) => Op::Year(most(width)),
            Op::Fraction(9) => Op::SignedFraction(most(9)),
            Op::Millis => Op::SignedFraction(most(3)),
            Op::Day => Op::DayPadded,
            Op::Hour => Op::HourPadded,
            Op::Offset => Op::Zone,
            _ => continue,
        };
    }
}

fn literal(ops: &mut Vec<Op>, byte: u8) {
    match ops.last_mut() {
        Some(Op::Byte(first)) => {
            let joined = Box::new([*first, byte]);
            if let Some(last) = ops.last_mut() {
                *last = Op::Literal(joined);
            }
        }
        Some(Op::Literal(literal)) => {
            let mut longer = literal.to_vec();
            longer.push(byte);
            *literal = longer.into();
        }
        _ => ops.push(Op::Byte(byte)),
    }
}

#[inline]
pub(super) fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// One or two digits within bounds.
#[inline]
fn two(text: &[u8], at: &mut usize, least: u8, most: u8) -> Option<u8> {
    let mut value = text.get(*at)?.wrapping_sub(b'0');
    if value > 9 {
        return None;
    }
    *at += 1;
    if let Some(next) = text.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        value = value * 10 + next;
        *at += 1;
    }
    (least..=most).contains(&value).then_some(value)
}

/// The same, where a space may stand for the first digit.
#[inline]
fn padded(text: &[u8], at: &mut usize, least: u8, most: u8) -> Option<u8> {
    if text.get(*at) != Some(&b' ') {
        return two(text, at, least, most);
    }
    let digit = text.get(*at + 1)?.wrapping_sub(b'0');
    *at += 2;
    (digit <= 9 && (least..=most).contains(&digit)).then_some(digit)
}

/// Takes a sign; whether it is a minus.
#[inline]
fn sign(text: &[u8], at: &mut usize) -> bool {
    let sign = text.get(*at);
    *at += usize::from(matches!(sign, Some(b'-' | b'+')));
    sign == Some(&b'-')
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// One to `width` digits; more than eighteen digits saturate.
#[inline]
pub(super) fn digits(text: &[u8], at: &mut usize, width: usize) -> Option<u64> {
    let mut value = 0u64;
    let start = *at;
    while *at - start < width {
        match text.get(*at).map(|byte| byte.wrapping_sub(b'0')) {
            Some(digit) if digit <= 9 => value = value.saturating_mul(10).saturating_add(u64::from(digit)),
            _ => break,
        }
        *at += 1;
    }
    (*at > start).then_some(value)
}

/// Digits of a fraction as nanoseconds; those beyond the ninth are read and thrown away.
#[inline]
pub(super) fn fraction(text: &[u8], at: &mut usize, width: usize) -> Option<u32> {
    let start = *at;
    let mut value = 0u32;
    let mut scale = 1_000_000_000u32;
    while *at - start < width {
        match text.get(*at).map(|byte| byte.wrapping_sub(b'0')) {
            Some(digit) if digit <= 9 => {
                if scale > 1 {
                    value = value * 10 + u32::from(digit);
                    scale /= 10;
                }
            }
            _ => break,
        }
        *at += 1;
    }
    (*at > start).then_some(value * scale)
}

/// What the gem takes for a zone: (seconds east of UTC, length).
#[inline]
fn gem_offset(text: &[u8]) -> Option<(i32, usize)> {
    if matches!(text.first(), Some(b'z' | b'Z')) {
        return Some((0, 0));
    }
    let mut at = 0;
    let negative = sign(text, &mut at);
    let mut minutes = digits(text, &mut at, 2)? as i32 * 60;
    at += usize::from(text.get(at) == Some(&b':'));
    minutes += digits(text, &mut at, 2).unwrap_or(0) as i32;
    within_a_day(if negative { -minutes * 60 } else { minutes * 60 }).map(|offset| (offset, at))
}

/// How long the zone is that `text` starts with, by Ruby's rules for dates: a number with a sign, also behind
/// GMT or UTC; a name; a name with `standard time`, `daylight time` or `DST` behind it.
pub(super) fn zone(text: &[u8]) -> Option<usize> {
    let starts = |at: usize, word: &[u8]| {
        text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word))
    };
    let prefix = [&b"gmt"[..], b"utc", b"ut", b""].into_iter().find(|word| starts(0, word))?.len();
    if matches!(text.get(prefix), Some(b'-' | b'+')) {
        let mut at = prefix + 1;
        if digits(text, &mut at, usize::MAX).is_some() {
            for separators in [&b",.:"[..], b":"] {
                let mut behind = at + 1;
                if !text.get(at).is_some_and(|byte| separators.contains(byte))
                    || digits(text, &mut behind, usize::MAX).is_none()
                {
                    break;
                }
                at = behind;
            }
            return Some(at);
        }
    }
    let ends = |at: usize| !text.get(at).is_some_and(is_word);
    let spaces = |at: usize| at + text[at..].iter().take_while(|byte| is_space(byte)).count();
    let run = text.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'.' || is_space(byte));
    let long = (1..run.count()).rev().find_map(|at| {
        let word = [&b"standard"[..], b"daylight"].into_iter().find(|word| starts(at, word))?;
        let time = spaces(at + word.len());
        let behind = time + b"time".len();
        (time > at + word.len() && starts(time, b"time") && ends(behind)).then_some(behind)
    });
    if long.is_some() {
        return long;
    }
    let name = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let summer = spaces(name);
    let behind = summer + b"dst".len();
    if name > 0 && summer > name && starts(summer, b"dst") && ends(behind) {
        return Some(behind);
    }
    (name > 0 && ends(name)).then_some(name)
}

/// Seconds east of UTC of a zone, as Ruby's `Time.zone_offset` knows them. None: it does not know it, so that
/// the time is taken as local.
pub(super) fn zone_offset(zone: &[u8]) -> Option<i32> {
    let negative = match zone.first()? {
        b'-' => true,
        b'+' => false,
        _ => return named_offset(zone),
    };
    let rest = &zone[1..];
    let colon = rest.get(2) == Some(&b':');
    let parts: Vec<&[u8]> =
        if colon { rest.split(|byte| *byte == b':').collect() } else { rest.chunks(2).collect() };
    if !(1..=3).contains(&parts.len()) {
        return None;
    }
    let mut seconds = 0;
    for (part, unit) in parts.iter().zip([3600, 60, 1]) {
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = part else { return None };
        seconds += (i32::from(tens - b'0') * 10 + i32::from(ones - b'0')) * unit;
    }
    Some(if negative { -seconds } else { seconds })
}

/// An offset of a day or more is an error in Ruby.
pub(super) fn within_a_day(offset: i32) -> Option<i32> {
    (offset.abs() < 86_400).then_some(offset)
}

//! strptime with Ruby's directives.
//!
//! Fluentd reads a format with the `strptime` gem where that knows all its directives and with Ruby's
//! `Time.strptime` where not; the two differ in small things. Both ignore what follows the matched text.
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
    DayOfYear,
    Hour,
    Hour12,
    Minute,
    Second,
    Fraction(usize),
    AmPm,
    Epoch,
    EpochMillis,
    Offset,
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
        let dated =
            |op: &Op| matches!(op, Op::Month | Op::MonthName | Op::DayOfYear | Op::Epoch | Op::EpochMillis);
        if ops.iter().any(|op| matches!(op, Op::Week(_))) && !ops.iter().any(dated) {
            return Err(format!("time format \"{format}\" has a week but no month: it gives no date"));
        }
        if !gem {
            widen(&mut ops);
        }
        Ok(Program { ops, gem })
    }

    /// The parts of `text`; None where it does not fit.
    #[inline]
    pub fn run(&self, text: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
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
                Op::Day => fields.day = padded(text, &mut at, 1, 31)?,
                Op::Hour => fields.hour = Some(padded(text, &mut at, 0, if self.gem { 23 } else { 24 })?),
                Op::Minute => fields.minute = Some(two(text, &mut at, 0, 59)?),
                Op::Second => fields.second = Some(two(text, &mut at, 0, 60)?),
                Op::Month => fields.month = two(text, &mut at, 1, 12)?,
                Op::MonthName => {
                    let (month, len) = month_by_name(text.get(at..)?)?;
                    fields.month = month;
                    at += len;
                }
                Op::Year(width) => {
                    let negative = match text.get(at)? {
                        b'-' => {
                            at += 1;
                            true
                        }
                        b'+' => {
                            at += 1;
                            false
                        }
                        _ => false,
                    };
                    let year = digits(text, &mut at, *width)? as i32;
                    fields.year = Some(if negative { -year } else { year });
                }
                Op::Fraction(width) => fields.nanos = fraction(text, &mut at, *width)?,
                Op::Offset => {
                    let (offset, len) = offset(text.get(at..)?)?;
                    fields.offset = offset;
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
            let negative = text.get(*at) == Some(&b'-');
            *at += usize::from(negative);
            let value = digits(text, at, 18)? as i64;
            let unit = if *op == Op::Epoch { 1_000_000_000 } else { 1_000_000 };
            fields.epoch_ns = Some((if negative { -value } else { value }).checked_mul(unit)?);
        }
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
            b'C' => ops.push(Op::Ignored(2)),
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
            b'L' | b'N' => ops.push(Op::Fraction(width.filter(|width| *width > 0).unwrap_or(9))),
            b'p' | b'P' => ops.push(Op::AmPm),
            b's' => ops.push(Op::Epoch),
            b'Q' => ops.push(Op::EpochMillis),
            b'z' | b'Z' => ops.push(Op::Offset),
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

/// `Time.strptime` reads any number of digits for `%Y`, `%N` and `%L` where no digit can follow.
fn widen(ops: &mut [Op]) {
    for index in 0..ops.len() {
        let number_next = match ops.get(index + 1) {
            None | Some(Op::Space | Op::MonthName | Op::DayName | Op::AmPm | Op::Offset) => false,
            Some(Op::Byte(byte)) => byte.is_ascii_digit(),
            Some(Op::Literal(literal)) => literal[0].is_ascii_digit(),
            Some(_) => true,
        };
        match &mut ops[index] {
            Op::Year(width) if !number_next => *width = 9,
            Op::Fraction(width) if *width == 9 && !number_next => *width = usize::MAX,
            _ => {}
        }
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
    if text.get(*at) == Some(&b' ') {
        *at += 1;
    }
    two(text, at, least, most)
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

/// A zone in a text: (seconds east of UTC, length). `Z`, `+09:00`, `+0900`, `+9`, `09`, `UTC+9`, `EST`;
/// an unknown name says nothing, as in Ruby.
#[inline]
pub(super) fn offset(text: &[u8]) -> Option<(Option<i32>, usize)> {
    let first = *text.first()?;
    let mut at = 0;
    if first.is_ascii_alphabetic() {
        while text.get(at).is_some_and(u8::is_ascii_alphabetic) {
            at += 1;
        }
        let name = &text[..at];
        let utc = [&b"utc"[..], b"gmt", b"ut"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if !(utc && matches!(text.get(at), Some(b'+' | b'-'))) {
            return Some((named_offset(name), at));
        }
    }
    let negative = text.get(at) == Some(&b'-');
    at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
    let hours = digits(text, &mut at, 2)? as i32;
    let mut behind = at + usize::from(text.get(at) == Some(&b':'));
    let mut seconds = hours * 3600;
    for unit in [60, 1] {
        let Some(value) = digits(text, &mut behind, 2) else { break };
        seconds += value as i32 * unit;
        at = behind;
        if text.get(at) != Some(&b':') {
            break;
        }
        behind += 1;
    }
    Some((Some(if negative { -seconds } else { seconds }), at))
}

//! strftime with Ruby's directives, flags and widths.

use super::calendar::{DAYS, MONTHS, civil_from_days, days_from_civil};
use super::zone::Zone;

#[derive(Debug, Clone)]
enum Op {
    Literal(Vec<u8>),
    /// A directive with its flags.
    Directive {
        letter: u8,
        width: usize,
        padding: Padding,
        upper: bool,
        colons: u8,
    },
    /// Fraction of a second to so many digits.
    Fraction(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    Usual,
    None,
    Zero,
    Space,
}

/// A compiled strftime format with its zone, for output; caches what does not change within a second.
#[derive(Debug, Clone)]
pub struct TimeFormatter {
    ops: Vec<Op>,
    zone: Zone,
    second: i64,
    /// The text for `second`, with zeros where fractions go.
    text: Vec<u8>,
    /// (where, digits) of the fractions.
    fractions: Vec<(usize, usize)>,
}

struct Parts {
    epoch: i64,
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    weekday: u8,
    day_of_year: u16,
    offset: i32,
    zone: String,
}

impl TimeFormatter {
    /// Compiles. `format` None: ISO 8601 (`2023-11-14T22:13:20+00:00`; with a `Z` where `zone` is "UTC").
    /// As in Ruby, what is no directive stands for itself.
    ///
    /// # Errors
    /// A message that names the unknown zone.
    pub fn new(format: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        let iso = if zone.is_some_and(|zone| zone.eq_ignore_ascii_case("utc")) {
            "%Y-%m-%dT%H:%M:%SZ"
        } else {
            "%Y-%m-%dT%H:%M:%S%:z"
        };
        let mut ops = Vec::new();
        compile(format.unwrap_or(iso).as_bytes(), &mut ops);
        Ok(TimeFormatter {
            ops,
            zone: Zone::new(zone)?,
            second: i64::MIN,
            text: Vec::new(),
            fractions: Vec::new(),
        })
    }

    /// Appends the formatted time.
    pub fn write(&mut self, out: &mut Vec<u8>, time_ns: i64) {
        let second = time_ns.div_euclid(1_000_000_000);
        if second != self.second {
            self.render(second);
            self.second = second;
        }
        let start = out.len();
        out.extend_from_slice(&self.text);
        for (at, width) in &self.fractions {
            let mut nanos = time_ns.rem_euclid(1_000_000_000) as u32;
            let mut digits = [b'0'; 9];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (nanos % 10) as u8;
                nanos /= 10;
            }
            let known = (*width).min(9);
            out[start + at..start + at + known].copy_from_slice(&digits[..known]);
        }
    }

    fn render(&mut self, epoch: i64) {
        let (offset, zone) = self.zone.at(epoch);
        let wall = epoch + i64::from(offset);
        let days = wall.div_euclid(86_400);
        let clock = wall.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        let parts = Parts {
            epoch,
            year,
            month,
            day,
            hour: (clock / 3600) as u8,
            minute: (clock / 60 % 60) as u8,
            second: (clock % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            day_of_year: (days - days_from_civil(year as i32, 1, 1) + 1) as u16,
            offset,
            zone,
        };
        self.text.clear();
        self.fractions.clear();
        for op in &self.ops {
            match op {
                Op::Literal(literal) => self.text.extend_from_slice(literal),
                Op::Fraction(width) => {
                    self.fractions.push((self.text.len(), *width));
                    self.text.resize(self.text.len() + width, b'0');
                }
                Op::Directive { letter, width, padding, upper, colons } => {
                    directive(&mut self.text, &parts, *letter, *width, *padding, *upper, *colons);
                }
            }
        }
    }
}

fn compile(format: &[u8], ops: &mut Vec<Op>) {
    let mut at = 0;
    let literal = |ops: &mut Vec<Op>, bytes: &[u8]| match ops.last_mut() {
        Some(Op::Literal(text)) => text.extend_from_slice(bytes),
        _ => ops.push(Op::Literal(bytes.to_vec())),
    };
    while at < format.len() {
        let start = at;
        at += 1;
        if format[start] != b'%' {
            literal(ops, &format[start..at]);
            continue;
        }
        let (mut padding, mut upper, mut colons, mut width) = (Padding::Usual, false, 0u8, 0usize);
        while let Some(flag) = format.get(at) {
            match flag {
                b'-' => padding = Padding::None,
                b'0' if width == 0 => padding = Padding::Zero,
                b'_' => padding = Padding::Space,
                b'^' | b'#' => upper = true,
                b':' => colons += 1,
                b'0'..=b'9' => width = (width * 10 + usize::from(flag - b'0')).min(1024),
                b'E' | b'O' => {}
                _ => break,
            }
            at += 1;
        }
        let Some(&letter) = format.get(at) else {
            literal(ops, &format[start..]);
            return;
        };
        at += 1;
        let mut expand = |text: &[u8]| compile(text, ops);
        match letter {
            b'N' => ops.push(Op::Fraction(if width == 0 { 9 } else { width })),
            b'L' => ops.push(Op::Fraction(if width == 0 { 3 } else { width })),
            b'D' | b'x' => expand(b"%m/%d/%y"),
            b'F' => expand(b"%Y-%m-%d"),
            b'T' | b'X' => expand(b"%H:%M:%S"),
            b'R' => expand(b"%H:%M"),
            b'r' => expand(b"%I:%M:%S %p"),
            b'c' => expand(b"%a %b %e %H:%M:%S %Y"),
            b'v' => expand(b"%e-%^b-%Y"),
            b'n' => literal(ops, b"\n"),
            b't' => literal(ops, b"\t"),
            b'%' => literal(ops, b"%"),
            b'Y' | b'C' | b'y' | b'G' | b'g' | b'm' | b'd' | b'e' | b'j' | b'H' | b'k' | b'I' | b'l'
            | b'M' | b'S' | b's' | b'u' | b'w' | b'U' | b'W' | b'V' | b'B' | b'b' | b'h' | b'A' | b'a'
            | b'p' | b'P' | b'z' | b'Z' => ops.push(Op::Directive { letter, width, padding, upper, colons }),
            _ => literal(ops, &format[start..at]),
        }
    }
}

/// ISO 8601 week-based year and week.
fn iso_week(parts: &Parts) -> (i64, i64) {
    let weekday = i64::from((parts.weekday + 6) % 7); // Monday 0
    let week = (i64::from(parts.day_of_year) - 1 - weekday + 10) / 7;
    let weeks_in = |year: i64| {
        let last = |year: i64| {
            (year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)).rem_euclid(7)
        };
        if last(year) == 4 || last(year - 1) == 3 { 53 } else { 52 }
    };
    if week < 1 {
        (parts.year - 1, weeks_in(parts.year - 1))
    } else if week > weeks_in(parts.year) {
        (parts.year + 1, 1)
    } else {
        (parts.year, week)
    }
}

fn directive(
    out: &mut Vec<u8>,
    p: &Parts,
    letter: u8,
    width: usize,
    padding: Padding,
    upper: bool,
    colons: u8,
) {
    let twelve = match p.hour % 12 {
        0 => 12,
        hour => hour,
    };
    let day_of_year = i64::from(p.day_of_year);
    let (value, usual_width, usual_pad) = match letter {
        b'Y' => (p.year, if p.year < 0 { 5 } else { 4 }, b'0'),
        b'C' => (p.year.div_euclid(100), 2, b'0'),
        b'y' => (p.year.rem_euclid(100), 2, b'0'),
        b'G' => (iso_week(p).0, 4, b'0'),
        b'g' => (iso_week(p).0.rem_euclid(100), 2, b'0'),
        b'm' => (i64::from(p.month), 2, b'0'),
        b'd' => (i64::from(p.day), 2, b'0'),
        b'e' => (i64::from(p.day), 2, b' '),
        b'j' => (day_of_year, 3, b'0'),
        b'H' => (i64::from(p.hour), 2, b'0'),
        b'k' => (i64::from(p.hour), 2, b' '),
        b'I' => (i64::from(twelve), 2, b'0'),
        b'l' => (i64::from(twelve), 2, b' '),
        b'M' => (i64::from(p.minute), 2, b'0'),
        b'S' => (i64::from(p.second), 2, b'0'),
        b's' => (p.epoch, 1, b'0'),
        b'u' => (i64::from(if p.weekday == 0 { 7 } else { p.weekday }), 1, b'0'),
        b'w' => (i64::from(p.weekday), 1, b'0'),
        b'U' => ((day_of_year + 6 - i64::from(p.weekday)) / 7, 2, b'0'),
        b'W' => ((day_of_year + 6 - i64::from((p.weekday + 6) % 7)) / 7, 2, b'0'),
        b'V' => (iso_week(p).1, 2, b'0'),
        _ => return text_directive(out, p, letter, width, padding, upper, colons),
    };
    let pad = match padding {
        Padding::Usual => Some(usual_pad),
        Padding::None => None,
        Padding::Zero => Some(b'0'),
        Padding::Space => Some(b' '),
    };
    let digits = value.unsigned_abs().to_string();
    let wanted = if width > 0 { width } else { usual_width };
    let sign = usize::from(value < 0);
    let fill = pad.map_or(0, |_| wanted.saturating_sub(digits.len() + sign));
    if pad == Some(b' ') {
        out.resize(out.len() + fill, b' ');
    }
    if value < 0 {
        out.push(b'-');
    }
    if pad == Some(b'0') {
        out.resize(out.len() + fill, b'0');
    }
    out.extend_from_slice(digits.as_bytes());
}

fn text_directive(
    out: &mut Vec<u8>,
    p: &Parts,
    letter: u8,
    width: usize,
    padding: Padding,
    upper: bool,
    colons: u8,
) {
    let mut text = match letter {
        b'B' => MONTHS[usize::from(p.month - 1)].to_owned(),
        b'b' | b'h' => MONTHS[usize::from(p.month - 1)][..3].to_owned(),
        b'A' => DAYS[usize::from(p.weekday)].to_owned(),
        b'a' => DAYS[usize::from(p.weekday)][..3].to_owned(),
        // `%#p` is lower case in Ruby
        b'p' if upper => (if p.hour < 12 { "am" } else { "pm" }).to_owned(),
        b'p' => (if p.hour < 12 { "AM" } else { "PM" }).to_owned(),
        b'P' => (if p.hour < 12 { "am" } else { "pm" }).to_owned(),
        b'Z' => p.zone.clone(),
        _ => {
            let sign = if p.offset < 0 { '-' } else { '+' };
            let seconds = p.offset.unsigned_abs();
            let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match colons {
                0 => format!("{sign}{hours:02}{minutes:02}"),
                1 => format!("{sign}{hours:02}:{minutes:02}"),
                _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
            }
        }
    };
    if upper && letter != b'p' {
        text.make_ascii_uppercase();
    }
    let fill = width.saturating_sub(text.len());
    let pad = if padding == Padding::Zero || letter == b'z' { b'0' } else { b' ' };
    out.resize(out.len() + fill, pad);
    out.extend_from_slice(text.as_bytes());
}

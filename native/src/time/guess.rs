//! Times without a format, as Ruby's `Time.parse` finds them in a text.
//!
//! That searches for one thing after the other (day name, clock time, date in one of many forms), takes out
//! what it found and goes on with the rest, so that nearly any text with digits is some time. What
//! most logs have, `2023-07-01 12:00:00.5 +09:00`, is read without all this.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::calendar::month_by_name;
use super::resolve::Fields;
use super::strptime::{digits, fraction, zone_offset};
use crate::pcre::{Matcher, Regexp, Script};

/// Ruby's own limit.
const LONGEST: usize = 128;
const GROUPS: usize = 5;

/// The parts of `text`; None where there is neither date nor time in it, or one that cannot be.
pub fn parse(text: &[u8]) -> Option<Fields> {
    if text.len() > LONGEST {
        return None;
    }
    common(text).or_else(|| search(text)?.fields())
}

/// `YYYY-MM-DD HH:MM:SS[.fraction][ ][zone]`, also with slashes or a T, and nothing else.
fn common(text: &[u8]) -> Option<Fields> {
    let pair = |at: usize| -> Option<u8> {
        let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
        (tens <= 9 && ones <= 9).then(|| tens * 10 + ones)
    };
    let is = |at: usize, known: &[u8]| text.get(at).is_some_and(|byte| known.contains(byte));
    if !(is(4, b"-/") && text.get(7) == text.get(4) && is(10, b" T") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let mut fields = Fields {
        year: Some(i32::from(pair(0)?) * 100 + i32::from(pair(2)?)),
        month: pair(5).filter(|month| (1..=12).contains(month))?,
        day: pair(8).filter(|day| (1..=31).contains(day))?,
        hour: Some(pair(11).filter(|hour| *hour < 24)?),
        minute: Some(pair(14).filter(|minute| *minute < 60)?),
        second: Some(pair(17).filter(|second| *second < 60)?),
        ..Fields::default()
    };
    let mut at = 19;
    if is(at, b".,") {
        at += 1;
        fields.nanos = Some(i64::from(fraction(text, &mut at, usize::MAX)?));
    }
    at += usize::from(is(at, b" "));
    let zone = text.get(at..)?;
    if !zone.is_empty() {
        let known = match zone[0] {
            b'+' | b'-' => matches!(zone.len(), 5 | 6),
            _ => matches!(zone, b"Z" | b"UTC"),
        };
        fields.zone = Some(Some(zone_offset(zone).filter(|_| known)?));
    }
    Some(fields)
}

/// What was found so far. Numbers may be out of bounds until all is found.
#[derive(Default)]
struct Found {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    zone: Option<Vec<u8>>,
    /// A year of two digits is one of these hundred years: not where it is written in full.
    full_year: bool,
    before_christ: bool,
}

impl Found {
    fn fields(self) -> Option<Fields> {
        let within = |value: Option<i64>, least: i64, most: i64| match value {
            Some(value) => (least..=most).contains(&value).then_some(Some(value as u8)),
            None => Some(None),
        };
        let year = self.year.map(|year| if self.before_christ { 1 - year } else { year });
        let year = year.map(|year| match year {
            0..69 if !self.full_year => year + 2000,
            69..100 if !self.full_year => year + 1900,
            _ => year,
        });
        let day_of_year = match self.day_of_year {
            Some(day) => (1..=366).contains(&day).then_some(day as u16)?,
            None => 0,
        };
        let dated = day_of_year == 0;
        Some(Fields {
            year: match year {
                Some(year) => Some(i32::try_from(year).ok().filter(|year| year.abs() < 1_000_000)?),
                None => None,
            },
            month: within(self.month.filter(|_| dated), 1, 12)?.unwrap_or(0),
            day: within(self.day.filter(|_| dated), 1, 31)?.unwrap_or(0),
            day_of_year,
            hour: within(self.hour, 0, 24)?,
            minute: within(self.minute, 0, 59)?,
            second: within(self.second, 0, 60)?,
            nanos: self.nanos,
            zone: self.zone.and_then(|zone| zone_offset(&zone)).map(Some),
            ..Fields::default()
        })
    }

    /// Three parts in the order that the form gives; what looks like a year (a quote, more than two digits) is
    /// one, and the others move.
    fn set_date<'a>(&mut self, mut year: Part<'a>, mut month: Part<'a>, mut day: Part<'a>) {
        let quoted_or_long =
            |part: Part<'_>| part.is_some_and(|part| part.first() == Some(&b'\'') || part.len() > 2);
        if year.is_some() && month.is_some() && day.is_none() {
            (year, month, day) = (None, year, month);
        }
        if year.is_none() && quoted_or_long(day) {
            (year, day) = (day, None);
        }
        if let Some(text) = year
            && let Some((_, number, rest)) = signed(text)
            && !rest.is_empty()
        {
            // "1st": no year
            (year, day) = (day, Some(number));
        }
        if quoted_or_long(month) {
            (year, month, day) = (month, day, year);
        }
        if quoted_or_long(day) {
            (year, day) = (day, year);
        }
        if let Some((sign, number, _)) = year.and_then(signed) {
            self.full_year |= sign || number.iter().filter(|byte| byte.is_ascii_digit()).count() > 2;
            self.year = Some(number_of(number));
        }
        let first = |part: Part<'_>| {
            part.and_then(|part| {
                let start = part.iter().position(u8::is_ascii_digit)?;
                Some(number_of(&part[start..]))
            })
        };
        self.month = first(month).or(self.month);
        self.day = first(day).or(self.day);
    }

    fn set_month_name(&mut self, name: Part<'_>) {
        self.month = name.and_then(month_by_name).map(|(month, _)| i64::from(month));
    }

    /// `H[:M[:S[.fraction]]] [am|pm]`, `Hh Mm Ss`.
    fn set_clock(&mut self, text: &[u8]) {
        let mut at = 0;
        let space = |at: &mut usize| {
            while text.get(*at).is_some_and(u8::is_ascii_whitespace) {
                *at += 1;
            }
        };
        let letter = |at: &mut usize, known: u8| {
            let there = text.get(*at).is_some_and(|byte| *byte | 0x20 == known);
            *at += usize::from(there);
        };
        self.hour = digits(text, &mut at, usize::MAX).map(|hour| hour as i64);
        letter(&mut at, b'h');
        for (part, unit) in [(&mut self.minute, b'm'), (&mut self.second, b's')] {
            let mut behind = at;
            space(&mut behind);
            behind += usize::from(text.get(behind) == Some(&b':'));
            space(&mut behind);
            let Some(value) = digits(text, &mut behind, usize::MAX) else { break };
            *part = Some(value as i64);
            if unit == b's' && matches!(text.get(behind), Some(b'.' | b',')) {
                let mut digits = behind + 1;
                if let Some(nanos) = fraction(text, &mut digits, usize::MAX) {
                    self.nanos = Some(i64::from(nanos));
                    behind = digits;
                }
            }
            letter(&mut behind, unit);
            at = behind;
        }
        space(&mut at);
        let half = text.get(at).map(|byte| *byte | 0x20);
        if matches!(half, Some(b'a' | b'p')) {
            self.hour = self.hour.map(|hour| hour % 12 + if half == Some(b'p') { 12 } else { 0 });
        }
    }

    /// A run of digits: date, or time, or both. `clock`: digits behind a T. `fraction`: digits behind a point.
    fn set_run(&mut self, sign: Part<'_>, run: &[u8], clock: Part<'_>, fraction_text: Part<'_>) {
        let len = run.len();
        let number = |text: &[u8], from: usize, len: usize| number_of(&text[from..from + len]);
        let signed_year = |year: i64| if sign == Some(b"-") { -year } else { year };
        if matches!(len, 9 | 11 | 13) {
            // says nothing
        } else if clock.is_none() && fraction_text.is_some() {
            // a time, from its end: seconds, minutes, hours, day, month, year
            let mut end = len;
            let mut take = |width: usize| {
                let from = end.saturating_sub(width);
                let value = (end > 0).then(|| number(run, from, end - from));
                end = from;
                value
            };
            self.second = take(2).or(self.second);
            self.minute = take(2).or(self.minute);
            self.hour = take(2).or(self.hour);
            self.day = take(2).or(self.day);
            self.month = take(2).or(self.month);
            if let Some(year) = take(4) {
                self.year = Some(signed_year(year));
                self.full_year |= len == 14;
            }
        } else {
            let year_digits = match len {
                5 | 6 => 2,
                7.. => 4,
                _ => 0,
            };
            if year_digits > 0 {
                self.year = Some(signed_year(number(run, 0, year_digits)));
                self.full_year |= len >= 8;
            }
            match len {
                2 => self.day = Some(number(run, 0, 2)),
                3 | 5 | 7 => self.day_of_year = Some(number(run, year_digits, 3)),
                4 | 6 | 8 | 10 | 12 | 14 => {
                    self.month = Some(number(run, year_digits, 2));
                    self.day = Some(number(run, year_digits + 2, 2));
                    if len >= 10 {
                        self.hour = Some(number(run, 8, 2));
                    }
                    if len >= 12 {
                        self.minute = Some(number(run, 10, 2));
                    }
                    if len >= 14 {
                        self.second = Some(number(run, 12, 2));
                    }
                }
                _ => {}
            }
        }
        if let Some(clock) = clock.filter(|clock| clock.len() % 2 == 0) {
            let mut parts = [None; 3];
            for (part, pair) in parts.iter_mut().zip(clock.chunks(2)) {
                *part = Some(number_of(pair));
            }
            let pairs = clock.len() / 2;
            if fraction_text.is_some() {
                parts.rotate_right(3 - pairs); // they end with the seconds
            }
            self.hour = parts[0].or(self.hour);
            self.minute = parts[1].or(self.minute);
            self.second = parts[2].or(self.second);
        }
        if let Some(text) = fraction_text {
            self.nanos = Some(fraction(text, &mut 0, usize::MAX).map_or(0, i64::from));
        }
    }

    fn set_run_zone(&mut self, zone: &[u8]) {
        self.zone = Some(match zone {
            [b'[', inner @ .., b']'] => {
                let name = inner.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                inner[name..].to_vec()
            }
            _ => zone.to_vec(),
        });
    }
}

/// A group of a match.
type Part<'a> = Option<&'a [u8]>;

/// The number in a part: whether it has a sign, sign and digits, what follows.
fn signed(part: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let start = part.iter().position(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'))?;
    let sign = !part[start].is_ascii_digit();
    let mut end = start + usize::from(sign);
    while part.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    Some((sign, &part[start..end], &part[end..]))
}

fn number_of(text: &[u8]) -> i64 {
    super::text_to_integer(text)
}

/// The forms, in the order in which they are searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    DayName,
    Clock,
    DayMonthYear,
    MonthDayYear,
    Dashes,
    Era,
    DayMonthDashes,
    MonthDashes,
    Slashes,
    Dots,
    Week,
    WeekDay,
    NoYear,
    NoYearCompact,
    YearAndDay,
    DayOfYear,
    QuotedYear,
    MonthName,
    Ordinal,
    Run,
    BeforeChrist,
    Alone,
}

const MONTH: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
const ERA: &str = r"(?:c(?:e|\.e\.)|b(?:ce|\.c\.e\.)|a(?:d|\.d\.)|b(?:c|\.c\.))";
/// A number from its first digit on.
const NUMBER: &str = r"(?<!\d)\d+";

/// Each form as PCRE2 sees it, letters in any case. A text that the second expression matches has no such form.
fn forms() -> Vec<(Form, String, &'static str)> {
    use Form::{
        Alone, BeforeChrist, Clock, Dashes, DayMonthDashes, DayMonthYear, DayName, DayOfYear, Dots, Era,
        MonthDashes, MonthDayYear, MonthName, NoYear, NoYearCompact, Ordinal, QuotedYear, Run, Slashes, Week,
        WeekDay, YearAndDay,
    };
    let half = r"[ap](?:m\b|\.m\.)";
    let zone = concat!(
        r"(?:gmt|utc?)?[-+]\d+(?:[,.:]\d+(?::\d+)?)?",
        r"|[[:alpha:].\s]+(?:standard|daylight)\stime\b",
        r"|[[:alpha:]]+(?:\sdst)?\b"
    );
    let clock = format!(
        r"({NUMBER}\s*(?:(?::\s*\d+(?:\s*:\s*\d+(?:[,.]\d*)?)?|h(?:\s*\d+m?(?:\s*\d+s?)?)?)(?:\s*{half})?|{half}))(?:\s*({zone}))?"
    );
    vec![
        (DayName, r"\b(sun|mon|tue|wed|thu|fri|sat)[^-/\d\s]*".into(), ""),
        (Clock, clock, ""),
        (
            DayMonthYear,
            format!(
                r"('?{NUMBER})[^-\d\s]*\s*({MONTH})[^-\d\s']*(?:\s*(?:\b({ERA})(?!(?<!\.)[a-z]))?\s*('?-?\d+(?:(?:st|nd|rd|th)\b)?))?"
            ),
            "",
        ),
        (
            MonthDayYear,
            format!(r"\b({MONTH})[^-\d\s']*\s*('?\d+)[^-\d\s']*(?:\s*+,?\s*+({ERA})?\s*('?-?\d+))?"),
            "",
        ),
        (Dashes, format!(r"('?[-+]?{NUMBER})-(\d+)-('?-?\d+)"), ""),
        (Era, r"\b([mtshr])(\d+)\.(\d+)\.(\d+)".into(), ""),
        (DayMonthDashes, format!(r"('?-?{NUMBER})-({MONTH})[^-/.]*-('?-?\d+)"), ""),
        (MonthDashes, format!(r"\b({MONTH})[^-/.]*-('?-?\d+)(?:-('?-?\d+))?"), ""),
        (Slashes, format!(r"('?-?{NUMBER})/\s*('?\d+)(?:\D\s*('?-?\d+))?"), ""),
        (Dots, format!(r"('?-?{NUMBER})\.\s*('?\d+)\.\s*('?-?\d+)"), ""),
        (Week, r"\b(?:\d{2}|\d{4})?-?w\d{2}(?:-?\d)?\b".into(), ""),
        (WeekDay, r"-w-\d\b".into(), ""),
        (NoYear, r"--(\d{2})?-(\d{2})\b".into(), ""),
        (NoYearCompact, r"--(\d{2})(\d{2})?\b".into(), ""),
        (YearAndDay, r"\b(\d{2}|\d{4})-(\d{3})\b".into(), r"[,.](?:\d{2}|\d{4})-\d{3}\b"),
        (DayOfYear, r"\b-(\d{3})\b".into(), r"\d-\d{3}\b"),
        (QuotedYear, r"'(\d+)\b".into(), ""),
        (MonthName, format!(r"\b({MONTH})\S*"), ""),
        (Ordinal, format!(r"({NUMBER})(?:st|nd|rd|th)\b"), ""),
        (
            Run,
            r"([-+]?)((?<!\d)\d{2,14})(?:\s*t?\s*(\d{2,6})?(?:[,.](\d*))?)?(?:\s*(z\b|[-+]\d{1,4}\b|\[[-+]?\d[^\]]*\]))?"
                .into(),
            "",
        ),
        (BeforeChrist, r"\b(?:bc\b|bce\b|b\.c\.|b\.c\.e\.)".into(), ""),
        (Alone, r"\A\s*(\d{1,2})\s*\z".into(), ""),
    ]
}

struct Compiled {
    form: Form,
    regexp: Regexp,
    unless: Option<Regexp>,
}

fn compiled() -> &'static [Compiled] {
    static FORMS: OnceLock<Vec<Compiled>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let regexp = |pattern: &str| Regexp::new(pattern.as_bytes(), None, true, false).ok();
        let all = forms().into_iter().filter_map(|(form, pattern, unless)| {
            let unless = if unless.is_empty() { None } else { Some(regexp(unless)?) };
            Some(Compiled { form, regexp: regexp(&pattern)?, unless })
        });
        all.collect()
    })
}

thread_local! {
    static MATCHER: RefCell<Matcher> = RefCell::new(Matcher::new(GROUPS));
}

fn search(text: &[u8]) -> Option<Found> {
    let mut rest = Vec::with_capacity(text.len());
    for byte in text {
        let kept = byte.is_ascii_alphanumeric() || b"-+',./:@[]".contains(byte);
        if kept || rest.last() != Some(&b' ') {
            rest.push(if kept { *byte } else { b' ' });
        }
    }
    let mut found = Found::default();
    MATCHER.with_borrow_mut(|matcher| {
        let mut date = false;
        for Compiled { form, regexp, unless } in compiled() {
            let once = !matches!(form, Form::DayName | Form::Clock | Form::BeforeChrist | Form::Alone);
            if once && date {
                continue;
            }
            if let Some(unless) = unless
                && matcher.search(unless, &rest, Script::Ascii).ok()?
            {
                continue;
            }
            if !matcher.search(regexp, &rest, Script::Ascii).ok()? {
                continue;
            }
            date |= once;
            let groups: [Part<'_>; GROUPS + 1] = std::array::from_fn(|group| matcher.capture(&rest, group));
            apply(*form, &groups, &mut found);
            let whole = groups[0].map(<[u8]>::as_ptr_range)?;
            let start = whole.start as usize - rest.as_ptr() as usize;
            let end = whole.end as usize - rest.as_ptr() as usize;
            rest.splice(start..end, [b' ']);
        }
        Some(())
    })?;
    let date = found.year.or(found.month).or(found.day).or(found.day_of_year);
    let clock = found.hour.or(found.minute).or(found.second).or(found.nanos);
    date.or(clock).is_some().then_some(found)
}

fn apply(form: Form, groups: &[Part<'_>], found: &mut Found) {
    let part = |group: usize| groups.get(group).copied().flatten();
    let number = |group: usize| part(group).map(number_of);
    match form {
        Form::DayName | Form::Week | Form::WeekDay => {}
        Form::Clock => {
            found.zone = part(2).map(<[u8]>::to_vec);
            found.set_clock(part(1).unwrap_or_default());
        }
        Form::DayMonthYear | Form::MonthDayYear => {
            let (day, month) = if form == Form::DayMonthYear { (1, 2) } else { (2, 1) };
            found.set_date(part(4), MONTH_SET, part(day));
            found.set_month_name(part(month));
            found.before_christ = part(3).is_some_and(|era| era[0] | 0x20 == b'b');
        }
        Form::Dashes | Form::Slashes | Form::Dots => found.set_date(part(1), part(2), part(3)),
        Form::Era => {
            let before = match part(1).and_then(<[u8]>::first).map(u8::to_ascii_lowercase) {
                Some(b'm') => 1867,
                Some(b't') => 1911,
                Some(b's') => 1925,
                Some(b'h') => 1988,
                _ => 2018,
            };
            found.year = number(2).map(|year| year.saturating_add(before));
            (found.month, found.day) = (number(3), number(4));
        }
        Form::DayMonthDashes => {
            found.set_date(part(3), MONTH_SET, part(1));
            found.set_month_name(part(2));
        }
        Form::MonthDashes => {
            found.set_date(part(3), MONTH_SET, part(2));
            found.set_month_name(part(1));
        }
        Form::NoYear | Form::NoYearCompact => {
            (found.month, found.day) = (number(1).or(found.month), number(2).or(found.day));
        }
        Form::YearAndDay => (found.year, found.day_of_year) = (number(1), number(2)),
        Form::DayOfYear => found.day_of_year = number(1),
        Form::QuotedYear => found.year = number(1),
        Form::MonthName => found.set_month_name(part(1)),
        Form::Ordinal => found.day = number(1),
        Form::Run => {
            found.set_run(part(1), part(2).unwrap_or_default(), part(3), part(4));
            if let Some(zone) = part(5) {
                found.set_run_zone(zone);
            }
        }
        Form::BeforeChrist => found.before_christ = true,
        Form::Alone => {
            let value = number(1);
            if found.hour.is_some() && found.day.is_none() {
                found.day = value.filter(|day| (1..=31).contains(day));
            } else if found.day.is_some() && found.hour.is_none() {
                found.hour = value.filter(|hour| (0..=24).contains(hour));
            }
        }
    }
}

/// Stands for a month that is given by its name.
const MONTH_SET: Part<'static> = Some(b"1");

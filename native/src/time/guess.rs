//! Times without a format: the common forms that Ruby's `Time.parse` understands.
//!
//! As there, the clock time is looked for first and taken out, then a date in what is left. Known:
//! RFC 3339 and ISO 8601, RFC 2822 and HTTP dates, asctime and syslog, `2023/07/01`, `1 July 2023`,
//! `July 1, 2023`, `20230701T120000Z`, `1.7.2023`, `01/07/2023` (the day first), and (unlike Ruby) the Common Log Format.

use super::calendar::month_by_name;
use super::iso;
use super::resolve::Fields;
use super::strptime::{digits, fraction, offset};

/// The parts of `text`; None where there is neither date nor time in it.
pub fn parse(text: &[u8]) -> Option<Fields> {
    if text.len() > 128 {
        return None; // Ruby's own limit for Date._parse
    }
    if let Some(fields) = iso::parse(text) {
        return Some(fields);
    }
    let mut fields = Fields::default();
    let mut rest = text.to_vec();
    if compact(text, &mut fields) {
        return Some(fields);
    }
    let clock = take_clock(&mut rest, &mut fields)? || take_hour(&mut rest, &mut fields)?;
    let date = take_date(&rest, &mut fields)?;
    (clock || date).then_some(fields)
}

/// `YYYYMMDD`, `YYYYMMDDTHH[MM[SS]][.fraction][zone]`.
fn compact(text: &[u8], fields: &mut Fields) -> bool {
    let text = text.trim_ascii();
    let number = |from: usize, to: usize| -> Option<u32> {
        let part = text.get(from..to)?;
        if !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let Some(date) = number(0, 8) else { return false };
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return false;
    }
    let mut found =
        Fields { year: Some(year as i32), month: month as u8, day: day as u8, ..Fields::default() };
    if text.len() > 8 {
        let mut at = 8 + usize::from(matches!(text[8], b'T' | b't' | b' '));
        let start = at;
        if digits(text, &mut at, 7).is_none() || !matches!(at - start, 2 | 4 | 6) {
            return false;
        }
        let len = at - start;
        let part = |index: usize| match index < len {
            true => number(start + index, start + index + 2).unwrap_or(0) as u8,
            false => 0,
        };
        let second = part(4);
        if part(0) > 24 || part(2) > 59 || second > 60 {
            return false;
        }
        (found.hour, found.minute, found.second) = (Some(part(0)), Some(part(2)), Some(second));
        if matches!(text.get(at), Some(b'.' | b',')) {
            at += 1;
            let Some(nanos) = fraction(text, &mut at, usize::MAX) else { return false };
            found.nanos = nanos;
        }
        let zone = text[at..].trim_ascii();
        if !zone.is_empty() {
            match offset(zone) {
                Some((zone, _)) => found.offset = zone,
                None => return false,
            }
        }
    }
    *fields = found;
    true
}

/// Finds `H:MM[:SS[.fraction]] [am|pm] [zone]`, blanks it out. Some(false): no clock time in the text;
/// None: one that cannot be.
fn take_clock(text: &mut [u8], fields: &mut Fields) -> Option<bool> {
    let mut from = 0;
    loop {
        let Some(colon) = text[from..].iter().position(|byte| *byte == b':').map(|at| at + from) else {
            return Some(false);
        };
        let mut start = colon;
        while start > 0 && colon - start < 2 && text[start - 1].is_ascii_digit() {
            start -= 1;
        }
        let longer = start > 0 && text[start - 1].is_ascii_digit();
        let digit_behind = text.get(colon + 1).is_some_and(u8::is_ascii_digit);
        if start == colon || longer || !digit_behind {
            from = colon + 1; // "2023:12:00:00" of the Common Log Format: the next colon
            continue;
        }
        let mut at = start;
        let hour = digits(text, &mut at, 2)?;
        at += 1;
        let minute = digits(text, &mut at, 2)?;
        let mut second = 0;
        if text.get(at) == Some(&b':') && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            second = digits(text, &mut at, 2)?;
            if matches!(text.get(at), Some(b'.' | b',')) && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
                at += 1;
                fields.nanos = fraction(text, &mut at, usize::MAX)?;
            }
        }
        if hour > 24 || minute > 59 || second > 60 {
            return None;
        }
        (fields.hour, fields.minute, fields.second) =
            (Some(hour as u8), Some(minute as u8), Some(second as u8));
        let skip = |text: &[u8], at: usize| at + text[at..].iter().take_while(|byte| **byte == b' ').count();
        let behind = skip(text, at);
        if let Some(two) = text.get(behind..behind + 2)
            && !text.get(behind + 2).is_some_and(u8::is_ascii_alphabetic)
            && (two.eq_ignore_ascii_case(b"am") || two.eq_ignore_ascii_case(b"pm"))
        {
            fields.pm = Some(two[0] | 0x20 == b'p');
            at = behind + 2;
        }
        let behind = skip(text, at);
        let zone_like = match text.get(behind) {
            Some(b'+' | b'-') => text.get(behind + 1).is_some_and(u8::is_ascii_digit),
            Some(byte) => byte.is_ascii_alphabetic() && month_by_name(&text[behind..]).is_none(),
            None => false,
        };
        if zone_like && let Some((zone, len)) = offset(&text[behind..]) {
            fields.offset = zone;
            at = behind + len;
        }
        text[start..at].fill(b' ');
        // the T between date and time
        if start > 1 && text[start - 1] | 0x20 == b't' && text[start - 2].is_ascii_digit() {
            text[start - 1] = b' ';
        }
        return Some(true);
    }
}

/// Finds an hour alone, `3pm`, blanks it out. Results as of `take_clock`.
fn take_hour(text: &mut [u8], fields: &mut Fields) -> Option<bool> {
    for at in 1..text.len().saturating_sub(1) {
        let word = &text[at..at + 2];
        let pm = word.eq_ignore_ascii_case(b"pm");
        if !pm && !word.eq_ignore_ascii_case(b"am") || text.get(at + 2).is_some_and(u8::is_ascii_alphanumeric)
        {
            continue;
        }
        let behind = text[..at].trim_ascii_end().len();
        let len = text[..behind].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=2).contains(&len) {
            continue;
        }
        let hour = digits(text, &mut (behind - len), 2)?;
        if !(1..=12).contains(&hour) {
            return None;
        }
        (fields.hour, fields.pm) = (Some(hour as u8), Some(pm));
        text[behind - len..at + 2].fill(b' ');
        return Some(true);
    }
    Some(false)
}

/// Finds a date. Some(false): none; None: one that cannot be.
fn take_date(text: &[u8], fields: &mut Fields) -> Option<bool> {
    let mut numbers = [(0u64, 0usize, 0u8); 3]; // value, digits, byte before
    let mut count = 0;
    let mut at = 0;
    let mut month_at = None;
    while at < text.len() {
        if text[at].is_ascii_digit() {
            let start = at;
            let value = digits(text, &mut at, 18)?;
            if count < 3 {
                numbers[count] = (value, at - start, if start > 0 { text[start - 1] } else { 0 });
                count += 1;
            }
        } else if text[at].is_ascii_alphabetic() {
            let start = at;
            while text.get(at).is_some_and(u8::is_ascii_alphabetic) {
                at += 1;
            }
            if at - start == 1 && text[start] | 0x20 == b'w' && start > 0 && text[start - 1] == b'-' {
                return None; // a week has no date where Ruby looks for one
            }
            if month_at.is_none()
                && let Some((month, _)) = month_by_name(&text[start..at])
            {
                fields.month = month;
                month_at = Some(count);
            }
        } else {
            at += 1;
        }
    }
    let numbers = &numbers[..count];
    let year = |(value, len, _): (u64, usize, u8)| -> i32 {
        let value = value as i32;
        if len > 2 { value } else { value + if value < 69 { 2000 } else { 1900 } }
    };
    let day = |(value, _, _): (u64, usize, u8)| u8::try_from(value).ok().filter(|day| (1..=31).contains(day));
    match (month_at, numbers) {
        (Some(_), []) => {}
        (Some(_), [one]) if one.1 > 2 => fields.year = Some(year(*one)),
        (Some(_), [one]) => fields.day = day(*one)?,
        (Some(_), [first, second, ..]) if first.1 > 2 => {
            fields.year = Some(year(*first));
            fields.day = day(*second)?;
        }
        (Some(_), [first, second, ..]) => {
            fields.day = day(*first)?;
            fields.year = Some(year(*second));
        }
        (None, [first, second, third]) => {
            let backwards = first.1 <= 2 && third.1 > 2;
            let (y, m, d) = if backwards { (third, second, first) } else { (first, second, third) };
            fields.year = Some(year(*y));
            fields.month = u8::try_from(m.0).ok().filter(|month| (1..=12).contains(month))?;
            fields.day = day(*d)?;
        }
        (None, [first, second]) if matches!(second.2, b'-' | b'/') => {
            if first.1 == 4 && second.1 == 3 && second.2 == b'-' {
                fields.year = Some(year(*first));
                fields.day_of_year = u16::try_from(second.0).ok().filter(|day| (1..=366).contains(day))?;
            } else if first.1 > 2 {
                fields.year = Some(year(*first));
                fields.month = u8::try_from(second.0).ok().filter(|month| (1..=12).contains(month))?;
            } else {
                fields.month = u8::try_from(first.0).ok().filter(|month| (1..=12).contains(month))?;
                fields.day = day(*second)?;
            }
        }
        (None, [one]) if one.1 <= 2 => fields.day = day(*one)?,
        (None, [(value, 8, _)]) => {
            fields.year = Some((value / 10_000) as i32);
            fields.month = u8::try_from(value / 100 % 100).ok().filter(|month| (1..=12).contains(month))?;
            fields.day = day((value % 100, 2, 0))?;
        }
        _ => return Some(false),
    }
    Some(true)
}

//! `%iso8601`: RFC 3339 and XML Schema date-times, as Ruby's `Time.iso8601` takes them.

use super::resolve::Fields;
use super::strptime::{digits, fraction, offset};

/// `YYYY-MM-DDTHH:MM:SS[.fraction][zone]`, or a date with an optional zone; white space around it.
/// Nothing else may follow.
pub fn parse(text: &[u8]) -> Option<Fields> {
    let text = text.trim_ascii();
    let mut fields = Fields::default();
    let mut at = 0;
    let negative = text.first() == Some(&b'-');
    at += usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let start = at;
    let year = digits(text, &mut at, 9)? as i32;
    if at - start < 4 {
        return None;
    }
    fields.year = Some(if negative { -year } else { year });
    fields.month = pair(text, &mut at, Some(b'-'), 12)?;
    fields.day = pair(text, &mut at, Some(b'-'), 31)?;
    if fields.month == 0 || fields.day == 0 {
        return None;
    }
    if matches!(text.get(at), Some(b'T' | b't')) {
        at += 1;
        fields.hour = Some(pair(text, &mut at, None, 24)?);
        fields.minute = Some(pair(text, &mut at, Some(b':'), 59)?);
        fields.second = Some(pair(text, &mut at, Some(b':'), 60)?);
        if text.get(at) == Some(&b'.') {
            at += 1;
            fields.nanos = fraction(text, &mut at, usize::MAX)?;
        }
    }
    let rest = &text[at..];
    if !rest.is_empty() {
        let known = match rest[0] {
            b'Z' | b'z' => rest.len() == 1,
            b'+' | b'-' => matches!(rest.len(), 3 | 5 | 6),
            _ => false,
        };
        let (zone, len) = offset(rest)?;
        if !known || len != rest.len() {
            return None;
        }
        fields.offset = zone;
    }
    Some(fields)
}

fn pair(text: &[u8], at: &mut usize, before: Option<u8>, most: u64) -> Option<u8> {
    if let Some(before) = before {
        if text.get(*at) != Some(&before) {
            return None;
        }
        *at += 1;
    }
    let start = *at;
    let value = digits(text, at, 2)?;
    (*at - start == 2 && value <= most).then_some(value as u8)
}

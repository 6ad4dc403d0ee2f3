//! `%iso8601`: RFC 3339 and XML Schema date-times, as Ruby's `Time.iso8601` takes them.

use super::resolve::Fields;
use super::strptime::{digits, fraction, zone_offset};

/// `YYYY-MM-DDTHH:MM:SS[.fraction][zone]`, white space around it. Nothing else may follow.
pub fn parse(text: &[u8]) -> Option<Fields> {
    let text = text.trim_ascii();
    // without a zone it is the machine's, whatever is configured
    let mut fields = Fields { zone: Some(None), ..Fields::default() };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let year = i32::try_from(digits(text, &mut at, usize::MAX)?).ok()?;
    fields.year = Some(if text[0] == b'-' { -year } else { year });
    fields.month = pair(text, &mut at, b"-", 12)?;
    fields.day = pair(text, &mut at, b"-", 31)?;
    if fields.month == 0 || fields.day == 0 {
        return None;
    }
    fields.hour = Some(pair(text, &mut at, b"Tt", 24)?);
    fields.minute = Some(pair(text, &mut at, b":", 59)?);
    fields.second = Some(pair(text, &mut at, b":", 60)?);
    if text.get(at) == Some(&b'.') {
        at += 1;
        fields.nanos = Some(i64::from(fraction(text, &mut at, usize::MAX)?));
    }
    let zone = &text[at..];
    if !zone.is_empty() {
        let known = match zone[0] {
            b'Z' | b'z' => zone.len() == 1,
            b'+' | b'-' => matches!(zone.len(), 3 | 5 | 6),
            _ => false,
        };
        if !known {
            return None;
        }
        fields.zone = Some(Some(zone_offset(zone)?));
    }
    Some(fields)
}

/// Two digits behind one of `before`.
fn pair(text: &[u8], at: &mut usize, before: &[u8], most: u64) -> Option<u8> {
    if !before.contains(text.get(*at)?) {
        return None;
    }
    *at += 1;
    let start = *at;
    let value = digits(text, at, 2)?;
    (*at - start == 2 && value <= most).then_some(value as u8)
}

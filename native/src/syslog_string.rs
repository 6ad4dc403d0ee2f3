//! Syslog messages as Fluentd's `parser_engine string` reads them: cut at single spaces. It keeps the
//! newlines of an RFC 3164 message, takes any text as priority, and strips backslashes from structured
//! data.

use memchr::{memchr, memmem};

use crate::parser::Mismatch;
use crate::syslog::{EXTRADATA, Event, HOST, IDENT, MESSAGE, MSGID, PID, SyslogParser, TIME, chomp};
use crate::syslog_time::{HeaderFormat, HeaderTime};
use crate::time::text_to_integer;

fn space(text: &[u8], from: usize) -> Option<usize> {
    Some(from + memchr(b' ', text.get(from..)?)?)
}

/// Whatever stands between `<` and `>` as a number; moves `at` behind it.
fn priority(text: &[u8], at: &mut usize) -> Result<i64, Mismatch> {
    if text.first() != Some(&b'<') {
        return Err(Mismatch::NoMatch);
    }
    let end = 1 + memchr(b'>', &text[1..]).ok_or(Mismatch::InvalidTime)?;
    if end < 2 {
        return Err(Mismatch::NoMatch);
    }
    *at = end + 1;
    Ok(text_to_integer(&text[1..end]))
}

/// The time of a format that is not the default's: words parted by single spaces. Gives where the rest starts, and
/// whether the words are a time, which is reported only where the rest fits.
fn read_words(
    format: &HeaderFormat,
    time: &mut HeaderTime,
    text: &[u8],
    at: usize,
) -> Result<(usize, Result<(), Mismatch>), Mismatch> {
    let mut end = at;
    for _ in 0..format.words {
        if text.get(end) == Some(&b' ') {
            return Err(Mismatch::InvalidTime);
        }
        end = space(text, end).ok_or(Mismatch::InvalidTime)? + 1;
    }
    Ok((end, time.read(format, text, at).map(|_| ())))
}

/// RFC 3164.
pub(crate) fn parse_rfc3164(
    parser: &SyslogParser,
    time: &mut HeaderTime,
    text: &[u8],
    event: &mut Event<'_>,
) -> Result<(), Mismatch> {
    let format = &parser.rfc3164;
    let (mut at, mut pri) = (0, None);
    if parser.options.with_priority {
        pri = Some(priority(text, &mut at)?);
    }
    let timed = if format.fixed_width {
        let end = match text.get(at + 15) {
            Some(b' ') => at + 15,
            Some(b'.') => space(text, at + 15).ok_or(Mismatch::InvalidTime)?,
            _ => return Err(Mismatch::NoMatch),
        };
        let timed = time.set(format, &text[at..end]);
        at = end + 1;
        timed
    } else {
        let (end, timed) = read_words(format, time, text, at)?;
        at = end;
        timed
    };
    let host_end = space(text, at).ok_or(Mismatch::NoMatch)?;
    event.text(HOST, &text[at..host_end]);
    if let Some(pri) = pri {
        event.priority(pri);
    }
    let start = host_end + 1;
    let message = match space(text, start) {
        None => &text[start..],
        Some(end) => {
            // the text before `end` is at least a time and a host long
            let colon = text[end - 1] == b':';
            if colon || parser.options.support_colonless_ident {
                let tail = usize::from(colon);
                if text[end - 1 - tail] == b']' {
                    let open = start + memchr(b'[', &text[start..]).ok_or(Mismatch::InvalidTime)?;
                    event.text(IDENT, &text[start..open]);
                    match text.get(open + 1..end - 1 - tail) {
                        Some(pid) => event.text(PID, pid),
                        None => {
                            event.nothing(PID);
                        }
                    }
                } else {
                    event.text(IDENT, &text[start..(end - tail).max(start)]);
                }
                &text[end + 1..]
            } else {
                &text[start..]
            }
        }
    };
    event.text(MESSAGE, chomp(message));
    timed?;
    if parser.options.common.keep_time_key {
        event.text(TIME, &time.text);
    }
    Ok(())
}

/// RFC 5424.
pub(crate) fn parse_rfc5424(
    parser: &SyslogParser,
    time: &mut HeaderTime,
    text: &[u8],
    event: &mut Event<'_>,
) -> Result<(), Mismatch> {
    let (mut at, mut pri) = (0, None);
    if parser.options.with_priority {
        pri = Some(priority(text, &mut at)?);
        at = space(text, at).ok_or(Mismatch::InvalidTime)? + 1;
    }
    let format = &parser.rfc5424;
    let (end, timed) = match text.get(at) {
        Some(b' ') if format.words == 1 => (at + 1, Err(Mismatch::InvalidTime)),
        _ => read_words(format, time, text, at)?,
    };
    at = end;
    for key in [HOST, IDENT, PID, MSGID] {
        let end = space(text, at).ok_or(Mismatch::NoMatch)?;
        event.text(key, &text[at..end]);
        at = end + 1;
    }
    if let Some(pri) = pri {
        event.priority(pri);
    }
    if text.get(at) == Some(&b'-') {
        event.text(EXTRADATA, b"-");
        at += 1;
    } else {
        let end = memmem::find(&text[at..], b"] ").map_or(text.len(), |found| at + found + 1);
        let data: Vec<u8> = text[at..end].iter().copied().filter(|byte| *byte != b'\\').collect();
        event.text(EXTRADATA, &data);
        at = end;
    }
    if at < text.len() {
        event.text(MESSAGE, chomp(&text[at + 1..]));
    }
    timed?;
    if parser.options.common.keep_time_key {
        event.text(TIME, &time.text);
    }
    Ok(())
}

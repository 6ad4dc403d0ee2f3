//! Syslog messages as Fluentd's `parser_engine regexp` reads them: a scanner that takes exactly what its
//! regular expressions take, in linear time.

use memchr::memchr;

use crate::parser::Mismatch;
use crate::syslog::{
    EXTRADATA, Event, HOST, IDENT, MESSAGE, MSGID, PID, SyslogParser, TIME, at_line_start, chomp, priority,
};
use crate::syslog_time::{HeaderFormat, HeaderTime};

/// `[<pri>]time `, with which both formats begin: where the rest is.
#[inline(always)]
fn start(
    parser: &SyslogParser,
    format: &HeaderFormat,
    priority: impl Fn(&[u8]) -> Option<(i64, usize)>,
    time: &mut HeaderTime,
    text: &[u8],
    event: &mut Event<'_>,
) -> Result<usize, Mismatch> {
    let mut at = 0;
    if parser.options.with_priority {
        let ((pri, len), line) = at_line_start(text, priority).ok_or(Mismatch::NoMatch)?;
        event.priority(pri);
        at = line + len;
    }
    let at = time.read(format, text, at)?;
    if parser.options.common.keep_time_key {
        event.text(TIME, &time.text);
    }
    Ok(at)
}

/// RFC 3164: `[<pri>]time host ident[pid]: message`. What stands between ident and the next colon of
/// the whole text is dropped, and so is everything after the message's first newline.
#[inline]
pub(crate) fn parse_rfc3164(
    parser: &SyslogParser,
    time: &mut HeaderTime,
    text: &[u8],
    event: &mut Event<'_>,
) -> Result<(), Mismatch> {
    let at = start(parser, &parser.rfc3164, priority, time, text, event)?;
    let host_end = at + memchr(b' ', &text[at..]).ok_or(Mismatch::NoMatch)?;
    event.text(HOST, &text[at..host_end]);
    let rest = &text[host_end + 1..];
    let ident_end = rest.iter().position(|byte| matches!(byte, b' ' | b':' | b'[')).unwrap_or(rest.len());
    event.text(IDENT, &rest[..ident_end]);
    let mut rest = &rest[ident_end..];
    if let Some(inner) = rest.strip_prefix(b"[") {
        let digits = inner.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(inner.len());
        if digits > 0 && inner.get(digits) == Some(&b']') {
            event.text(PID, &inner[..digits]);
            rest = &inner[digits + 1..];
        }
    }
    if let Some(colon) = memchr(b':', rest) {
        rest = &rest[colon + 1..];
    }
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
    event.text(MESSAGE, chomp(line));
    Ok(())
}

/// `<pri>version` and one white space: the number, and the length of all.
fn priority_and_version(text: &[u8]) -> Option<(i64, usize)> {
    let (pri, len) = priority(text)?;
    let version = text[len..].iter().take(4).position(|byte| !byte.is_ascii_digit())?;
    let space = matches!(text[len + version], b' ' | b'\t'..=b'\r');
    (version > 0 && space).then_some((pri, len + version + 1))
}

/// RFC 5424: `[<pri>version ]time host ident pid msgid structured-data[ message]`. The message keeps its
/// newlines.
#[inline]
pub(crate) fn parse_rfc5424(
    parser: &SyslogParser,
    time: &mut HeaderTime,
    text: &[u8],
    event: &mut Event<'_>,
) -> Result<(), Mismatch> {
    let at = start(parser, &parser.rfc5424, priority_and_version, time, text, event)?;
    let (host, rest) = find_host(&text[at..]).ok_or(Mismatch::NoMatch)?;
    event.text(HOST, host);
    event.text(IDENT, rest.ident);
    event.text(PID, rest.pid);
    event.text(MSGID, rest.msgid);
    event.text(EXTRADATA, rest.extradata);
    if let Some(message) = rest.message {
        event.text(MESSAGE, chomp(message));
    }
    Ok(())
}

struct Rest<'a> {
    ident: &'a [u8],
    pid: &'a [u8],
    msgid: &'a [u8],
    extradata: &'a [u8],
    message: Option<&'a [u8]>,
}

#[inline]
fn is_graphic(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// The host, and what follows it. The expression is not anchored: where the text does not fit at its
/// start, the first later word that fits is the host, the last 255 bytes of it.
#[inline]
fn find_host(text: &[u8]) -> Option<(&[u8], Rest<'_>)> {
    let mut closing = None;
    let mut start = 0;
    loop {
        while !is_graphic(*text.get(start)?) {
            start += 1;
        }
        let mut end = start;
        while text.get(end).copied().is_some_and(is_graphic) {
            end += 1;
        }
        if *text.get(end)? == b' '
            && let Some(rest) = match_rest(text, end + 1, &mut closing)
        {
            return Some((&text[start.max(end.saturating_sub(255))..end], rest));
        }
        start = end;
    }
}

/// One to `limit` graphic characters and a space; moves `at` behind the space.
#[inline]
fn word<'a>(text: &'a [u8], at: &mut usize, limit: usize) -> Option<&'a [u8]> {
    let start = *at;
    let mut end = start;
    while is_graphic(*text.get(end)?) {
        end += 1;
        if end - start > limit {
            return None;
        }
    }
    *at = end + 1;
    (text[end] == b' ' && end > start).then(|| &text[start..end])
}

/// `closing`: where the first bracket is, at or after which position (then the second) structured data
/// can end; found once for all tries, so that a hostile message costs linear time.
#[inline]
fn match_rest<'a>(text: &'a [u8], mut at: usize, closing: &mut Option<(usize, usize)>) -> Option<Rest<'a>> {
    let ident = word(text, &mut at, 48)?;
    let pid = word(text, &mut at, 128)?;
    let msgid = word(text, &mut at, 32)?;
    let end = match text.get(at)? {
        b'-' if can_end(text, at + 1) => at + 1,
        b'[' => {
            let found = match *closing {
                Some((from, found)) if from <= at && found > at => found,
                _ => {
                    let found = find_closing(text, at + 1);
                    *closing = Some((at, found));
                    found
                }
            };
            (found < text.len()).then_some(found + 1)?
        }
        _ => return None,
    };
    Some(Rest {
        ident,
        pid,
        msgid,
        extradata: &text[at..end],
        message: (end < text.len()).then(|| &text[end + 1..]),
    })
}

/// Whether structured data can end before `at`: at the text's end, or with a space and a message.
#[inline]
fn can_end(text: &[u8], at: usize) -> bool {
    at == text.len() || (text[at] == b' ' && at + 1 < text.len())
}

/// The first `]` from `at` on that no backslash precedes and that can end structured data; the text's
/// length where there is none.
fn find_closing(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr(b']', &text[at..]) {
        at += found;
        if text[at - 1] != b'\\' && can_end(text, at + 1) {
            return at;
        }
        at += 1;
    }
    text.len()
}

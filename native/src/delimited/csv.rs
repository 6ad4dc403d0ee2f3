//! One row of comma-separated values.

use memchr::{memchr, memchr3, memmem};

use super::split::Delimiter;
use super::{Column, Columns};
use crate::parser::Mismatch;

const QUOTE: u8 = b'"';

/// The first row of `text`, at most `wanted` columns of it, as Ruby's CSV library reads it.
///
/// # Errors
/// `Malformed` for quotes within a column that does not begin with one, text behind a closing quote, a quote that
/// is not closed, and a carriage return that ends no row.
pub fn row(text: &[u8], delimiter: &[u8], wanted: usize, columns: &mut Columns) -> Result<(), Mismatch> {
    let end_of_row: &[u8] = match memchr::memchr2(b'\r', b'\n', text) {
        Some(at) if text[at..].starts_with(b"\r\n") => b"\r\n",
        Some(at) if text[at] == b'\r' => b"\r",
        _ => b"\n",
    };
    if text.starts_with(end_of_row) {
        return Ok(()); // a row without columns
    }
    let mut at = 0;
    loop {
        let column = if text.get(at) == Some(&QUOTE) {
            quoted(text, &mut at, &mut columns.scratch)?
        } else {
            plain(text, &mut at, delimiter)?
        };
        if columns.list.len() < wanted {
            columns.list.push(column);
        }
        let rest = &text[at..];
        if rest.is_empty() || rest.starts_with(end_of_row) {
            return Ok(());
        }
        if !rest.starts_with(delimiter) {
            return Err(Mismatch::Malformed);
        }
        at += delimiter.len();
    }
}

fn plain(text: &[u8], at: &mut usize, delimiter: &[u8]) -> Result<Column, Mismatch> {
    let start = *at;
    let rest = &text[start..];
    let end = match delimiter {
        [byte] => memchr(*byte, rest),
        _ => memmem::find(rest, delimiter),
    };
    let special = memchr3(QUOTE, b'\r', b'\n', &rest[..end.unwrap_or(rest.len())]);
    if special.is_some_and(|found| rest[found] == QUOTE) {
        return Err(Mismatch::Malformed);
    }
    let len = special.or(end).unwrap_or(rest.len());
    *at = start + len;
    Ok(if len == 0 { Column::Nil } else { Column::Text(start, start + len) })
}

fn quoted(text: &[u8], at: &mut usize, scratch: &mut Vec<u8>) -> Result<Column, Mismatch> {
    let start = *at + 1;
    let mut from = start;
    let mut copied = None;
    loop {
        let quote = from + memchr(QUOTE, &text[from..]).ok_or(Mismatch::Malformed)?;
        if text.get(quote + 1) != Some(&QUOTE) {
            *at = quote + 1;
            return Ok(match copied {
                None => Column::Text(start, quote),
                Some(begin) => {
                    scratch.extend_from_slice(&text[from..quote]);
                    Column::Scratch(begin, scratch.len())
                }
            });
        }
        copied.get_or_insert(scratch.len());
        scratch.extend_from_slice(&text[from..=quote]);
        from = quote + 2;
    }
}

/// What Fluentd's own quick reader makes of a line: all columns, without looking for mistakes.
pub fn fast_row(text: &[u8], delimiter: &Delimiter, columns: &mut Columns) {
    let text = crate::ingest::chomp(text);
    if text.is_empty() {
        return;
    }
    let mut parts = Vec::new();
    delimiter.split(text, None, |start, end| parts.push((start, end)));
    let mut next = 0;
    while let Some(&(start, end)) = parts.get(next) {
        next += 1;
        let part = &text[start..end];
        let enclosed = part.len() > 1 && part.starts_with(b"\"") && part.ends_with(b"\"");
        let column = match memchr::memchr_iter(QUOTE, part).count() {
            0 if part.is_empty() => Column::Nil,
            1 if part.starts_with(b"\"") => {
                // it goes on behind the delimiter, up to the part that ends with a quote
                let mut last = end;
                while let Some(&(_, end)) = parts.get(next) {
                    next += 1;
                    last = end;
                    if text[..end].ends_with(b"\"") {
                        break;
                    }
                }
                Column::Text(start + 1, last.saturating_sub(1).max(start + 1))
            }
            2 if enclosed => Column::Text(start + 1, end - 1),
            0..=2 => Column::Text(start, end),
            _ => {
                let inner = if enclosed { &part[1..part.len() - 1] } else { part };
                let begin = columns.scratch.len();
                let mut from = 0;
                for pair in memmem::find_iter(inner, b"\"\"") {
                    columns.scratch.extend_from_slice(&inner[from..=pair]);
                    from = pair + 2;
                }
                columns.scratch.extend_from_slice(&inner[from..]);
                Column::Scratch(begin, columns.scratch.len())
            }
        };
        columns.list.push(column);
    }
}

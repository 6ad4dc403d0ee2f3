//! The compiled formatters: json, out_file, stdout, single_value, hash.
//!
//! A formatter is immutable and shared; [`Formatter::lines`] opens what one caller needs to format a batch
//! (the time's cached text), and is then called once per event. Formatters compose: stdout writes another
//! formatter's text behind time and tag.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use std::sync::Arc;

use crate::compiled::{CompiledFormatter, Event, Formatter, Lines};
use crate::json_out::{self, Floats};
use crate::msgpack::{self, Malformed, Token, read_token, skip_value};
use crate::ruby_inspect;
use crate::time::TimeFormatter;

const NANOS: i64 = 1_000_000_000;

/// How an event's time is written.
#[derive(Clone)]
pub enum TimeText {
    /// By strftime directives or as ISO 8601.
    Formatted(TimeFormatter),
    /// Whole seconds.
    Unixtime,
    /// Seconds and nine digits of nanoseconds.
    Float,
}

impl TimeText {
    /// `kind`: "string", "unixtime", or "float" (which "mixed" means too, as in Fluentd). `format` None:
    /// ISO 8601. `zone` None: the machine's.
    ///
    /// # Errors
    /// A message that names the unknown type, directive or zone.
    pub fn new(kind: &str, format: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        match kind {
            "string" => {
                // as Ruby's Time#iso8601 does, UTC itself is "Z" and a zone at offset zero "+00:00"
                let zulu = (format.is_none() && zone == Some("UTC")).then_some("%Y-%m-%dT%H:%M:%SZ");
                TimeFormatter::new(format.or(zulu), zone).map(TimeText::Formatted)
            }
            "unixtime" => Ok(TimeText::Unixtime),
            "float" | "mixed" => Ok(TimeText::Float),
            _ => Err(format!("unknown time_type \"{kind}\": expected string, unixtime, float or mixed")),
        }
    }

    /// Appends the time. `time_ns`: nanoseconds since the epoch.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>, time_ns: i64) {
        match self {
            TimeText::Formatted(formatter) => formatter.write(out, time_ns),
            TimeText::Unixtime => write_integer(out, time_ns.div_euclid(NANOS)),
            TimeText::Float => {
                write_integer(out, time_ns.div_euclid(NANOS));
                let nanos = time_ns.rem_euclid(NANOS);
                // Fluentd writes eight zeros for a whole second; it pads others wrongly, which we do not.
                let text = if nanos == 0 { ".00000000".to_string() } else { format!(".{nanos:09}") };
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `json`: the record as a JSON object.
#[derive(Clone)]
pub struct Json {
    /// How floats are laid out.
    pub floats: Floats,
    /// Behind each record.
    pub newline: Arc<[u8]>,
}

impl Formatter for Json {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for Json {
    #[inline]
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let mut pos = event.pos;
        json_out::write_record_at(out, event.data, &mut pos, event.pairs, self.floats)?;
        out.extend_from_slice(&self.newline);
        Ok(pos)
    }
}

/// `out_file`: time, tag and record as JSON, with a delimiter between them.
#[derive(Clone)]
pub struct OutFile {
    /// None: without time.
    pub time: Option<TimeText>,
    /// With the tag.
    pub tag: bool,
    /// Between the columns.
    pub delimiter: u8,
    /// Behind each record.
    pub newline: Arc<[u8]>,
}

impl Formatter for OutFile {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for OutFile {
    fn write(&mut self, out: &mut Vec<u8>, tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        if let Some(time) = &mut self.time {
            time.write(out, event.time_ns);
            out.push(self.delimiter);
        }
        if self.tag {
            out.extend_from_slice(tag.as_bytes());
            out.push(self.delimiter);
        }
        let mut pos = event.pos;
        json_out::write_record_at(out, event.data, &mut pos, event.pairs, Floats::Ruby)?;
        out.extend_from_slice(&self.newline);
        Ok(pos)
    }
}

/// `stdout`: `TIME TAG: TEXT`, the text by another formatter, on one line.
pub struct Stdout {
    /// How the time is written.
    pub time: TimeFormatter,
    /// Writes the text.
    pub inner: Arc<dyn Formatter>,
}

struct StdoutLines<'a> {
    time: TimeFormatter,
    inner: Box<dyn Lines + 'a>,
}

impl Formatter for Stdout {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(StdoutLines { time: self.time.clone(), inner: self.inner.lines() })
    }
}

impl Lines for StdoutLines<'_> {
    fn write(&mut self, out: &mut Vec<u8>, tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        self.time.write(out, event.time_ns);
        out.push(b' ');
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(b": ");
        let start = out.len();
        let pos = self.inner.write(out, tag, event)?;
        end_line(out, start);
        Ok(pos)
    }
}

/// Another formatter's text with exactly one line end behind each event.
pub struct OnLines {
    /// Writes the text.
    pub inner: Arc<dyn Formatter>,
}

struct OnLinesLines<'a> {
    inner: Box<dyn Lines + 'a>,
}

impl Formatter for OnLines {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(OnLinesLines { inner: self.inner.lines() })
    }
}

impl Lines for OnLinesLines<'_> {
    fn write(&mut self, out: &mut Vec<u8>, tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let start = out.len();
        let pos = self.inner.write(out, tag, event)?;
        end_line(out, start);
        Ok(pos)
    }
}

/// Takes one line end off the text from `start` on (as Ruby's `chomp`) and puts `\n` there.
fn end_line(out: &mut Vec<u8>, start: usize) {
    let end = match &out[start..] {
        [.., b'\r', b'\n'] => 2,
        [.., b'\r' | b'\n'] => 1,
        _ => 0,
    };
    out.truncate(out.len() - end);
    out.push(b'\n');
}

/// `single_value`: one field's text; nothing where it is missing.
#[derive(Clone)]
pub struct SingleValue {
    /// The field.
    pub key: Arc<[u8]>,
    /// Behind each value.
    pub newline: Arc<[u8]>,
}

impl Formatter for SingleValue {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for SingleValue {
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let mut pos = event.pos;
        let mut found = None;
        for _ in 0..event.pairs {
            let key = pos;
            let token = read_token(event.data, &mut pos)?;
            if let Token::Array(_) | Token::Map(_) = token {
                pos = key;
                skip_value(event.data, &mut pos)?;
            }
            if let Token::Str(name) | Token::Bin(name) = token
                && *name == *self.key
            {
                found = Some(pos);
            }
            skip_value(event.data, &mut pos)?;
        }
        if let Some(mut value) = found {
            ruby_inspect::write_to_s(out, event.data, &mut value)?;
        }
        out.extend_from_slice(&self.newline);
        Ok(pos)
    }
}

/// `hash`: the record as Ruby prints a Hash.
#[derive(Clone)]
pub struct Hash {
    /// Behind each record.
    pub newline: Arc<[u8]>,
}

impl Formatter for Hash {
    fn lines(&self) -> Box<dyn Lines + '_> {
        Box::new(self.clone())
    }
}

impl Lines for Hash {
    fn write(&mut self, out: &mut Vec<u8>, _tag: &str, event: &Event<'_>) -> Result<usize, Malformed> {
        let mut pos = event.pos;
        ruby_inspect::inspect_pairs(out, event.data, &mut pos, event.pairs, 1)?;
        out.extend_from_slice(&self.newline);
        Ok(pos)
    }
}

/// Reads an entry's array header, time and map header at `pos`.
///
/// # Errors
/// [`Malformed`] for anything else.
#[inline]
pub fn read_event(data: &[u8], pos: usize) -> Result<Event<'_>, Malformed> {
    if let Some(&[0x92, 0xd7, 0, s0, s1, s2, s3, n0, n1, n2, n3, map @ 0x80..=0x8f]) = data.get(pos..pos + 12)
    {
        let seconds = i64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        let time_ns = seconds * NANOS + i64::from(u32::from_be_bytes([n0, n1, n2, n3]));
        return Ok(Event { data, pos: pos + 12, pairs: usize::from(map & 0x0f), time_ns });
    }
    let mut first = pos;
    let (time_ns, _, pairs) = msgpack::read_entry_head(data, &mut first)?;
    Ok(Event { data, pos: first, pairs, time_ns })
}

fn invalid(why: String) -> PyErr {
    PyValueError::new_err(why)
}

/// `json_formatter(floats, newline)`. `floats`: "oj" or "ruby".
///
/// # Errors
/// `ValueError` for another word.
#[pyfunction]
pub fn json_formatter(floats: &str, newline: &str) -> PyResult<CompiledFormatter> {
    let floats = match floats {
        "oj" => Floats::Oj,
        "ruby" => Floats::Ruby,
        _ => return Err(invalid(format!("unknown layout of floats \"{floats}\": expected oj or ruby"))),
    };
    Ok(CompiledFormatter::new(Json { floats, newline: newline.as_bytes().into() }))
}

/// `out_file_formatter(time_type, time_format, zone, output_tag, delimiter, newline)`. `time_type` None:
/// without time.
///
/// # Errors
/// `ValueError` for an unknown time type, directive or zone, and for a delimiter that is not one byte.
#[pyfunction]
#[pyo3(signature = (time_type, time_format, zone, output_tag, delimiter, newline))]
pub fn out_file_formatter(
    time_type: Option<&str>,
    time_format: Option<&str>,
    zone: Option<&str>,
    output_tag: bool,
    delimiter: &str,
    newline: &str,
) -> PyResult<CompiledFormatter> {
    let time = time_type.map(|kind| TimeText::new(kind, time_format, zone)).transpose().map_err(invalid)?;
    let &[delimiter] = delimiter.as_bytes() else {
        return Err(invalid(format!("delimiter {delimiter:?} is not one byte")));
    };
    let newline = newline.as_bytes().into();
    Ok(CompiledFormatter::new(OutFile { time, tag: output_tag, delimiter, newline }))
}

/// `stdout_formatter(time_format, inner)`: the time in the machine's zone.
///
/// # Errors
/// `ValueError` for an unknown directive.
#[pyfunction]
pub fn stdout_formatter(time_format: &str, inner: &CompiledFormatter) -> PyResult<CompiledFormatter> {
    let time = TimeFormatter::new(Some(time_format), None).map_err(invalid)?;
    Ok(CompiledFormatter::new(Stdout { time, inner: Arc::clone(&inner.inner) }))
}

/// `single_value_formatter(message_key, newline)`.
#[pyfunction]
pub fn single_value_formatter(message_key: &str, newline: &str) -> CompiledFormatter {
    CompiledFormatter::new(SingleValue {
        key: message_key.as_bytes().into(),
        newline: newline.as_bytes().into(),
    })
}

/// `hash_formatter(newline)`.
#[pyfunction]
pub fn hash_formatter(newline: &str) -> CompiledFormatter {
    CompiledFormatter::new(Hash { newline: newline.as_bytes().into() })
}

/// `lines_formatter(inner)`: exactly one `\n` behind each event's text.
#[pyfunction]
pub fn lines_formatter(inner: &CompiledFormatter) -> CompiledFormatter {
    CompiledFormatter::new(OnLines { inner: Arc::clone(&inner.inner) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Batch;

    fn batch() -> Batch {
        let mut data = Vec::new();
        for text in ["x", "y\n"] {
            msgpack::write_entry_start(&mut data, 1_700_000_000_250_000_000);
            msgpack::write_map_header(&mut data, 2);
            msgpack::write_str(&mut data, b"message");
            msgpack::write_str(&mut data, text.as_bytes());
            msgpack::write_str(&mut data, b"n");
            msgpack::write_float(&mut data, 1e17);
        }
        Batch::single("t.a".into(), data, 2)
    }

    fn text(formatter: &dyn Formatter, batch: &Batch) -> String {
        let mut out = Vec::new();
        formatter.format(batch, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn newline(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn formats() {
        let batch = batch();
        let json = Json { floats: Floats::Oj, newline: newline("\n") };
        let expected = "{\"message\":\"x\",\"n\":100000000000000000.0}\n\
                        {\"message\":\"y\\n\",\"n\":100000000000000000.0}\n";
        assert_eq!(text(&json, &batch), expected);
        let hash = Hash { newline: newline("") };
        let expected = r#"{"message"=>"x", "n"=>1.0e+17}{"message"=>"y\n", "n"=>1.0e+17}"#;
        assert_eq!(text(&hash, &batch), expected);
        let single = SingleValue { key: newline("message"), newline: newline("\n") };
        assert_eq!(text(&single, &batch), "x\ny\n\n");
        assert_eq!(text(&OnLines { inner: Arc::new(single) }, &batch), "x\ny\n\n");
        assert_eq!(text(&OnLines { inner: Arc::new(hash) }, &batch).lines().count(), 2);
        let file =
            OutFile { time: Some(TimeText::Float), tag: true, delimiter: b'\t', newline: newline("\r\n") };
        assert_eq!(
            text(&file, &batch).lines().next(),
            Some("1700000000.250000000\tt.a\t{\"message\":\"x\",\"n\":1.0e+17}")
        );
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        for time in [&[0xce, 0x65, 0x53, 0xf1, 0x00][..], &[0xc7, 8, 0, 0x65, 0x53, 0xf1, 0, 0, 0, 0, 0]] {
            for map in [&[0x80][..], &[0xde, 0, 0], &[0xdf, 0, 0, 0, 0]] {
                let data = [&[0x92][..], time, map].concat();
                let event = read_event(&data, 0).unwrap();
                assert_eq!((event.time_ns, event.pairs, event.pos), (1_700_000_000 * NANOS, 0, data.len()));
                assert!(read_event(&data[..data.len() - 1], 0).is_err());
            }
        }
        assert!(read_event(b"", 0).is_err());
    }

    #[test]
    fn a_broken_entry_leaves_no_half_line() {
        let mut batch = batch();
        batch.data.truncate(batch.data.len() - 3);
        batch.runs[0].len = batch.data.len();
        let json = Json { floats: Floats::Ruby, newline: newline("\n") };
        assert_eq!(text(&json, &batch), "{\"message\":\"x\",\"n\":1.0e+17}\n");
    }
}

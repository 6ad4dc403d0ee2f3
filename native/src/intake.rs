//! What receivers and Python share: `Ingestor` (an input's rule), `Intake` (what a receiver gives),
//! `StreamFramer` and `StreamFeeder` (streams that Python reads, such as TLS), and parsers in Python.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::budget::{MemoryLoan, Unfinished};
use crate::compiled::CompiledParser;
use crate::event::{EventBatch, Packed, text_bytes};
use crate::framer::{Broken, Frame, Framer, Framing};
use crate::ingest::{Filling, Ingest, Rule, Sink, Taken, Tally};
use crate::parser::{Events, Mismatch, Parser, Session};
use crate::python::python_to_value;
use crate::sockaddr::now_ns;

/// Unfinished messages of all connections of a server together, in bytes.
pub const MAX_PENDING: usize = 256 << 20;
/// What is logged when it is more.
pub const TOO_MUCH: &[u8] = b"too much of unfinished messages";

/// Locks; a thread that panicked while it held the lock has left nothing half done that matters more than
/// going on.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a receiver is told to stop, from any thread.
#[derive(Default)]
pub struct Stop {
    asked: AtomicBool,
    keeps: AtomicBool,
}

impl Stop {
    /// Asks; `keep`: the socket goes on in another process, and what waits in it is left to that.
    pub fn set(&self, keep: bool) {
        self.keeps.store(keep, Ordering::Relaxed);
        self.asked.store(true, Ordering::Release);
    }

    /// Whether it was asked.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Whether the socket goes on elsewhere.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }
}

/// An `OSError` with its errno, so that Python sees the right subclass.
#[must_use]
pub fn os_error(why: &io::Error) -> PyErr {
    match why.raw_os_error() {
        Some(code) => {
            let text = why.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((code, text))
        }
        None => PyOSError::new_err(why.to_string()),
    }
}

type Tallies = Vec<(&'static str, usize, Py<PyBytes>)>;

fn tallies(py: Python<'_>, list: &[Tally]) -> Tallies {
    list.iter().map(|tally| (tally.reason, tally.count, PyBytes::new(py, &tally.sample).unbind())).collect()
}

/// What a receiver took in since the last call.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Intake {
    /// The events.
    #[pyo3(get)]
    batch: Py<EventBatch>,
    /// Events and failures.
    #[pyo3(get)]
    received: usize,
    /// Messages the kernel dropped before anybody could receive them; not part of `received`.
    #[pyo3(get)]
    kernel_drops: u64,
    failures: Vec<Tally>,
    notices: Vec<Tally>,
}

#[pymethods]
impl Intake {
    /// `[(reason, count, sample), ...]`: messages that gave no event.
    #[getter]
    fn failures(&self, py: Python<'_>) -> Tallies {
        tallies(py, &self.failures)
    }

    /// `[(what, count, sample), ...]`: what is worth a line in the log but lost no event.
    #[getter]
    fn notices(&self, py: Python<'_>) -> Tallies {
        tallies(py, &self.notices)
    }
}

impl Intake {
    /// For Python.
    ///
    /// # Errors
    /// Only when the interpreter has no memory.
    pub fn new(py: Python<'_>, taken: Taken, kernel_drops: u64) -> PyResult<Self> {
        Self::packed(py, taken, None, kernel_drops)
    }

    /// The same for events that came compressed.
    ///
    /// # Errors
    /// As [`Intake::new`].
    pub fn packed(py: Python<'_>, taken: Taken, packed: Option<Packed>, kernel_drops: u64) -> PyResult<Self> {
        let received = taken.received();
        let batch = Py::new(py, EventBatch { batch: taken.batch, packed })?;
        Ok(Intake { batch, received, kernel_drops, failures: taken.failures, notices: taken.notices })
    }
}

/// An input's rule: which parser, which tag, which fields are added.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Ingestor {
    /// The rule.
    pub inner: Arc<Ingest>,
}

#[pymethods]
impl Ingestor {
    #[new]
    #[pyo3(signature = (
        parser, tag, *, syslog = false, with_priority = false, severity_key = None, facility_key = None,
        source_address_key = None, source_hostname_key = None, chomp = false,
        emit_unmatched_lines = false, tag_key = None, keep_tag_key = false
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn new(
        parser: &CompiledParser,
        tag: String,
        syslog: bool,
        with_priority: bool,
        severity_key: Option<String>,
        facility_key: Option<String>,
        source_address_key: Option<String>,
        source_hostname_key: Option<String>,
        chomp: bool,
        emit_unmatched_lines: bool,
        tag_key: Option<String>,
        keep_tag_key: bool,
    ) -> Self {
        let rule = Rule {
            tag,
            syslog,
            with_priority,
            severity_key,
            facility_key,
            source_address_key,
            source_hostname_key,
            chomp,
            emit_unmatched_lines,
            tag_key,
            keep_tag_key,
        };
        Ingestor { inner: Arc::new(Ingest::new(Arc::clone(&parser.inner), rule)) }
    }

    /// `ingest(messages, address=None) -> Intake`: takes whole messages.
    #[pyo3(signature = (messages, address = None))]
    fn ingest(&self, py: Python<'_>, messages: &Bound<'_, PyAny>, address: Option<&str>) -> PyResult<Intake> {
        let messages =
            messages.try_iter()?.map(|message| text_bytes(&message?)).collect::<PyResult<Vec<_>>>()?;
        let ip = self.ip(address)?;
        let taken = py.detach(|| {
            let mut sink = Sink::default();
            fill(&self.inner, &mut sink, |filling| {
                for message in &messages {
                    filling.message(message, ip);
                }
            });
            sink.take()
        });
        Intake::new(py, taken, 0)
    }
}

impl Ingestor {
    fn ip(&self, address: Option<&str>) -> PyResult<Option<IpAddr>> {
        if !self.inner.needs_source() {
            return Ok(None);
        }
        address.map(parse_ip).transpose()
    }
}

fn parse_ip(address: &str) -> PyResult<IpAddr> {
    // Python writes the zone of a link-local address behind it
    let plain = address.split('%').next().unwrap_or_default();
    plain.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))
}

/// Opens a session and lets `work` fill `sink`; holds the interpreter where the parser is Python code, so
/// that it is not fought for once per message.
pub fn fill<T>(ingest: &Ingest, sink: &mut Sink, work: impl FnOnce(&mut Filling<'_>) -> T) -> T {
    if ingest.needs_python() {
        Python::attach(|_| work(&mut ingest.open(sink, now_ns())))
    } else {
        work(&mut ingest.open(sink, now_ns()))
    }
}

/// Framing from Python's arguments.
///
/// # Errors
/// `ValueError` for an empty delimiter or a limit of zero.
pub fn framing(delimiter: Option<&[u8]>, limit: Option<usize>) -> PyResult<Framing> {
    if limit == Some(0) {
        return Err(PyValueError::new_err("the message length limit must be at least 1 byte"));
    }
    match delimiter {
        None => Ok(Framing::octet_count(limit)),
        Some(delimiter) => Framing::delimiter(delimiter, limit)
            .ok_or_else(|| PyValueError::new_err("the delimiter must not be empty")),
    }
}

/// Cuts a byte stream into messages; by `delimiter`, or by octet counting where it is None.
#[pyclass(frozen, module = "forwarder._native")]
pub struct StreamFramer {
    framing: Framing,
    state: Mutex<(Framer, usize)>,
}

#[pymethods]
impl StreamFramer {
    #[new]
    #[pyo3(signature = (delimiter = None, limit = None))]
    fn new(delimiter: Option<&[u8]>, limit: Option<usize>) -> PyResult<Self> {
        Ok(StreamFramer { framing: framing(delimiter, limit)?, state: Mutex::default() })
    }

    /// The messages that `data` completes. `ValueError`: the stream cannot be framed any further.
    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let mut state = lock(&self.state);
        let (framer, too_long) = &mut *state;
        let mut messages = Vec::new();
        framer
            .feed(&self.framing, data, |frame| match frame {
                Frame::Message(message) => messages.push(PyBytes::new(py, message)),
                Frame::TooLong(_) => *too_long += 1,
            })
            .map_err(|why| PyValueError::new_err(why.reason()))?;
        PyList::new(py, messages)
    }

    /// How many messages were longer than the limit.
    #[getter]
    fn too_long(&self) -> usize {
        lock(&self.state).1
    }

    /// The stream's end: the bytes of a message without an end.
    fn finish<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &lock(&self.state).0.finish())
    }
}

/// Gives a framer's messages to an ingest and books the rest.
///
/// # Errors
/// The reason why the connection must be closed; it is booked.
pub fn feed(
    framing: &Framing,
    framer: &mut Framer,
    data: &[u8],
    ip: Option<IpAddr>,
    filling: &mut Filling<'_>,
) -> Result<(), Broken> {
    framer
        .feed(framing, data, |frame| match frame {
            Frame::Message(message) => filling.message(message, ip),
            Frame::TooLong(start) => filling.sink.fail("too_long", start),
        })
        .inspect_err(|why| filling.sink.fail(why.reason(), &data[..data.len().min(64)]))
}

/// Ends a framer: an unterminated rest is a lost message.
pub fn finish(framer: &mut Framer, sink: &mut Sink) {
    let rest = framer.finish();
    if !rest.is_empty() {
        sink.fail("unterminated", &rest);
    }
}

/// One connection of a `StreamFeeder`.
#[pyclass(frozen, module = "forwarder._native")]
pub struct FedConnection {
    framer: Mutex<Framer>,
    ip: Option<IpAddr>,
}

/// Streams that Python reads (TLS): framing and parsing of what was read, gathered into one batch.
#[pyclass(frozen, module = "forwarder._native")]
pub struct StreamFeeder {
    ingest: Arc<Ingest>,
    framing: Framing,
    sink: Mutex<Sink>,
    pending: Mutex<Unfinished>,
}

#[pymethods]
impl StreamFeeder {
    #[new]
    #[pyo3(signature = (ingestor, *, delimiter = None, limit = None))]
    fn new(ingestor: &Ingestor, delimiter: Option<&[u8]>, limit: Option<usize>) -> PyResult<Self> {
        Ok(StreamFeeder {
            ingest: Arc::clone(&ingestor.inner),
            framing: framing(delimiter, limit)?,
            sink: Mutex::default(),
            pending: Mutex::new(Unfinished::new(MAX_PENDING)),
        })
    }

    /// Unfinished messages are borrowed from a budget from here on.
    fn lend(&self, loan: &MemoryLoan) {
        lock(&self.pending).lend(Arc::clone(&loan.inner));
    }

    /// A new connection from `address`.
    fn connect(&self, address: &str) -> PyResult<FedConnection> {
        let ip = if self.ingest.needs_source() { Some(parse_ip(address)?) } else { None };
        Ok(FedConnection { framer: Mutex::default(), ip })
    }

    /// Takes what was read; False: the connection must be closed.
    fn feed(&self, py: Python<'_>, connection: &FedConnection, data: &[u8]) -> bool {
        py.detach(|| {
            let mut sink = lock(&self.sink);
            let mut framer = lock(&connection.framer);
            let before = framer.pending();
            let good = fill(&self.ingest, &mut sink, |filling| {
                feed(&self.framing, &mut framer, data, connection.ip, filling).is_ok()
            });
            let full = lock(&self.pending).change(before, framer.pending());
            if full {
                sink.notice("connection_limit", TOO_MUCH);
            }
            good && !full
        })
    }

    /// The connection's end.
    fn finish(&self, connection: &FedConnection) {
        let mut framer = lock(&connection.framer);
        lock(&self.pending).change(framer.pending(), 0);
        finish(&mut framer, &mut lock(&self.sink));
    }

    /// Books something for the log that is no lost event.
    fn notice(&self, what: &str, sample: &[u8]) -> PyResult<()> {
        let known = ["denied", "tls_error", "connection_limit"];
        let what = known
            .iter()
            .find(|name| **name == what)
            .ok_or_else(|| PyValueError::new_err(format!("{what:?} is none of {known:?}")))?;
        lock(&self.sink).notice(what, sample);
        Ok(())
    }

    /// Events and failures gathered so far.
    #[getter]
    fn count(&self) -> usize {
        lock(&self.sink).count()
    }

    /// What was gathered since the last call; None: nothing.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Intake>> {
        let taken = {
            let mut sink = lock(&self.sink);
            if sink.is_empty() {
                return Ok(None);
            }
            sink.take()
        };
        Intake::new(py, taken, 0).map(Some)
    }
}

/// A parser written in Python, as kernels see it.
struct PythonParser {
    parse: Py<PyAny>,
    estimate_current_event: bool,
}

impl Parser for PythonParser {
    fn session(&self) -> Box<dyn Session + '_> {
        Box::new(PythonSession { parse: &self.parse })
    }

    fn estimate_current_event(&self) -> bool {
        self.estimate_current_event
    }

    fn needs_python(&self) -> bool {
        true
    }
}

struct PythonSession<'a> {
    parse: &'a Py<PyAny>,
}

impl Session for PythonSession<'_> {
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
        Python::attach(|py| {
            let events = self.call(py, text, out);
            events
                .map_err(|_| Mismatch::Failed)
                .and_then(|any| if any { Ok(()) } else { Err(Mismatch::NoMatch) })
        })
    }
}

impl PythonSession<'_> {
    fn call(&self, py: Python<'_>, text: &[u8], out: &mut Events) -> PyResult<bool> {
        let events = self.parse.bind(py).call1((PyBytes::new(py, text),))?;
        let mut any = false;
        for event in events.try_iter()? {
            let (time_ns, record): (Option<i64>, Bound<'_, PyDict>) = event?.extract()?;
            let start = out.fields.len();
            for (key, value) in &record {
                python_to_value(&mut out.fields, &key, 1)?;
                python_to_value(&mut out.fields, &value, 1)?;
            }
            out.push(start, record.len() as u32, time_ns);
            any = true;
        }
        Ok(any)
    }
}

/// `python_parser(parse, estimate_current_event=True) -> CompiledParser`: lets native code call
/// `parse(text: bytes) -> iterable of (time_ns | None, record)`. No event at all means "not matched"; an
/// exception is counted as `parser_error` and does not come out: log it in `parse`.
#[pyfunction]
#[pyo3(signature = (parse, estimate_current_event = true))]
pub fn python_parser(parse: Py<PyAny>, estimate_current_event: bool) -> CompiledParser {
    CompiledParser::new(PythonParser { parse, estimate_current_event })
}

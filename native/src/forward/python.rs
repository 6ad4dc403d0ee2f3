//! What Python sees of the forward protocol: `ForwardRules`, `ForwardServer`, `ForwardFeeder`.

use std::any::Any;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::decoder::{Decoder, Scene, Shared};
use super::message::{Peer, Rules};
use super::server::{Gate, MAX_PENDING, Options, Secret, Server, TOO_MUCH, source_fields};
use super::sink::{Ack, Sink};
use crate::budget::{MemoryLoan, Unfinished};
use crate::intake::{Intake, Stop, lock, os_error};
use crate::listener::Listener;
use crate::python::{python_to_value, value_to_python};
use crate::sockaddr::{HostNames, Wake, now_ns};

/// Longest message where the configuration sets no limit.
const SIZE_LIMIT: usize = 256 << 20;

/// What a forward input does with messages, and who may send them.
#[pyclass(frozen, module = "forwarder._native")]
pub struct ForwardRules {
    rules: Arc<Rules>,
    gate: Option<Arc<dyn Gate>>,
}

/// The handshake, written in Python.
struct PythonGate(Py<PyAny>);

impl PythonGate {
    fn call(
        &self,
        py: Python<'_>,
        secret: &dyn Any,
        peer: &str,
        message: &[u8],
    ) -> PyResult<(bool, Vec<u8>)> {
        let Some(secret) = secret.downcast_ref::<Py<PyAny>>() else {
            return Err(PyValueError::new_err("a secret of another gate"));
        };
        let message = value_to_python(py, message, &mut 0, 1)?;
        let verdict = self.0.bind(py).call_method1("judge", (secret, peer, message))?;
        let (good, answer): (bool, Bound<'_, PyAny>) = verdict.extract()?;
        let mut bytes = Vec::new();
        python_to_value(&mut bytes, &answer, 1)?;
        Ok((good, bytes))
    }
}

impl Gate for PythonGate {
    fn hello(&self) -> Option<(Vec<u8>, Secret)> {
        Python::attach(|py| {
            let made = self.0.bind(py).call_method0("hello").and_then(|made| {
                let (message, secret): (Bound<'_, PyAny>, Py<PyAny>) = made.extract()?;
                let mut bytes = Vec::new();
                python_to_value(&mut bytes, &message, 1)?;
                Ok((bytes, secret))
            });
            match made {
                Ok((bytes, secret)) => Some((bytes, Box::new(secret) as Secret)),
                Err(why) => {
                    why.write_unraisable(py, None);
                    // without a secret nobody gets in
                    Some((Vec::new(), Box::new(()) as Secret))
                }
            }
        })
    }

    fn judge(&self, secret: &dyn Any, peer: &str, message: &[u8]) -> (bool, Vec<u8>) {
        Python::attach(|py| {
            self.call(py, secret, peer, message).unwrap_or_else(|why| {
                why.write_unraisable(py, None);
                (false, Vec::new())
            })
        })
    }
}

#[pymethods]
impl ForwardRules {
    #[new]
    #[pyo3(signature = (
        *, tag = None, add_tag_prefix = None, skip_invalid_event = true, chunk_size_limit = None,
        chunk_size_warn_limit = None, decompression_size_limit = 268_435_456, source_address_key = None,
        source_hostname_key = None, gate = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        tag: Option<&str>,
        add_tag_prefix: Option<String>,
        skip_invalid_event: bool,
        chunk_size_limit: Option<usize>,
        chunk_size_warn_limit: Option<usize>,
        decompression_size_limit: usize,
        source_address_key: Option<&str>,
        source_hostname_key: Option<&str>,
        gate: Option<Py<PyAny>>,
    ) -> Self {
        let key = |name: &str| Arc::from(name.as_bytes());
        let rules = Rules {
            tag: tag.map(Arc::from),
            prefix: add_tag_prefix,
            skip_invalid: skip_invalid_event,
            size_limit: chunk_size_limit.unwrap_or(SIZE_LIMIT),
            warn_limit: chunk_size_warn_limit,
            decompressed_limit: decompression_size_limit,
            address_key: source_address_key.map(key),
            hostname_key: source_hostname_key.map(key),
        };
        let gate = gate.map(|gate| Arc::new(PythonGate(gate)) as Arc<dyn Gate>);
        ForwardRules { rules: Arc::new(rules), gate }
    }
}

/// Receives events from forward clients; see [`super::server`].
#[pyclass(frozen, module = "forwarder._native")]
pub struct ForwardServer {
    rules: Arc<Rules>,
    state: Mutex<Server>,
    wake: Wake,
    stop: Stop,
    port: u16,
}

#[pymethods]
impl ForwardServer {
    #[new]
    #[pyo3(signature = (
        rules, listener, *, linger_timeout = None, keepalive = false, deny_keepalive = false,
        max_connections = 1024
    ))]
    fn new(
        rules: &ForwardRules,
        listener: RawFd,
        linger_timeout: Option<i32>,
        keepalive: bool,
        deny_keepalive: bool,
        max_connections: usize,
    ) -> PyResult<Self> {
        let options = Options { linger: linger_timeout, keepalive, deny_keepalive, gate: rules.gate.clone() };
        let wake = Wake::new().map_err(|why| os_error(&why))?;
        let listener = Listener::new(listener, &wake, max_connections).map_err(|why| os_error(&why))?;
        Ok(ForwardServer {
            rules: Arc::clone(&rules.rules),
            port: listener.address.map_or(0, |address| address.port()),
            state: Mutex::new(Server::new(listener, options)),
            wake,
            stop: Stop::default(),
        })
    }

    /// `next(max_wait_ms) -> Intake | None`: what has come, waiting at most so long for it.
    fn next(&self, py: Python<'_>, max_wait_ms: u64) -> PyResult<Option<Intake>> {
        let max_wait = Duration::from_millis(max_wait_ms);
        let outcome = py.detach(|| lock(&self.state).next(&self.rules, &self.wake, &self.stop, max_wait));
        match outcome.map_err(|why| os_error(&why))? {
            None => Ok(None),
            Some(portion) => Intake::packed(py, portion.taken, portion.packed, 0).map(Some),
        }
    }

    /// What `next` gave last is safe: who asked for it gets an acknowledgement.
    fn acknowledge(&self, py: Python<'_>) {
        py.detach(|| lock(&self.state).settle(true));
    }

    /// From any thread: `next` gives what the kernel has, then closes everything and is `finished`. `keep`: who
    /// waits to be accepted is left to another process.
    #[pyo3(signature = (*, keep = false))]
    fn stop(&self, keep: bool) {
        self.stop.set(keep);
        self.wake.wake();
    }

    /// Unfinished messages are borrowed from a budget from here on.
    fn lend(&self, py: Python<'_>, loan: &MemoryLoan) {
        let loan = Arc::clone(&loan.inner);
        py.detach(|| lock(&self.state).lend(loan));
    }

    /// Whether everything has been taken after `stop`.
    #[getter]
    fn finished(&self, py: Python<'_>) -> bool {
        py.detach(|| lock(&self.state).finished())
    }

    /// The bound port; 0 for a Unix-domain socket.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }
}

/// One connection of a `ForwardFeeder`.
#[pyclass(frozen, module = "forwarder._native")]
pub struct FedForward {
    token: u64,
    state: Mutex<(Decoder, Peer, Option<Secret>)>,
}

struct Fed {
    sink: Sink,
    held: Unfinished,
    given: Vec<Ack>,
    /// Per connection: what is to be sent, and how many acknowledgements are owed.
    out: HashMap<u64, (Vec<u8>, usize)>,
    names: HostNames,
    last: u64,
}

#[pymethods]
impl FedForward {
    /// What tells it from the feeder's other connections.
    #[getter]
    fn token(&self) -> u64 {
        self.token
    }
}

/// For connections that Python reads (TLS).
#[pyclass(frozen, module = "forwarder._native")]
pub struct ForwardFeeder {
    rules: Arc<Rules>,
    gate: Option<Arc<dyn Gate>>,
    one_message: bool,
    fed: Mutex<Fed>,
}

#[pymethods]
impl ForwardFeeder {
    #[new]
    #[pyo3(signature = (rules, *, deny_keepalive = false))]
    fn new(rules: &ForwardRules, deny_keepalive: bool) -> Self {
        ForwardFeeder {
            rules: Arc::clone(&rules.rules),
            gate: rules.gate.clone(),
            one_message: deny_keepalive,
            fed: Mutex::new(Fed {
                sink: Sink::default(),
                held: Unfinished::new(MAX_PENDING),
                given: Vec::new(),
                out: HashMap::new(),
                names: HostNames::default(),
                last: 0,
            }),
        }
    }

    /// Unfinished messages are borrowed from a budget from here on.
    fn lend(&self, loan: &MemoryLoan) {
        lock(&self.fed).held.lend(Arc::clone(&loan.inner));
    }

    /// A new connection from `address`, an IP address, and `port`.
    #[pyo3(signature = (address, port = 0))]
    fn connect(&self, py: Python<'_>, address: &str, port: u16) -> PyResult<FedForward> {
        let plain = address.split('%').next().unwrap_or_default();
        let ip = plain.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))?;
        Ok(py.detach(|| {
            let hello = self.gate.as_ref().and_then(|gate| gate.hello());
            let mut fed = lock(&self.fed);
            fed.last += 1;
            let token = fed.last;
            let fields = source_fields(&self.rules, Some(ip), &mut fed.names);
            let (out, secret) = hello.map_or((Vec::new(), None), |(out, secret)| (out, Some(secret)));
            fed.out.insert(token, (out, 0));
            let name = std::net::SocketAddr::new(ip, port).to_string();
            let peer = Peer { name, token, json: false, fields };
            FedForward { token, state: Mutex::new((Decoder::default(), peer, secret)) }
        }))
    }

    /// Takes what was read; False: nothing more must be read, and the connection be closed as soon as nothing
    /// is `owed`.
    fn feed(&self, py: Python<'_>, connection: &FedForward, data: &[u8]) -> bool {
        py.detach(|| {
            let mut state = lock(&connection.state);
            let (decoder, peer, secret) = &mut *state;
            let mut answer = None;
            let name = peer.name.clone();
            let mut fed = lock(&self.fed);
            let (before, held) = (fed.sink.acks(), decoder.held());
            let outcome = {
                let mut judge = |message: &[u8], sink: &mut Sink| {
                    let (good, bytes) = match (&self.gate, &secret) {
                        (Some(gate), Some(secret)) => gate.judge(&**secret, &name, message),
                        _ => (true, Vec::new()),
                    };
                    if !good {
                        sink.fail("refused", name.as_bytes());
                    }
                    answer = Some(bytes);
                    good
                };
                let mut scene = Scene {
                    rules: &self.rules,
                    sink: &mut fed.sink,
                    now_ns: now_ns(),
                    one_message: self.one_message,
                    gate: if secret.is_some() { Shared::Handshake(&mut judge) } else { Shared::Open },
                };
                decoder.feed(data, peer, &mut scene)
            };
            let owed = fed.sink.acks() - before;
            let full = fed.held.change(held, decoder.held());
            if full {
                fed.sink.fail("unterminated", &peer.sample(b"", TOO_MUCH));
            }
            if let Some(out) = fed.out.get_mut(&connection.token) {
                out.1 += owed;
                out.0.extend(answer.iter().flatten());
            }
            if answer.is_some() {
                *secret = None;
            }
            outcome.is_ok() && !full
        })
    }

    /// What is to be sent, which is then no longer known here.
    fn outgoing<'py>(&self, py: Python<'py>, connection: &FedForward) -> Bound<'py, PyBytes> {
        let out = lock(&self.fed).out.get_mut(&connection.token).map(|out| std::mem::take(&mut out.0));
        PyBytes::new(py, &out.unwrap_or_default())
    }

    /// Acknowledgements that the connection may still get.
    fn owed(&self, connection: &FedForward) -> usize {
        lock(&self.fed).out.get(&connection.token).map_or(0, |out| out.1)
    }

    /// Whether the handshake has been passed, or there is none.
    fn established(&self, connection: &FedForward) -> bool {
        lock(&connection.state).2.is_none()
    }

    /// The connection's end.
    fn finish(&self, connection: &FedForward) {
        let state = lock(&connection.state);
        let mut fed = lock(&self.fed);
        fed.held.change(state.0.held(), 0);
        if state.0.unfinished() {
            fed.sink.fail("unterminated", &state.1.sample(b"", b"connection closed"));
        }
        fed.out.remove(&connection.token);
    }

    /// Books something for the log; "tls_error" is counted as a failure too.
    fn notice(&self, what: &str, sample: &[u8]) -> PyResult<()> {
        let known = ["denied", "tls_error", "connection_limit", "handshake_timeout"];
        let what = known
            .iter()
            .find(|name| **name == what)
            .ok_or_else(|| PyValueError::new_err(format!("{what:?} is none of {known:?}")))?;
        let sink = &mut lock(&self.fed).sink;
        if *what == "tls_error" {
            sink.fail(what, sample)
        } else {
            sink.notice(what, sample)
        }
        Ok(())
    }

    /// Events and failures gathered so far.
    #[getter]
    fn count(&self) -> usize {
        lock(&self.fed).sink.count()
    }

    /// Whether somebody waits for an acknowledgement, or a batch is full: nothing more need be gathered.
    #[getter]
    fn urgent(&self) -> bool {
        let fed = lock(&self.fed);
        fed.sink.owes() || fed.sink.sealed()
    }

    /// A batch of what was gathered; None: nothing.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Intake>> {
        let portion = {
            let mut fed = lock(&self.fed);
            let _ = settle(&mut fed, false);
            let portion = fed.sink.take();
            portion.map(|mut portion| {
                fed.given = std::mem::take(&mut portion.acks);
                portion
            })
        };
        portion.map(|portion| Intake::packed(py, portion.taken, portion.packed, 0)).transpose()
    }

    /// What `take` gave last is safe: the acknowledgements are `outgoing` at the connections with these tokens.
    fn acknowledge(&self) -> Vec<u64> {
        settle(&mut lock(&self.fed), true)
    }
}

fn settle(fed: &mut Fed, safe: bool) -> Vec<u64> {
    let mut answered = Vec::new();
    for ack in std::mem::take(&mut fed.given) {
        if let Some(out) = fed.out.get_mut(&ack.token) {
            out.1 -= 1;
            if safe {
                out.0.extend_from_slice(&ack.bytes);
                if answered.last() != Some(&ack.token) {
                    answered.push(ack.token);
                }
            }
        }
    }
    answered
}

//! The TCP server: many connections, one thread, straight into a parser.
//!
//! epoll, level-triggered: what is not read now is reported again, so back-pressure is simply not calling
//! [`Server::next`]; the kernel then closes the senders' windows. One connection reads at most
//! [`READS`] times [`READ`] bytes before the next one has its turn. Memory per connection is bounded by the
//! framing's limit, memory of all by [`MAX_PENDING`], the number of connections by `max_connections` (then
//! further ones wait in the listen queue). A connection that never sends costs one descriptor and no time.

use std::io;
use std::net::IpAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::budget::{MemoryLoan, Unfinished};
use crate::framer::{Framer, Framing};
use crate::ingest::{Ingest, Sink, Taken};
use crate::intake::{self, Ingestor, Intake, MAX_PENDING, Stop, TOO_MUCH, lock, os_error};
use crate::listener::{Arrival, Listener, Pace, Report, queued, read, set_linger};
use crate::sockaddr::{self, Network, Wake};

/// Bytes per read.
const READ: usize = 64 << 10;
/// Reads of one connection in a row.
const READS: usize = 4;
/// Events at which a batch is handed on.
const TARGET: usize = 2048;
/// Bytes at which a batch is handed on.
const MAX_BYTES: usize = 8 << 20;

/// How to serve.
pub struct ServerOptions {
    /// Seconds for `SO_LINGER`; None leaves the kernel's way of closing.
    pub linger: Option<i32>,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// Who may connect; None: everybody.
    pub allow: Option<Vec<Network>>,
}

struct Connection {
    socket: OwnedFd,
    framer: Framer,
    ip: IpAddr,
    /// Bytes still to read while stopping.
    drain: usize,
}

/// The serving state; one thread at a time.
pub struct Server {
    listener: Listener,
    options: ServerOptions,
    framing: Framing,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    open: usize,
    pending: Unfinished,
    draining: bool,
    finished: bool,
    buffer: Vec<u8>,
    sink: Sink,
    pace: Pace,
}

impl Server {
    /// Not started yet.
    #[must_use]
    pub fn new(listener: Listener, options: ServerOptions, framing: Framing) -> Self {
        Server {
            listener,
            options,
            framing,
            connections: Vec::new(),
            free: Vec::new(),
            open: 0,
            pending: Unfinished::new(MAX_PENDING),
            draining: false,
            finished: false,
            buffer: vec![0; READ],
            sink: Sink::default(),
            pace: Pace::default(),
        }
    }

    /// Whether everything has been taken after a stop.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Waits for messages, at most `max_wait`, and gives what has come; None: nothing at all.
    /// After `stop` it gives what the kernel has, call by call, and then closes everything.
    ///
    /// # Errors
    /// The system's.
    pub fn next(
        &mut self,
        ingest: &Ingest,
        wake: &Wake,
        stop: &Stop,
        max_wait: Duration,
    ) -> io::Result<Option<Taken>> {
        if self.finished {
            return Ok(None);
        }
        if stop.asked() {
            self.drain(ingest, stop.keeps());
        } else {
            self.serve(ingest, wake, stop, max_wait)?;
        }
        Ok((!self.sink.is_empty()).then(|| self.sink.take()))
    }

    fn serve(&mut self, ingest: &Ingest, wake: &Wake, stop: &Stop, max_wait: Duration) -> io::Result<()> {
        let mut wait = max_wait;
        loop {
            let busy = self.round(ingest, wait)?;
            if !busy {
                self.listener.resume(self.open);
            }
            let count = self.sink.count();
            if stop.asked() || count >= TARGET || self.sink.bytes() >= MAX_BYTES {
                break;
            }
            if count == 0 && self.sink.is_empty() {
                if !busy {
                    break; // `max_wait` is over
                }
                continue; // connections came or went, or parts of messages
            }
            let Some(sleep) = self.pace.gather() else { break };
            wake.sleep(sleep);
            wait = Duration::ZERO;
        }
        self.pace.hand_on(self.sink.count());
        Ok(())
    }

    /// Does what there is to do, waiting at most so long for it; whether there was anything.
    fn round(&mut self, ingest: &Ingest, wait: Duration) -> io::Result<bool> {
        let (reports, busy) = self.listener.wait(wait)?;
        for report in reports {
            match report {
                Report::Listener => self.accept(),
                Report::Connection { slot, .. } => {
                    self.receive(ingest, slot, READS);
                }
            }
        }
        Ok(busy)
    }

    fn accept(&mut self) {
        let before = self.open;
        loop {
            match self.listener.accept(self.open, before) {
                Arrival::Connection(socket, Some(address)) => self.admit(socket, address.ip()),
                Arrival::Connection(_, None) => {}
                Arrival::Nobody => return,
                Arrival::NoRoom(why) => return self.sink.notice("connection_limit", why.as_bytes()),
            }
        }
    }

    fn admit(&mut self, socket: OwnedFd, ip: IpAddr) {
        if let Some(seconds) = self.options.linger {
            set_linger(&socket, Some(seconds));
        }
        if let Some(allow) = &self.options.allow
            && !allow.iter().any(|network| network.contains(ip))
        {
            self.sink.notice("denied", ip.to_string().as_bytes());
            return;
        }
        if self.options.keepalive {
            let _ = sockaddr::set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        if self.listener.watch(&socket, index).is_err() {
            self.free.push(index);
            return self.sink.notice("connection_limit", b"epoll takes no more");
        }
        self.connections[index] = Some(Connection { socket, framer: Framer::default(), ip, drain: 0 });
        self.open += 1;
    }

    /// Reads from a connection, at most `reads` times; whether it is still open.
    fn receive(&mut self, ingest: &Ingest, index: usize, reads: usize) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return false };
        let before = connection.framer.pending();
        let mut open = true;
        for _ in 0..reads {
            let got = match read(&connection.socket, &mut self.buffer) {
                Ok(got) => got,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => 0, // reset by the peer
            };
            if got == 0 {
                open = false;
                break;
            }
            connection.drain = connection.drain.saturating_sub(got);
            let data = &self.buffer[..got];
            let ip = ingest.needs_source().then_some(connection.ip);
            let framer = &mut connection.framer;
            let fed = intake::fill(ingest, &mut self.sink, |filling| {
                intake::feed(&self.framing, framer, data, ip, filling)
            });
            if fed.is_err() {
                open = false;
                break;
            }
            if got < READ || self.sink.count() >= TARGET {
                break;
            }
        }
        if self.pending.change(before, connection.framer.pending()) {
            self.sink.notice("connection_limit", TOO_MUCH);
            open = false;
        }
        if !open {
            self.close(index);
        }
        open
    }

    fn close(&mut self, index: usize) {
        if let Some(mut connection) = self.connections[index].take() {
            self.pending.change(connection.framer.pending(), 0);
            intake::finish(&mut connection.framer, &mut self.sink);
            self.free.push(index);
            self.open -= 1;
            self.listener.resume(self.open);
        }
    }

    /// Stopping: no new connections; reads what the kernel had at the time of the stop.
    fn drain(&mut self, ingest: &Ingest, keep: bool) {
        if !self.draining {
            self.draining = true;
            if !keep {
                self.accept(); // those that the kernel has accepted already
            }
            self.listener.close();
            for connection in self.connections.iter_mut().flatten() {
                connection.drain = queued(&connection.socket);
            }
        }
        for index in 0..self.connections.len() {
            while self.connections[index].as_ref().is_some_and(|connection| connection.drain > 0) {
                let left = self.connections[index].as_ref().map_or(0, |connection| connection.drain);
                self.receive(ingest, index, READS);
                if self.sink.count() >= TARGET || self.sink.bytes() >= MAX_BYTES {
                    return;
                }
                if let Some(Some(connection)) = self.connections.get_mut(index)
                    && connection.drain == left
                {
                    connection.drain = 0; // the kernel has nothing after all
                }
            }
            self.close(index);
        }
        self.finished = true;
    }
}

/// Receives messages over TCP as events; see the module.
#[pyclass(frozen, module = "forwarder._native")]
pub struct StreamServer {
    ingest: Arc<Ingest>,
    state: Mutex<Server>,
    wake: Wake,
    stop: Stop,
    port: u16,
}

#[pymethods]
impl StreamServer {
    #[new]
    #[pyo3(signature = (
        ingestor, listener, *, delimiter = None, message_length_limit = None, linger_timeout = None,
        keepalive = false, allow = None, max_connections = 1024
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        ingestor: &Ingestor,
        listener: RawFd,
        delimiter: Option<&[u8]>,
        message_length_limit: Option<usize>,
        linger_timeout: Option<i32>,
        keepalive: bool,
        allow: Option<Vec<String>>,
        max_connections: usize,
    ) -> PyResult<Self> {
        let framing = intake::framing(delimiter, message_length_limit)?;
        let allow =
            allow.map(|list| list.iter().map(|text| parse_network(text)).collect::<PyResult<Vec<_>>>());
        let options = ServerOptions { linger: linger_timeout, keepalive, allow: allow.transpose()? };
        let wake = Wake::new().map_err(|why| os_error(&why))?;
        let listener = Listener::new(listener, &wake, max_connections).map_err(|why| os_error(&why))?;
        Ok(StreamServer {
            ingest: Arc::clone(&ingestor.inner),
            port: listener.address.map_or(0, |address| address.port()),
            state: Mutex::new(Server::new(listener, options, framing)),
            wake,
            stop: Stop::default(),
        })
    }

    /// `next(max_wait_ms) -> Intake | None`: what has come, waiting at most so long for it.
    fn next(&self, py: Python<'_>, max_wait_ms: u64) -> PyResult<Option<Intake>> {
        let max_wait = Duration::from_millis(max_wait_ms);
        let outcome = py.detach(|| lock(&self.state).next(&self.ingest, &self.wake, &self.stop, max_wait));
        match outcome.map_err(|why| os_error(&why))? {
            None => Ok(None),
            Some(taken) => Intake::new(py, taken, 0).map(Some),
        }
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
        py.detach(|| lock(&self.state).pending.lend(loan));
    }

    /// Whether everything has been taken after `stop`.
    #[getter]
    fn finished(&self, py: Python<'_>) -> bool {
        py.detach(|| lock(&self.state).finished())
    }

    /// The bound port.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }
}

pub(crate) fn parse_network(text: &str) -> PyResult<Network> {
    Network::parse(text)
        .ok_or_else(|| PyValueError::new_err(format!("{text:?} is neither an address nor a network")))
}

/// `network_contains(network, address) -> bool`: what an allow-list says, for servers in Python.
#[pyfunction]
#[pyo3(signature = (network, address), text_signature = "(network, address)")]
pub fn network_contains(network: &str, address: &str) -> PyResult<bool> {
    let plain = address.split('%').next().unwrap_or_default();
    let ip = plain.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))?;
    Ok(parse_network(network)?.contains(ip))
}

//! The TCP server: many connections, one thread, straight into a parser.
//!
//! epoll, level-triggered: what is not read now is reported again, so back-pressure is simply not calling
//! [`Server::next`]; the kernel then closes the senders' windows. One connection reads at most
//! [`READS`] times [`READ`] bytes before the next one has its turn. Memory per connection is bounded by the
//! framing's limit, memory of all by [`MAX_PENDING`], the number of connections by `max_connections` (then
//! further ones wait in the listen queue). A connection that never sends costs one descriptor and no time.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::framer::{Framer, Framing};
use crate::ingest::{Ingest, Sink, Taken};
use crate::intake::{self, Ingestor, Intake, lock, os_error};
use crate::sockaddr::{self, Network, Wake, check};

/// Bytes per read.
const READ: usize = 64 << 10;
/// Reads of one connection in a row.
const READS: usize = 4;
/// Events at which a batch is handed on.
const TARGET: usize = 2048;
/// Bytes at which a batch is handed on.
const MAX_BYTES: usize = 8 << 20;
/// Longest time that an event waits for others.
const MAX_LINGER: Duration = Duration::from_millis(20);
/// How many events may gather in kernel buffers during one sleep.
const GATHER: f64 = 400.0;
/// Below so many events a second, waiting for more brings none.
const TRICKLE: f64 = 100.0;
/// Unfinished messages of all connections together, in bytes.
const MAX_PENDING: usize = 256 << 20;
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// How to serve.
pub struct ServerOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// Receive buffer of each connection to ask the kernel for.
    pub receive_buffer: Option<usize>,
    /// Seconds for `SO_LINGER`; None leaves the kernel's way of closing.
    pub linger: Option<i32>,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Who may connect; None: everybody.
    pub allow: Option<Vec<Network>>,
    /// Connections at once.
    pub max_connections: usize,
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
    listener: Option<OwnedFd>,
    epoll: OwnedFd,
    options: ServerOptions,
    framing: Framing,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    open: usize,
    pending: usize,
    paused: bool,
    draining: bool,
    finished: bool,
    buffer: Vec<u8>,
    sink: Sink,
    rate: f64,
    last: Instant,
    /// Bound address.
    pub address: SocketAddr,
}

pub(crate) fn watch(epoll: &OwnedFd, fd: libc::c_int, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: the event is valid during the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

pub(crate) fn read(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is valid for its length.
        let got = unsafe { libc::read(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if let Ok(got) = usize::try_from(got) {
            return Ok(got);
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

pub(crate) fn queued(socket: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if outcome == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

impl Server {
    /// Binds and listens.
    ///
    /// # Errors
    /// The system's, such as "address in use".
    pub fn new(options: ServerOptions, framing: Framing, wake: &Wake) -> io::Result<Self> {
        let listener = sockaddr::bound_socket(&options.address, libc::SOCK_STREAM, options.reuse_port)?;
        if let Some(bytes) = options.receive_buffer {
            sockaddr::set_receive_buffer(&listener, bytes)?; // connections inherit it
        }
        // SAFETY: no pointers.
        check(unsafe { libc::listen(listener.as_raw_fd(), 1024) })?;
        // SAFETY: no pointers; the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        watch(&epoll, listener.as_raw_fd(), LISTENER)?;
        watch(&epoll, wake.raw(), WAKE)?;
        Ok(Server {
            address: sockaddr::local_address(&listener)?,
            listener: Some(listener),
            epoll,
            options,
            framing,
            connections: Vec::new(),
            free: Vec::new(),
            open: 0,
            pending: 0,
            paused: false,
            draining: false,
            finished: false,
            buffer: vec![0; READ],
            sink: Sink::default(),
            rate: 0.0,
            last: Instant::now(),
        })
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
        stop: &AtomicBool,
        max_wait: Duration,
    ) -> io::Result<Option<Taken>> {
        if self.finished {
            return Ok(None);
        }
        if stop.load(Ordering::Acquire) {
            self.drain(ingest);
        } else {
            self.serve(ingest, wake, stop, max_wait)?;
        }
        Ok((!self.sink.is_empty()).then(|| self.sink.take()))
    }

    fn serve(
        &mut self,
        ingest: &Ingest,
        wake: &Wake,
        stop: &AtomicBool,
        max_wait: Duration,
    ) -> io::Result<()> {
        let mut wait = max_wait;
        let mut deadline = None;
        loop {
            let busy = self.round(ingest, wait)?;
            if self.paused && !busy {
                self.resume();
            }
            let count = self.sink.count();
            if stop.load(Ordering::Acquire) || count >= TARGET || self.sink.bytes() >= MAX_BYTES {
                break;
            }
            if count == 0 && self.sink.is_empty() {
                if !busy {
                    break; // `max_wait` is over
                }
                continue; // connections came or went, or parts of messages
            }
            let now = Instant::now();
            let left = deadline.get_or_insert(now + MAX_LINGER).saturating_duration_since(now);
            if self.rate < TRICKLE || left.is_zero() {
                break;
            }
            wake.sleep(Duration::from_secs_f64(GATHER / self.rate).min(left));
            wait = Duration::ZERO;
        }
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64().max(1e-6);
        self.rate = (self.rate + self.sink.count() as f64 / seconds) / 2.0;
        self.last = now;
        Ok(())
    }

    /// One `epoll_wait` and what it reports; whether there was anything.
    fn round(&mut self, ingest: &Ingest, wait: Duration) -> io::Result<bool> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let limit = libc::c_int::try_from(wait.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: room for 64 events.
        let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, limit) };
        let ready = match check(ready) {
            Ok(ready) => ready as usize,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => 0,
            Err(why) => return Err(why),
        };
        for event in &events[..ready] {
            match event.u64 {
                LISTENER => self.accept(),
                WAKE => {}
                token => {
                    self.receive(ingest, token as usize, READS);
                }
            }
        }
        Ok(ready > 0)
    }

    fn accept(&mut self) {
        let before = self.open;
        while let Some(listener) = &self.listener {
            if self.open >= self.options.max_connections {
                if self.open > before {
                    return; // full, but perhaps nobody waits
                }
                self.sink.notice("connection_limit", self.options.max_connections.to_string().as_bytes());
                return self.pause();
            }
            // SAFETY: plain data for which all zeroes are valid.
            let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
            let mut len = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: the storage is valid for `len` bytes.
            let fd = unsafe {
                libc::accept4(listener.as_raw_fd(), (&raw mut storage).cast(), &raw mut len, flags)
            };
            if fd == -1 {
                let why = io::Error::last_os_error();
                match why.raw_os_error() {
                    Some(libc::EINTR | libc::ECONNABORTED) => continue,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        self.sink.notice("connection_limit", why.to_string().as_bytes());
                        self.pause();
                    }
                    _ => {} // nobody there (any more)
                }
                return;
            }
            // SAFETY: the descriptor is new and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let Some(address) = sockaddr::from_raw(&storage) else { continue };
            self.admit(socket, address.ip());
        }
    }

    fn admit(&mut self, socket: OwnedFd, ip: IpAddr) {
        if let Some(seconds) = self.options.linger {
            let linger = libc::linger { l_onoff: 1, l_linger: seconds };
            let len = mem::size_of::<libc::linger>() as libc::socklen_t;
            // SAFETY: the value is valid for `len` bytes. A failure leaves the default way of closing.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    len,
                )
            };
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
        if watch(&self.epoll, socket.as_raw_fd(), index as u64).is_err() {
            self.free.push(index);
            return self.sink.notice("connection_limit", b"epoll takes no more");
        }
        self.connections[index] = Some(Connection { socket, framer: Framer::default(), ip, drain: 0 });
        self.open += 1;
    }

    /// No more connections for now: the listener would be reported for ever.
    fn pause(&mut self) {
        if let Some(listener) = &self.listener
            && !self.paused
        {
            // SAFETY: DEL takes no event.
            unsafe {
                libc::epoll_ctl(
                    self.epoll.as_raw_fd(),
                    libc::EPOLL_CTL_DEL,
                    listener.as_raw_fd(),
                    std::ptr::null_mut(),
                )
            };
            self.paused = true;
        }
    }

    fn resume(&mut self) {
        if let Some(listener) = &self.listener
            && self.open < self.options.max_connections
            && watch(&self.epoll, listener.as_raw_fd(), LISTENER).is_ok()
        {
            self.paused = false;
        }
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
        let after = connection.framer.pending();
        self.pending = (self.pending + after).saturating_sub(before);
        if self.pending > MAX_PENDING && after > before {
            self.sink.notice("connection_limit", b"too much of unfinished messages");
            open = false;
        }
        if !open {
            self.close(index);
        }
        open
    }

    fn close(&mut self, index: usize) {
        if let Some(mut connection) = self.connections[index].take() {
            self.pending = self.pending.saturating_sub(connection.framer.pending());
            intake::finish(&mut connection.framer, &mut self.sink);
            self.free.push(index);
            self.open -= 1;
            if self.paused {
                self.resume();
            }
        }
    }

    /// Stopping: no new connections; reads what the kernel had at the time of the stop.
    fn drain(&mut self, ingest: &Ingest) {
        if !self.draining {
            self.draining = true;
            self.accept(); // those that the kernel has accepted already
            self.listener = None;
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
    stop: AtomicBool,
    port: u16,
}

#[pymethods]
impl StreamServer {
    #[new]
    #[pyo3(signature = (
        ingestor, bind, port, *, delimiter = None, message_length_limit = None, receive_buffer_size = None,
        linger_timeout = None, keepalive = false, allow = None, max_connections = 1024, reuse_port = false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        ingestor: &Ingestor,
        bind: &str,
        port: u16,
        delimiter: Option<&[u8]>,
        message_length_limit: Option<usize>,
        receive_buffer_size: Option<usize>,
        linger_timeout: Option<i32>,
        keepalive: bool,
        allow: Option<Vec<String>>,
        max_connections: usize,
        reuse_port: bool,
    ) -> PyResult<Self> {
        let framing = intake::framing(delimiter, message_length_limit)?;
        let allow =
            allow.map(|list| list.iter().map(|text| parse_network(text)).collect::<PyResult<Vec<_>>>());
        let allow = allow.transpose()?;
        let made = py.detach(|| {
            let wake = Wake::new()?;
            let options = ServerOptions {
                address: sockaddr::resolve(bind, port)?,
                receive_buffer: receive_buffer_size,
                linger: linger_timeout,
                keepalive,
                reuse_port,
                allow,
                max_connections: max_connections.max(1),
            };
            Ok((Server::new(options, framing, &wake)?, wake))
        });
        let (server, wake) = made.map_err(|why: io::Error| os_error(&why))?;
        Ok(StreamServer {
            ingest: Arc::clone(&ingestor.inner),
            port: server.address.port(),
            state: Mutex::new(server),
            wake,
            stop: AtomicBool::new(false),
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

    /// From any thread: `next` gives what the kernel has, then closes everything and is `finished`.
    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
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

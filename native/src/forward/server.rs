//! The server for forward clients: many connections, one thread.
//!
//! epoll, level-triggered, as [`crate::stream`]: not calling [`Server::next`] is back-pressure. Events of many
//! messages and connections go on as one batch; who asked for an acknowledgement gets it by
//! [`Server::settle`], when the batch is safe. An idle connection costs its descriptor and some hundred bytes.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decoder::{Decoder, Scene, Shared};
use super::entries::Field;
use super::message::{Peer, Rules};
use super::sink::{Ack, Portion, Sink};
use crate::budget::{Loan, Unfinished};
use crate::intake::Stop;
use crate::listener::{Arrival, Listener, Pace, Report, queued, read, set_linger};
use crate::sockaddr::{self, HostNames, Wake, now_ns};

/// Bytes per read of small messages.
const READ: usize = 64 << 10;
/// Bytes read behind a payload: the rest of its message, and the next one's head.
const BEHIND: usize = 4 << 10;
/// Bytes of one connection in a row.
const TURN: usize = 1 << 20;
/// Events at which a batch is handed on.
const TARGET: usize = 4096;
/// Bytes at which a batch is handed on.
const MAX_BYTES: usize = 4 << 20;
/// Unfinished messages of all connections together, in bytes.
pub const MAX_PENDING: usize = 512 << 20;
/// What is logged when it is more.
pub const TOO_MUCH: &[u8] = b"too much of unfinished messages, connection closed";
/// A peer that has not read so many bytes of acknowledgements is not read from.
const MAX_OWED: usize = 256 << 10;
/// Longest time from the connection to a passed handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What a connection's handshake must not tell: made by [`Gate::hello`].
pub type Secret = Box<dyn std::any::Any + Send>;

/// Who may send: the handshake, which is policy and so not decided here.
pub trait Gate: Send + Sync {
    /// What a new connection is sent first, and its secret.
    fn hello(&self) -> Option<(Vec<u8>, Secret)>;
    /// Judges the first message: whether it is good, and the answer.
    fn judge(&self, secret: &dyn std::any::Any, peer: &str, message: &[u8]) -> (bool, Vec<u8>);
}

/// How to serve.
pub struct Options {
    /// Seconds for `SO_LINGER`; None leaves the kernel's way of closing.
    pub linger: Option<i32>,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// Connections end with their first message.
    pub deny_keepalive: bool,
    /// The handshake.
    pub gate: Option<Arc<dyn Gate>>,
}

struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    peer: Peer,
    /// Bytes to be written.
    out: Vec<u8>,
    /// Something was written: it must not be cut off when the connection is closed.
    answered: bool,
    /// Acknowledgements in batches that nobody has settled yet.
    owed: usize,
    /// Nothing more is read; closed when nothing is owed.
    ended: bool,
    /// What epoll watches.
    interest: u32,
    /// The handshake's secret, and until when it must be passed.
    secret: Option<(Secret, Instant)>,
    /// Bytes still to read while stopping.
    drain: usize,
}

/// The serving state; one thread at a time.
pub struct Server {
    listener: Listener,
    options: Options,
    connections: Vec<Option<Box<Connection>>>,
    generations: Vec<u32>,
    free: Vec<usize>,
    open: usize,
    secrets: usize,
    held: Unfinished,
    draining: bool,
    finished: bool,
    buffer: Vec<u8>,
    sink: Sink,
    given: Vec<Ack>,
    names: HostNames,
    pace: Pace,
    looked: Instant,
}

fn read_two(socket: &OwnedFd, first: &mut Vec<u8>, room: usize, second: &mut [u8]) -> io::Result<usize> {
    first.reserve(room);
    let parts = [
        libc::iovec { iov_base: first.spare_capacity_mut().as_mut_ptr().cast(), iov_len: room },
        libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: second.len() },
    ];
    loop {
        // SAFETY: both parts are valid for their lengths; `reserve` has made the first one.
        let got = unsafe { libc::readv(socket.as_raw_fd(), parts.as_ptr(), 2) };
        if let Ok(got) = usize::try_from(got) {
            // SAFETY: the kernel has written so many bytes behind the old length.
            unsafe { first.set_len(first.len() + got.min(room)) };
            return Ok(got);
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

impl Server {
    /// Not started yet.
    #[must_use]
    pub fn new(listener: Listener, options: Options) -> Self {
        Server {
            listener,
            options,
            connections: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            open: 0,
            secrets: 0,
            held: Unfinished::new(MAX_PENDING),
            draining: false,
            finished: false,
            buffer: vec![0; READ],
            sink: Sink::default(),
            given: Vec::new(),
            names: HostNames::default(),
            pace: Pace::default(),
            looked: Instant::now(),
        }
    }

    /// Whether everything has been taken after a stop.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Unfinished messages are borrowed from a budget from here on.
    pub fn lend(&mut self, loan: Arc<Loan>) {
        self.held.lend(loan);
    }

    /// Connections at present.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Waits for messages, at most `max_wait`, and gives what has come; None: nothing at all. What an earlier
    /// call gave and nobody has settled is never acknowledged.
    /// After `stop` it gives what the kernel has, call by call, and then closes everything.
    ///
    /// # Errors
    /// The system's.
    pub fn next(
        &mut self,
        rules: &Rules,
        wake: &Wake,
        stop: &Stop,
        max_wait: Duration,
    ) -> io::Result<Option<Portion>> {
        self.settle(false);
        if self.finished {
            return Ok(None);
        }
        if !self.sink.sealed() {
            if stop.asked() {
                self.drain(rules, stop.keeps());
            } else {
                self.serve(rules, wake, stop, max_wait)?;
            }
        }
        let mut portion = self.sink.take();
        if let Some(portion) = &mut portion {
            self.given = mem::take(&mut portion.acks);
        }
        Ok(portion)
    }

    /// Says whether what `next` gave last is safe: then it is acknowledged.
    pub fn settle(&mut self, safe: bool) {
        let acks = mem::take(&mut self.given);
        let mut index = 0;
        while index < acks.len() {
            let token = acks[index].token;
            let mut end = index;
            while end < acks.len() && acks[end].token == token {
                end += 1;
            }
            let slot = token as u32 as usize;
            if self.generations.get(slot) == Some(&((token >> 32) as u32))
                && let Some(Some(connection)) = self.connections.get_mut(slot)
            {
                connection.owed -= end - index;
                if safe {
                    for ack in &acks[index..end] {
                        connection.out.extend_from_slice(&ack.bytes);
                    }
                    self.write(slot);
                }
                self.close_if_done(slot);
            }
            index = end;
        }
    }

    fn serve(&mut self, rules: &Rules, wake: &Wake, stop: &Stop, max_wait: Duration) -> io::Result<()> {
        let until = Instant::now() + max_wait;
        let mut wait = max_wait;
        loop {
            let busy = self.round(rules, wait)?;
            if !busy {
                self.listener.resume(self.open);
            }
            self.look_at_clock();
            let count = self.sink.count();
            if stop.asked() || count >= TARGET || self.sink.bytes() >= MAX_BYTES {
                break;
            }
            if self.sink.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if !busy && left.is_zero() {
                    break;
                }
                wait = left;
                continue; // connections came or went, or parts of messages
            }
            if self.sink.owes() || self.sink.sealed() {
                if !busy {
                    break; // somebody waits: no event waits for others
                }
                wait = Duration::ZERO;
                continue;
            }
            let Some(sleep) = self.pace.gather() else { break };
            wake.sleep(sleep);
            wait = Duration::ZERO;
        }
        self.pace.hand_on(self.sink.count());
        Ok(())
    }

    /// Does what there is to do, waiting at most so long for it; whether there was anything.
    fn round(&mut self, rules: &Rules, wait: Duration) -> io::Result<bool> {
        let (reports, busy) = self.listener.wait(wait)?;
        for report in reports {
            match report {
                Report::Listener => self.accept(rules),
                Report::Connection { slot, writable, readable } => {
                    if writable {
                        self.write(slot);
                        self.close_if_done(slot);
                    }
                    if readable {
                        self.receive(rules, slot);
                    }
                }
            }
        }
        Ok(busy)
    }

    fn accept(&mut self, rules: &Rules) {
        let before = self.open;
        loop {
            match self.listener.accept(self.open, before) {
                Arrival::Connection(socket, address) => self.admit(rules, socket, address),
                Arrival::Nobody => return,
                Arrival::NoRoom(why) => return self.sink.notice("connection_limit", why.as_bytes()),
            }
        }
    }

    fn admit(&mut self, rules: &Rules, socket: OwnedFd, address: Option<SocketAddr>) {
        if address.is_some() {
            if let Some(seconds) = self.options.linger {
                set_linger(&socket, Some(seconds));
            }
            if self.options.keepalive {
                let _ = sockaddr::set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
            }
            // an acknowledgement must not wait for more to write
            let _ = sockaddr::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.generations.push(0);
            self.connections.len() - 1
        });
        if self.listener.watch(&socket, slot).is_err() {
            self.free.push(slot);
            return self.sink.notice("connection_limit", b"epoll takes no more");
        }
        let name = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        let token = u64::from(self.generations[slot]) << 32 | slot as u64;
        let fields = source_fields(rules, address.map(|address| address.ip()), &mut self.names);
        let mut connection = Box::new(Connection {
            socket,
            decoder: Decoder::default(),
            peer: Peer { name, token, json: false, fields },
            out: Vec::new(),
            answered: false,
            owed: 0,
            ended: false,
            interest: libc::EPOLLIN as u32,
            secret: None,
            drain: 0,
        });
        if let Some((hello, secret)) = self.options.gate.as_ref().and_then(|gate| gate.hello()) {
            connection.out = hello;
            connection.secret = Some((secret, Instant::now() + HANDSHAKE));
            self.secrets += 1;
        }
        self.connections[slot] = Some(connection);
        self.open += 1;
        self.write(slot);
    }

    /// Reads from a connection, as long as it is its turn.
    fn receive(&mut self, rules: &Rules, slot: usize) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        if connection.ended {
            // hung up while acknowledgements are owed: nobody is there to get them
            connection.owed = 0;
            return self.close(slot);
        }
        let (before, acks) = (connection.decoder.held(), self.sink.acks());
        let mut end = false;
        let mut turn = 0;
        while turn < TURN {
            let (got, room, fed) = match connection.decoder.direct() {
                Some((direct, room)) => {
                    let got = read_two(&connection.socket, direct, room, &mut self.buffer[..BEHIND]);
                    (got, room + BEHIND, room)
                }
                None => (read(&connection.socket, &mut self.buffer), READ, 0),
            };
            let got = match got {
                Ok(got) => got,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => 0, // reset by the peer
            };
            if got == 0 {
                end = true;
                if connection.decoder.unfinished() {
                    self.sink.fail("unterminated", &connection.peer.sample(b"", b"connection closed"));
                }
                break;
            }
            turn += got;
            connection.drain = connection.drain.saturating_sub(got);
            let data = &self.buffer[..got.saturating_sub(fed)];
            let Connection { decoder, peer, secret, out, .. } = &mut **connection;
            let mut passed = None;
            let outcome = {
                let name = peer.name.clone();
                let gate = self.options.gate.as_ref();
                let mut judge = |message: &[u8], sink: &mut Sink| {
                    let (good, answer) = match (gate, &secret) {
                        (Some(gate), Some((secret, _))) => gate.judge(&**secret, &name, message),
                        _ => (true, Vec::new()),
                    };
                    if !good {
                        sink.fail("refused", name.as_bytes());
                    }
                    out.extend_from_slice(&answer);
                    passed = Some(good);
                    good
                };
                let gated = secret.is_some();
                let mut scene = Scene {
                    rules,
                    sink: &mut self.sink,
                    now_ns: now_ns(),
                    one_message: self.options.deny_keepalive,
                    gate: if gated { Shared::Handshake(&mut judge) } else { Shared::Open },
                };
                decoder.feed(data, peer, &mut scene)
            };
            if passed.is_some() && secret.take().is_some() {
                self.secrets -= 1;
            }
            if outcome.is_err() {
                end = true;
                break;
            }
            if got < room || self.sink.sealed() || self.sink.count() >= TARGET {
                break;
            }
        }
        connection.owed += self.sink.acks() - acks;
        if self.held.change(before, connection.decoder.held()) {
            let sample = connection.peer.sample(b"", TOO_MUCH);
            self.sink.fail("unterminated", &sample);
            end = true;
        }
        if end {
            self.end(slot);
        } else if !self.connections[slot].as_ref().is_none_or(|connection| connection.out.is_empty()) {
            self.write(slot);
        }
    }

    /// Nothing more is read from a connection; it is closed as soon as it got what it is owed.
    fn end(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(slot) {
            connection.ended = true;
            self.held.change(connection.decoder.held(), 0);
            connection.decoder = Decoder::default();
        }
        self.write(slot);
        self.close_if_done(slot);
    }

    /// Writes what it can, and watches for room for the rest.
    fn write(&mut self, slot: usize) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        let mut written = 0;
        while written < connection.out.len() {
            let part = &connection.out[written..];
            // SAFETY: the bytes are valid for their length.
            let sent = unsafe {
                libc::send(
                    connection.socket.as_raw_fd(),
                    part.as_ptr().cast(),
                    part.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => written += sent,
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break,
                    _ => {
                        // gone: reading will tell
                        connection.out.clear();
                        written = 0;
                        break;
                    }
                },
            }
        }
        connection.answered |= written > 0;
        connection.out.drain(..written);
        if connection.out.is_empty() {
            connection.out = Vec::new();
        }
        let mut interest = 0;
        if !connection.ended && connection.out.len() <= MAX_OWED {
            interest |= libc::EPOLLIN as u32;
        }
        if !connection.out.is_empty() {
            interest |= libc::EPOLLOUT as u32;
        }
        if interest != connection.interest {
            connection.interest = interest;
            self.listener.rewatch(&connection.socket, slot, interest);
        }
    }

    fn close_if_done(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.connections.get(slot)
            && connection.ended
            && connection.owed == 0
            && connection.out.is_empty()
        {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(connection) = self.connections[slot].take() {
            self.held.change(connection.decoder.held(), 0);
            if connection.secret.is_some() {
                self.secrets -= 1;
            }
            if connection.answered {
                set_linger(&connection.socket, None); // a reset would throw away what the peer has not read
            }
            self.generations[slot] = self.generations[slot].wrapping_add(1);
            self.free.push(slot);
            self.open -= 1;
            self.listener.resume(self.open);
        }
    }

    /// Closes those that did not pass the handshake in time; once a second.
    fn look_at_clock(&mut self) {
        if self.secrets == 0 || self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = Instant::now();
        for slot in 0..self.connections.len() {
            if let Some(Some(connection)) = self.connections.get(slot)
                && connection.secret.as_ref().is_some_and(|(_, until)| *until < self.looked)
            {
                self.sink.notice("handshake_timeout", connection.peer.name.as_bytes());
                self.close(slot);
            }
        }
    }

    /// Stopping: no new connections; reads what the kernel had at the time of the stop.
    fn drain(&mut self, rules: &Rules, keep: bool) {
        if !self.draining {
            self.draining = true;
            if !keep {
                self.accept(rules); // those that the kernel has accepted already
            }
            self.listener.close();
            for connection in self.connections.iter_mut().flatten() {
                connection.drain = queued(&connection.socket);
            }
        }
        for slot in 0..self.connections.len() {
            while let Some(Some(connection)) = self.connections.get_mut(slot)
                && connection.drain > 0
                && !connection.ended
            {
                let left = connection.drain;
                self.receive(rules, slot);
                if let Some(Some(connection)) = self.connections.get_mut(slot)
                    && connection.drain == left
                {
                    connection.drain = 0; // the kernel has nothing after all
                }
                if self.sink.sealed() || self.sink.count() >= TARGET || self.sink.bytes() >= MAX_BYTES {
                    return;
                }
            }
            if let Some(Some(connection)) = self.connections.get(slot)
                && !connection.ended
            {
                if connection.decoder.unfinished() {
                    self.sink.fail("unterminated", &connection.peer.sample(b"", b"stopping"));
                }
                self.end(slot);
            }
        }
        if self.sink.is_empty() {
            for slot in 0..self.connections.len() {
                self.close(slot);
            }
            self.finished = true;
        }
    }
}

/// The fields that records of a sender get.
#[must_use]
pub fn source_fields(rules: &Rules, ip: Option<IpAddr>, names: &mut HostNames) -> Vec<Field> {
    let mut fields = Vec::new();
    let Some(ip) = ip else { return fields };
    if let Some(key) = &rules.address_key {
        fields.push(Field::text(key, ip.to_string().as_bytes()));
    }
    if let Some(key) = &rules.hostname_key {
        fields.push(Field::text(key, names.get(ip).as_bytes()));
    }
    fields
}

//! What the servers of [`crate::stream`] and [`crate::forward`] share: a listening socket, epoll, and how long
//! events gather.
//!
//! The socket is bound by Python (`forwarder/api/sockets.py`), may be shared with other processes, and stays open
//! there when a server stops. So somebody else may take a connection that was reported here.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::sockaddr::{self, Wake, check};

/// Longest time that an event waits for others.
const MAX_LINGER: Duration = Duration::from_millis(20);
/// How many events may gather in kernel buffers during one sleep.
const GATHER: f64 = 400.0;
/// Below so many events a second, waiting for more brings none.
const TRICKLE: f64 = 100.0;
/// Reports per `epoll_wait`.
const REPORTS: usize = 64;
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// What epoll reports.
pub enum Report {
    /// Somebody wants to connect.
    Listener,
    /// A connection has something: its slot, whether there is room to write, and whether there is anything else.
    Connection {
        /// As given to [`Listener::watch`].
        slot: usize,
        /// There is room to write.
        writable: bool,
        /// There is something to read, or the peer is gone.
        readable: bool,
    },
}

/// What [`Listener::accept`] gives.
pub enum Arrival {
    /// A connection, and its peer where it has an address.
    Connection(OwnedFd, Option<SocketAddr>),
    /// Nobody waits any more.
    Nobody,
    /// There is no room, and why, which is worth a notice; nothing is reported until [`Listener::resume`].
    NoRoom(String),
}

/// A listening socket and the epoll of its connections.
pub struct Listener {
    socket: Option<OwnedFd>,
    epoll: OwnedFd,
    paused: bool,
    max_connections: usize,
    /// Bound address; None: a Unix-domain socket.
    pub address: Option<SocketAddr>,
}

impl Listener {
    /// Takes a duplicate of a socket that listens already and does not block.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: RawFd, wake: &Wake, max_connections: usize) -> io::Result<Self> {
        let socket = sockaddr::duplicate(socket)?;
        // SAFETY: no pointers; the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let listener = Listener {
            address: sockaddr::local_address(&socket)?,
            socket: Some(socket),
            epoll,
            paused: false,
            max_connections: max_connections.max(1),
        };
        listener.watch_listener()?;
        listener.control(libc::EPOLL_CTL_ADD, wake.raw(), libc::EPOLLIN, WAKE)?;
        Ok(listener)
    }

    fn control(&self, what: libc::c_int, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: the event is valid during the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &raw mut event) })?;
        Ok(())
    }

    fn watch_listener(&self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        // exclusive: a connection wakes one of the processes that share the socket, not all
        let events = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), events, LISTENER)
    }

    /// Reports what comes over a connection as `slot`.
    ///
    /// # Errors
    /// The system's.
    pub fn watch(&self, socket: &OwnedFd, slot: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), libc::EPOLLIN, slot as u64)
    }

    /// Changes what is reported of a connection. A failure leaves it as it is.
    pub fn rewatch(&self, socket: &OwnedFd, slot: usize, events: u32) {
        let _ = self.control(libc::EPOLL_CTL_MOD, socket.as_raw_fd(), events as libc::c_int, slot as u64);
    }

    /// One `epoll_wait`: what is to be done, and whether there was anything at all.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, wait: Duration) -> io::Result<(impl Iterator<Item = Report> + use<>, bool)> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; REPORTS];
        let limit = libc::c_int::try_from(wait.as_millis()).unwrap_or(libc::c_int::MAX);
        let room = REPORTS as libc::c_int;
        // SAFETY: room for so many events.
        let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), room, limit) };
        let ready = match check(ready) {
            Ok(ready) => ready as usize,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => 0,
            Err(why) => return Err(why),
        };
        let reports = events.into_iter().take(ready).filter_map(|event| match event.u64 {
            LISTENER => Some(Report::Listener),
            WAKE => None,
            slot => Some(Report::Connection {
                slot: slot as usize,
                writable: event.events & libc::EPOLLOUT as u32 != 0,
                readable: event.events & !(libc::EPOLLOUT as u32) != 0,
            }),
        });
        Ok((reports, ready > 0))
    }

    /// The next connection. `open`: how many there are; `before`: how many there were before this one's turn.
    pub fn accept(&mut self, open: usize, before: usize) -> Arrival {
        loop {
            let Some(socket) = &self.socket else { return Arrival::Nobody };
            if open >= self.max_connections {
                if open > before {
                    return Arrival::Nobody; // full, but perhaps nobody waits
                }
                self.pause();
                return Arrival::NoRoom(self.max_connections.to_string());
            }
            // SAFETY: plain data for which all zeroes are valid.
            let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
            let mut len = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: the storage is valid for `len` bytes.
            let fd =
                unsafe { libc::accept4(socket.as_raw_fd(), (&raw mut storage).cast(), &raw mut len, flags) };
            if fd != -1 {
                // SAFETY: the descriptor is new and nobody else's.
                let socket = unsafe { OwnedFd::from_raw_fd(fd) };
                return Arrival::Connection(socket, sockaddr::from_raw(&storage));
            }
            let why = io::Error::last_os_error();
            match why.raw_os_error() {
                Some(libc::EINTR | libc::ECONNABORTED) => {}
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    self.pause();
                    return Arrival::NoRoom(why.to_string());
                }
                _ => return Arrival::Nobody, // any more
            }
        }
    }

    /// No more connections for now: the listener would be reported for ever.
    fn pause(&mut self) {
        if let Some(socket) = &self.socket
            && !self.paused
        {
            let _ = self.control(libc::EPOLL_CTL_DEL, socket.as_raw_fd(), 0, LISTENER);
            self.paused = true;
        }
    }

    /// Takes connections again after a pause, where there is room.
    pub fn resume(&mut self, open: usize) {
        if self.paused && open < self.max_connections && self.watch_listener().is_ok() {
            self.paused = false;
        }
    }

    /// Takes no more connections.
    pub fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            // the socket may live on elsewhere: epoll would go on reporting it
            let _ = self.control(libc::EPOLL_CTL_DEL, socket.as_raw_fd(), 0, LISTENER);
        }
    }
}

/// How long events wait for others.
pub struct Pace {
    rate: f64,
    last: Instant,
    deadline: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { rate: 0.0, last: Instant::now(), deadline: None }
    }
}

impl Pace {
    /// Now that there are events: how long to sleep so that more of them come; None: hand them on.
    pub fn gather(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let left = self.deadline.get_or_insert(now + MAX_LINGER).saturating_duration_since(now);
        if self.rate < TRICKLE || left.is_zero() {
            return None;
        }
        Some(Duration::from_secs_f64(GATHER / self.rate).min(left))
    }

    /// So many events are handed on.
    pub fn hand_on(&mut self, count: usize) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64().max(1e-6);
        self.rate = (self.rate + count as f64 / seconds) / 2.0;
        self.last = now;
        self.deadline = None;
    }
}

/// Reads; interruptions are no errors.
///
/// # Errors
/// The system's, "would block" among them.
pub fn read(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
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

/// Bytes that the kernel has received and nobody has read.
#[must_use]
pub fn queued(socket: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if outcome == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Sets `SO_LINGER`; None: off. A failure leaves the way of closing as it is.
pub fn set_linger(socket: &OwnedFd, seconds: Option<i32>) {
    let linger = libc::linger { l_onoff: i32::from(seconds.is_some()), l_linger: seconds.unwrap_or(0) };
    let len = mem::size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the value is valid for `len` bytes.
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

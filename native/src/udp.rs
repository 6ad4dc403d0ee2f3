//! The UDP receiver: datagrams in batches from `recvmmsg` into reused memory, straight into a parser.
//!
//! Coalescing: a batch is worth its overhead when it holds a few hundred events, and nobody waits longer
//! than [`MAX_LINGER`] for an event. So after the queue is empty the receiver sleeps for as long as the
//! present rate needs to fill a batch, and at low rates not at all. It never sleeps longer than half
//! of the time in which the kernel's receive buffer could fill at [`FLOOD`] datagrams a second.
//!
//! Loss is counted exactly: the kernel's own drop counter of this socket (`SO_MEMINFO`) is read with each
//! batch and, at the end, after the queue has been drained with new arrivals shut out by a filter (which
//! the kernel counts as drops too). So `received + kernel_drops` is what was sent to the socket. Where the socket
//! goes on in another process, the rest of the queue is left to that, and [`Booked`] says which drops are told.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::drops::Booked;
use crate::ingest::{Ingest, Sink, Taken};
use crate::intake::{self, Ingestor, Intake, Stop, lock, os_error};
use crate::sockaddr::{self, Wake, check};

/// Datagrams per system call.
const VECTOR: usize = 256;
/// Events at which a batch is handed on.
const TARGET: usize = 2048;
/// Events for which waiting for the rest of [`TARGET`] is not worth another sleep.
const ENOUGH: usize = TARGET / 4 * 3;
/// Events at which a batch is handed on although more are queued.
const MAX_EVENTS: usize = 4096;
/// Bytes at which a batch is handed on although more are queued.
const MAX_BYTES: usize = 8 << 20;
/// Longest time that an event waits for others.
const MAX_LINGER: Duration = Duration::from_millis(40);
/// Shortest sleep that is worth its system call.
const MIN_SLEEP: Duration = Duration::from_micros(100);
/// Below so many events a second, waiting for more brings none.
const TRICKLE: f64 = 100.0;
/// The rate for which the receive buffer must be safe.
const FLOOD: f64 = 500_000.0;
/// What a small datagram costs of the kernel's receive buffer, in bytes.
const KERNEL_COST: usize = 1280;
/// Index of the drop counter in `SO_MEMINFO` (linux/sock_diag.h, `SK_MEMINFO_DROPS`) and its length.
const MEMINFO_DROPS: usize = 8;
const MEMINFO_LEN: usize = 9;
/// linux/asm-generic/socket.h
const SO_MEMINFO: libc::c_int = 55;

/// Memory that the kernel fills: a slot per datagram. Only touched pages count.
struct Slots {
    memory: Vec<MaybeUninit<u8>>,
    stride: usize,
    _vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers inside point into the heap memory of the same struct, which moves with it.
unsafe impl Send for Slots {}

impl Slots {
    fn new(limit: usize, with_names: bool) -> Self {
        // an odd number of cache lines spreads the slots over all cache sets
        let stride = ((limit.div_ceil(64) + 4) | 1) * 64;
        let mut memory: Vec<MaybeUninit<u8>> = Vec::with_capacity(stride * VECTOR);
        // SAFETY: MaybeUninit needs no initialisation, and the capacity is there.
        unsafe { memory.set_len(stride * VECTOR) };
        // SAFETY: sockaddr_storage is plain data for which all zeroes are valid.
        let mut names = vec![unsafe { mem::zeroed() }; if with_names { VECTOR } else { 0 }];
        let mut vectors: Vec<libc::iovec> = (0..VECTOR)
            .map(|index| libc::iovec {
                iov_base: memory[index * stride..].as_mut_ptr().cast(),
                iov_len: limit,
            })
            .collect();
        let headers = (0..VECTOR)
            .map(|index| {
                // SAFETY: mmsghdr is plain data for which all zeroes are valid.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = &raw mut vectors[index];
                header.msg_hdr.msg_iovlen = 1;
                if with_names {
                    let name: *mut libc::sockaddr_storage = &raw mut names[index];
                    header.msg_hdr.msg_name = name.cast();
                    header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                }
                header
            })
            .collect();
        Slots { memory, stride, _vectors: vectors, names, headers }
    }

    /// Fills slots with what the socket has; how many. Zero: nothing there.
    fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        loop {
            // SAFETY: the headers point to buffers of the lengths they name, all owned by `self`.
            let got = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    VECTOR as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if got >= 0 {
                return Ok(got as usize);
            }
            let why = io::Error::last_os_error();
            match why.kind() {
                io::ErrorKind::WouldBlock => return Ok(0),
                io::ErrorKind::Interrupted => {}
                // an error that another socket's ICMP message left behind
                io::ErrorKind::ConnectionRefused => {}
                _ => return Err(why),
            }
        }
    }

    /// A slot's datagram, whether it was cut, and its sender where names were asked for.
    #[inline]
    fn datagram(&mut self, index: usize) -> (&[u8], bool, Option<IpAddr>) {
        let header = &mut self.headers[index];
        let ip = if self.names.is_empty() {
            None
        } else {
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            sockaddr::from_raw(&self.names[index]).map(|address| address.ip())
        };
        let slot = &self.memory[index * self.stride..(index + 1) * self.stride];
        // SAFETY: the kernel has initialised the first `msg_len` bytes, which are at most the slot's length.
        let data = unsafe { std::slice::from_raw_parts(slot.as_ptr().cast::<u8>(), header.msg_len as usize) };
        (data, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0, ip)
    }
}

/// What one call of [`Udp::next`] gives.
pub struct UdpTaken {
    /// Events, failures, notices.
    pub taken: Taken,
    /// Datagrams that the kernel dropped since the last call.
    pub drops: u64,
}

/// The receiving state; one thread at a time.
pub struct Udp {
    socket: Option<OwnedFd>,
    slots: Slots,
    sink: Sink,
    /// The queue was not empty when the last batch was handed on.
    more: bool,
    draining: bool,
    rate: f64,
    last: Instant,
    longest_sleep: Duration,
    booked: Booked,
    /// Bound port.
    pub port: u16,
    /// Whether the kernel tells drops.
    pub counts_drops: bool,
}

fn kernel_drops(socket: &OwnedFd) -> io::Result<u32> {
    let mut info = [0_u32; MEMINFO_LEN];
    let mut len = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the buffer is valid for `len` bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    if len as usize <= MEMINFO_DROPS * 4 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "SO_MEMINFO has no drop counter"));
    }
    Ok(info[MEMINFO_DROPS])
}

/// Lets nothing more into the receive queue; what is turned away counts as dropped.
fn shut_out(socket: &OwnedFd) -> io::Result<()> {
    let mut drop_all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }; // BPF_RET | BPF_K, 0 bytes
    let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
    let len = mem::size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program and its one instruction are valid during the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            len,
        )
    })?;
    Ok(())
}

impl Udp {
    /// Takes a bound socket that does not block. `message_length_limit`: the rest of a longer datagram is cut off.
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        socket: OwnedFd,
        booked: Booked,
        message_length_limit: usize,
        ingest: &Ingest,
    ) -> io::Result<Self> {
        let granted = sockaddr::get_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF)? as usize / 2;
        let address = sockaddr::local_address(&socket)?;
        let drops = kernel_drops(&socket);
        // the kernel accounts against twice the size that it is asked for
        let room = (granted * 2 / KERNEL_COST) as f64;
        Ok(Udp {
            slots: Slots::new(message_length_limit, ingest.needs_source()),
            sink: Sink::default(),
            more: false,
            draining: false,
            rate: 0.0,
            last: Instant::now(),
            longest_sleep: Duration::from_secs_f64(room / FLOOD / 2.0).min(MAX_LINGER),
            booked, // it begins with zero: what was dropped since the bind counts
            port: address.map_or(0, |address| address.port()),
            counts_drops: drops.is_ok(),
            socket: Some(socket),
        })
    }

    /// Whether everything has been taken after a stop.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.socket.is_none()
    }

    /// Waits for datagrams, at most `max_wait`, and gives what has come; None: nothing at all.
    /// After `stop` it gives what is queued, call by call, and then closes the socket.
    ///
    /// # Errors
    /// The system's.
    pub fn next(
        &mut self,
        ingest: &Ingest,
        wake: &Wake,
        stop: &Stop,
        max_wait: Duration,
    ) -> io::Result<Option<UdpTaken>> {
        let Some(socket) = self.socket.take() else { return Ok(None) };
        if stop.asked() && stop.keeps() {
            return Ok(None); // what is queued, and what was dropped, is for the next one
        }
        let outcome = self.gather(&socket, ingest, wake, stop, max_wait);
        let mut drops = 0;
        if self.counts_drops
            && let Ok(total) = kernel_drops(&socket)
        {
            drops = self.booked.take(total);
        }
        let taken = self.sink.take();
        let nothing = taken.batch.count == 0 && taken.failures.is_empty();
        if !(self.draining && nothing) {
            self.socket = Some(socket);
        }
        outcome?;
        if nothing && drops == 0 && taken.notices.is_empty() {
            return Ok(None);
        }
        Ok(Some(UdpTaken { taken, drops: u64::from(drops) }))
    }

    fn gather(
        &mut self,
        socket: &OwnedFd,
        ingest: &Ingest,
        wake: &Wake,
        stop: &Stop,
        max_wait: Duration,
    ) -> io::Result<()> {
        if stop.asked() && !self.draining {
            self.draining = true;
            // without the filter a steady sender could keep the drain going; it still ends, as the
            // queue is emptied faster than a socket can be filled
            let _ = shut_out(socket);
        }
        let started = Instant::now();
        let deadline = started + MAX_LINGER.min(max_wait);
        if !self.draining && !self.more {
            // at a steady rate events are on their way: no need to be woken by the first one
            let queued = (self.rate * started.duration_since(self.last).as_secs_f64()) as usize;
            let sleep = self.sleep(queued, deadline);
            if sleep >= MIN_SLEEP {
                wake.sleep(sleep);
            } else if !readable(socket, wake, max_wait)? {
                self.rate = 0.0;
                self.last = Instant::now();
                return Ok(());
            }
        }
        loop {
            let got = self.receive(socket, ingest)?;
            let count = self.sink.count();
            if count >= MAX_EVENTS || self.sink.bytes() >= MAX_BYTES {
                self.more = got == VECTOR;
                break;
            }
            if got == VECTOR {
                continue; // more is queued
            }
            self.more = false;
            let sleep = self.sleep(count, deadline);
            if self.draining || sleep < MIN_SLEEP {
                break;
            }
            wake.sleep(sleep);
            if stop.asked() {
                break;
            }
        }
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64().max(1e-6);
        let count = self.sink.count() as f64;
        self.rate = if count == 0.0 { 0.0 } else { (self.rate + count / seconds) / 2.0 };
        self.last = now;
        Ok(())
    }

    /// How long to let events gather.
    fn sleep(&self, count: usize, deadline: Instant) -> Duration {
        if self.rate < TRICKLE || count >= ENOUGH {
            return Duration::ZERO;
        }
        let fill = Duration::from_secs_f64((TARGET - count) as f64 / self.rate);
        fill.min(deadline.saturating_duration_since(Instant::now())).min(self.longest_sleep)
    }

    fn receive(&mut self, socket: &OwnedFd, ingest: &Ingest) -> io::Result<usize> {
        let got = self.slots.receive(socket)?;
        if got == 0 {
            return Ok(0);
        }
        let slots = &mut self.slots;
        intake::fill(ingest, &mut self.sink, |filling| {
            for index in 0..got {
                let (data, cut, ip) = slots.datagram(index);
                if cut {
                    filling.sink.notice("truncated", data);
                }
                filling.message(data, ip);
            }
        });
        Ok(got)
    }
}

/// Waits until the socket has something or the wake is called.
fn readable(socket: &OwnedFd, wake: &Wake, max_wait: Duration) -> io::Result<bool> {
    let events = libc::POLLIN;
    let mut polls = [
        libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 },
        libc::pollfd { fd: wake.raw(), events, revents: 0 },
    ];
    let limit = sockaddr::timespec(max_wait);
    // SAFETY: two pollfds, a valid timespec, no signal mask.
    let ready = unsafe { libc::ppoll(polls.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) };
    match check(ready) {
        Ok(_) => Ok(polls[0].revents != 0),
        Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(why) => Err(why),
    }
}

/// Receives datagrams as events; see the module.
#[pyclass(frozen, module = "forwarder._native")]
pub struct UdpReceiver {
    ingest: Arc<Ingest>,
    state: Mutex<Udp>,
    wake: Wake,
    stop: Stop,
    port: u16,
    counts_drops: bool,
}

#[pymethods]
impl UdpReceiver {
    #[new]
    #[pyo3(signature = (ingestor, socket, *, message_length_limit, drops = None))]
    fn new(
        py: Python<'_>,
        ingestor: &Ingestor,
        socket: RawFd,
        message_length_limit: usize,
        drops: Option<RawFd>,
    ) -> PyResult<Self> {
        let ingest = Arc::clone(&ingestor.inner);
        let made = py.detach(|| {
            let socket = sockaddr::duplicate(socket)?;
            // no datagram is longer than 65,535 bytes
            let limit = message_length_limit.clamp(1, 65_536);
            Ok((Udp::new(socket, Booked::new(drops)?, limit, &ingest)?, Wake::new()?))
        });
        let (udp, wake) = made.map_err(|why: io::Error| os_error(&why))?;
        Ok(UdpReceiver {
            port: udp.port,
            counts_drops: udp.counts_drops,
            state: Mutex::new(udp),
            stop: Stop::default(),
            ingest,
            wake,
        })
    }

    /// `next(max_wait_ms) -> Intake | None`: what has come, waiting at most so long for it.
    fn next(&self, py: Python<'_>, max_wait_ms: u64) -> PyResult<Option<Intake>> {
        let max_wait = Duration::from_millis(max_wait_ms);
        let outcome = py.detach(|| lock(&self.state).next(&self.ingest, &self.wake, &self.stop, max_wait));
        match outcome.map_err(|why| os_error(&why))? {
            None => Ok(None),
            Some(UdpTaken { taken, drops }) => Intake::new(py, taken, drops).map(Some),
        }
    }

    /// From any thread: `next` gives what is queued, then closes the socket and is `finished`. `keep`: what is
    /// queued is left to another process.
    #[pyo3(signature = (*, keep = false))]
    fn stop(&self, keep: bool) {
        self.stop.set(keep);
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

    /// Whether the kernel tells how much it drops.
    #[getter]
    fn counts_drops(&self) -> bool {
        self.counts_drops
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::ingest::Rule;
    use crate::msgpack;
    use crate::parser::{Events, Mismatch, Parser, Session};

    struct Whole;

    impl Parser for Whole {
        fn session(&self) -> Box<dyn Session + '_> {
            Box::new(Whole)
        }
    }

    impl Session for Whole {
        fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch> {
            let start = out.fields.len();
            msgpack::write_str(&mut out.fields, b"message");
            msgpack::write_text(&mut out.fields, text, false);
            out.push(start, 1, None);
            Ok(())
        }
    }

    fn receiver(receive_buffer: i32, source: bool) -> (Udp, Ingest, UdpSocket) {
        let rule = Rule {
            tag: "t".into(),
            source_address_key: source.then(|| "from".to_owned()),
            ..Rule::default()
        };
        let ingest = Ingest::new(Arc::new(Whole), rule);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = OwnedFd::from(socket);
        sockaddr::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, receive_buffer).unwrap();
        let udp = Udp::new(socket, Booked::new(None).unwrap(), 1000, &ingest).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(("127.0.0.1", udp.port)).unwrap();
        (udp, ingest, sender)
    }

    #[test]
    fn a_burst_into_a_tiny_buffer_is_accounted_for_exactly() {
        let (mut udp, ingest, sender) = receiver(1, false);
        let (wake, stop) = (Wake::new().unwrap(), Stop::default());
        let sent = 5000;
        for number in 0..sent {
            sender.send(format!("message {number}").as_bytes()).unwrap();
        }
        stop.set(false);
        let (mut received, mut dropped) = (0, 0);
        while !udp.finished() {
            if let Some(got) = udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap() {
                received += got.taken.received() as u64;
                dropped += got.drops;
            }
        }
        assert!(received > 0 && dropped > 0, "{received} received, {dropped} dropped");
        assert_eq!(received + dropped, sent);
    }

    #[test]
    fn arrivals_while_draining_count_as_dropped() {
        let (mut udp, ingest, sender) = receiver(1 << 20, true);
        let (wake, stop) = (Wake::new().unwrap(), stopped());
        sender.send(b"before").unwrap();
        let first = udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap().unwrap();
        assert_eq!((first.taken.batch.count, first.drops), (1, 0));
        sender.send(b"after").unwrap();
        let last = udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap().unwrap();
        assert_eq!((last.taken.batch.count, last.drops), (0, 1));
        assert!(udp.finished());
        assert!(udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap().is_none());
    }

    fn stopped() -> Stop {
        let stop = Stop::default();
        stop.set(false);
        stop
    }

    #[test]
    fn a_socket_that_goes_on_elsewhere_is_left_as_it_is() {
        let (mut udp, ingest, sender) = receiver(1 << 20, false);
        let kept = sockaddr::duplicate(udp.socket.as_ref().unwrap().as_raw_fd()).unwrap();
        let (wake, stop) = (Wake::new().unwrap(), Stop::default());
        sender.send(b"before").unwrap();
        stop.set(true);
        assert!(udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap().is_none());
        assert!(udp.finished());
        sender.send(b"after").unwrap();
        let mut next = Udp::new(kept, Booked::new(None).unwrap(), 1000, &ingest).unwrap();
        let got = next.next(&ingest, &wake, &Stop::default(), Duration::ZERO).unwrap().unwrap();
        assert_eq!((got.taken.batch.count, got.drops), (2, 0));
    }

    #[test]
    fn odd_datagrams() {
        let (mut udp, ingest, sender) = receiver(1 << 20, false);
        let (wake, stop) = (Wake::new().unwrap(), stopped());
        for datagram in [&b""[..], &[0; 20], &[0xff; 2000], &vec![b'x'; 65_507]] {
            sender.send(datagram).unwrap();
        }
        let got = udp.next(&ingest, &wake, &stop, Duration::ZERO).unwrap().unwrap().taken;
        assert_eq!(got.batch.count, 4);
        assert_eq!((got.notices[0].reason, got.notices[0].count), ("truncated", 2));
    }
}

//! Receiving and nothing else: what any UDP receiver pays on this machine before it looks at a byte.
//!
//! One thread: it waits, lets datagrams gather as a receiver may (2,048, at most 40 ms), and takes 256 a call into
//! memory that is used again. `udpsink --port P` runs until SIGTERM.

use std::io::{self, Error};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::os::{catch_stop, stopped};

const SLOTS: usize = 256;
const SLOT_BYTES: usize = 2048;
/// An odd number of cache lines apart, so that the slots do not fall on the same cache sets.
const STRIDE: usize = SLOT_BYTES + 5 * 64;
static RECEIVE_BUFFER: libc::c_int = 32 << 20;
const GATHER: f64 = 2048.0;
const LONGEST_SLEEP: Duration = Duration::from_millis(40);
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

fn main() {
    exit_on_error("udpsink", run());
}

fn run() -> Result<(), String> {
    let port: u16 = Arguments::read(&["port"], "usage: udpsink --port P")?.required("port")?;
    catch_stop();
    receive(port).map_err(|e| e.to_string())
}

fn receive(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let fd = socket.as_raw_fd();
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the option is an int, and its size is given.
        if unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const RECEIVE_BUFFER).cast(), 4) }
            == 0
        {
            break;
        }
    }
    let mut memory = vec![0_u8; SLOTS * STRIDE];
    let base = memory.as_mut_ptr();
    let mut vectors: Vec<libc::iovec> = (0..SLOTS)
        .map(|i| libc::iovec { iov_base: base.wrapping_add(i * STRIDE).cast(), iov_len: SLOT_BYTES })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: an all-zero mmsghdr is valid: no name, no control data.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let (mut rate, mut last) = (0.0_f64, Instant::now());
    while !stopped() {
        let sleep = Duration::from_secs_f64(GATHER / rate.max(1.0)).min(LONGEST_SLEEP);
        if rate > 100.0 && sleep >= SHORTEST_SLEEP {
            std::thread::sleep(sleep);
        } else {
            let mut wait = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            unsafe { libc::poll(&raw mut wait, 1, -1) };
        }
        let mut count = 0;
        loop {
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: the headers point at vectors, and these at memory, that outlive the loop.
            let got = unsafe {
                libc::recvmmsg(fd, headers.as_mut_ptr(), SLOTS as u32, flags as _, std::ptr::null_mut())
            };
            if got < 0 && Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
                let why = Error::last_os_error();
                if why.kind() != io::ErrorKind::Interrupted {
                    return Err(why);
                }
            }
            count += got.max(0) as usize;
            if got < SLOTS as i32 {
                break;
            }
        }
        let now = Instant::now();
        let seconds = now.duration_since(last).as_secs_f64().max(1e-6);
        rate = if count == 0 { 0.0 } else { (rate + count as f64 / seconds) / 2.0 };
        last = now;
    }
    Ok(())
}

//! A plain TCP proxy: what passing bytes on costs when nobody looks at them.
//!
//! `tcpproxy --listen P --to Q [--splice on]`; a thread a direction of a connection. It copies through user
//! space as most proxies do; with `--splice` the bytes stay in the kernel.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::os::check;

const BUFFER: usize = 256 << 10;

fn main() {
    exit_on_error("tcpproxy", run());
}

fn run() -> Result<(), String> {
    let usage = "usage: tcpproxy --listen P --to Q [--splice on|off]";
    let arguments = Arguments::read(&["listen", "to", "splice"], usage)?;
    let (listen, to): (u16, u16) = (arguments.required("listen")?, arguments.required("to")?);
    let pass = if arguments.text("splice") == Some("on") { splice } else { copy };
    accept(listen, to, pass).map_err(|e| e.to_string())
}

fn accept(listen: u16, to: u16, pass: fn(&TcpStream, &TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", listen))?;
    loop {
        let client = listener.accept()?.0;
        let server = TcpStream::connect(("127.0.0.1", to))?;
        for (from, into) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            from.set_nodelay(true)?;
            std::thread::spawn(move || {
                if let Err(error) = pass(&from, &into) {
                    eprintln!("tcpproxy: {error}");
                }
                let _ = into.shutdown(Shutdown::Write);
            });
        }
    }
}

fn copy(mut from: &TcpStream, mut into: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        into.write_all(&buffer[..n])?;
    }
}

fn splice(from: &TcpStream, into: &TcpStream) -> io::Result<()> {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: a size for a descriptor that is ours.
    check(unsafe { libc::fcntl(pipe[1], libc::F_SETPIPE_SZ, 1 << 20) })?;
    loop {
        let mut left = move_bytes(from.as_raw_fd(), pipe[1], 1 << 20)?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            left -= move_bytes(pipe[0], into.as_raw_fd(), left)?;
        }
    }
}

fn move_bytes(from: i32, into: i32, most: usize) -> io::Result<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: no offsets are given; the descriptors are open.
    let n = unsafe { libc::splice(from, none, into, none, most, libc::SPLICE_F_MOVE) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

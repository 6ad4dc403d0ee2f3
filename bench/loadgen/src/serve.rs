//! A TCP server for the sinks: one thread, epoll, whole messages handed to a [`Handler`].

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::os::{check, stopped};

/// Bytes a receive call; a connection keeps this much, and more only while a message is longer.
const CHUNK: usize = 1 << 20;

/// What a sink does with a connection's bytes.
pub trait Handler {
    /// What it remembers of a connection.
    type Peer: Default;

    /// Takes one message from the start of `input`; how many bytes it was, 0 while it is not whole.
    /// Answers go to the end of `output`.
    ///
    /// # Errors
    /// Not the protocol: the connection is closed, and the reason is shown.
    fn message(&mut self, peer: &mut Self::Peer, input: &[u8], output: &mut Vec<u8>)
    -> Result<usize, String>;

    /// The figures, as one line of JSON.
    fn report(&self) -> String;
}

struct Connection<P> {
    socket: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    wants_room: bool,
    peer: P,
}

enum Turn {
    Go,
    Closed,
}

impl<P: Default> Connection<P> {
    fn read<H: Handler<Peer = P>>(&mut self, handler: &mut H) -> Result<Turn, String> {
        if self.input.len() < self.filled + CHUNK {
            self.input.resize(self.filled + CHUNK, 0);
        }
        match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => return Ok(Turn::Closed),
            Ok(n) => self.filled += n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e.to_string()),
        }
        let mut used = 0;
        while used < self.filled {
            let n = handler.message(&mut self.peer, &self.input[used..self.filled], &mut self.output)?;
            if n == 0 {
                break;
            }
            used += n;
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(Turn::Go)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}

fn watch(poll: i32, what: libc::c_int, socket: i32, slot: usize, events: libc::c_int) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: slot as u64 };
    // SAFETY: the event outlives the call.
    check(unsafe { libc::epoll_ctl(poll, what, socket, &raw mut event) }).map(|_| ())
}

/// Serves on a free port of 127.0.0.1 until SIGTERM. Prints `{"port":N}`, at the end the report.
///
/// # Errors
/// The system's.
pub fn serve<H: Handler>(name: &str, handler: &mut H) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    // SAFETY: no arguments but a flag.
    let poll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(poll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), usize::MAX, libc::EPOLLIN)?;
    println!("{{\"port\":{}}}", listener.local_addr()?.port());
    let mut slots: Vec<Option<Connection<H::Peer>>> = vec![];
    let mut events: [libc::epoll_event; 64] = [libc::epoll_event { events: 0, u64: 0 }; 64];
    while !stopped() {
        // SAFETY: room for 64 events.
        let ready = match check(unsafe { libc::epoll_wait(poll, events.as_mut_ptr(), 64, -1) }) {
            Ok(ready) => ready as usize,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        for event in &events[..ready] {
            let slot = event.u64 as usize;
            if slot == usize::MAX {
                accept(&listener, poll, &mut slots)?;
            } else if let Some(Some(connection)) = slots.get_mut(slot) {
                match turn(connection, handler, poll, slot) {
                    Ok(Turn::Go) => {}
                    Ok(Turn::Closed) => slots[slot] = None,
                    Err(message) => {
                        eprintln!("{name}: {message}");
                        slots[slot] = None;
                    }
                }
            }
        }
    }
    println!("{}", handler.report());
    Ok(())
}

fn accept<P: Default>(
    listener: &TcpListener,
    poll: i32,
    slots: &mut Vec<Option<Connection<P>>>,
) -> io::Result<()> {
    let socket = match listener.accept() {
        Ok((socket, _)) => socket,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(e) => return Err(e),
    };
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    watch(poll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), slot, libc::EPOLLIN)?;
    let connection = Some(Connection {
        socket,
        input: vec![],
        filled: 0,
        output: vec![],
        written: 0,
        wants_room: false,
        peer: P::default(),
    });
    if slot == slots.len() {
        slots.push(connection);
    } else {
        slots[slot] = connection;
    }
    Ok(())
}

fn turn<H: Handler>(
    connection: &mut Connection<H::Peer>,
    handler: &mut H,
    poll: i32,
    slot: usize,
) -> Result<Turn, String> {
    // While an answer is stuck nothing more is read: a client that does not listen is not served.
    if connection.output.is_empty()
        && let Turn::Closed = connection.read(handler)?
    {
        return Ok(Turn::Closed);
    }
    connection.write().map_err(|e| e.to_string())?;
    let stuck = !connection.output.is_empty();
    if stuck != connection.wants_room {
        connection.wants_room = stuck;
        let events = if stuck { libc::EPOLLOUT } else { libc::EPOLLIN };
        watch(poll, libc::EPOLL_CTL_MOD, connection.socket.as_raw_fd(), slot, events)
            .map_err(|e| e.to_string())?;
    }
    Ok(Turn::Go)
}

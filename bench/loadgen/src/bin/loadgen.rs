//! Sends paced UDP syslog to 127.0.0.1, every message with its own sequence number, and says exactly how many.
//!
//! `loadgen --port 5140 --rate 200000 --count 1000000 --mode apache` prints one JSON line:
//! `{"sent":1000000,"seconds":5.0001,"rate":199996,"bytes":...,"late_ms":0.3}`.

use std::io::{self, Error};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loadgen::os::{pin, wait_until, write_digits};
use loadgen::{DIGITS, Format, Line, Mode};

const USAGE: &str = "usage: loadgen --port P[,P...] [--port-count N] [--rate MESSAGES_PER_SECOND|0=unpaced] \
[--count N | --seconds S] [--mode header|apache] [--format rfc3164|rfc5424] [--priorities 1..192] [--pool N] \
[--batch 1..64] [--segments on|off] [--core N] [--first N]";

struct Options {
    ports: Vec<u16>,
    rate: u64,
    count: u64,
    mode: Mode,
    format: Format,
    priorities: usize,
    pool: usize,
    batch: usize,
    segments: bool,
    core: Option<usize>,
    first: u64,
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        ports: vec![],
        rate: 0,
        count: 0,
        mode: Mode::Header,
        format: Format::Rfc3164,
        priorities: 1,
        pool: 4096,
        batch: 64,
        segments: true,
        core: None,
        first: 0,
    };
    let (mut seconds, mut port_count) = (0.0_f64, 1_u16);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let bad = |e: &dyn std::fmt::Display| format!("{name} {value}: {e}");
        match name.as_str() {
            "--port" => {
                for one in value.split(',') {
                    o.ports.push(one.parse().map_err(|e| bad(&e))?);
                }
            }
            "--port-count" => port_count = value.parse().map_err(|e| bad(&e))?,
            "--rate" => o.rate = value.parse().map_err(|e| bad(&e))?,
            "--count" => o.count = value.parse().map_err(|e| bad(&e))?,
            "--seconds" => seconds = value.parse().map_err(|e| bad(&e))?,
            "--mode" => {
                o.mode = match value.as_str() {
                    "header" => Mode::Header,
                    "apache" => Mode::Apache,
                    _ => return Err(bad(&"expected header or apache")),
                }
            }
            "--format" => {
                o.format = match value.as_str() {
                    "rfc3164" => Format::Rfc3164,
                    "rfc5424" => Format::Rfc5424,
                    _ => return Err(bad(&"expected rfc3164 or rfc5424")),
                }
            }
            "--priorities" => o.priorities = value.parse().map_err(|e| bad(&e))?,
            "--pool" => o.pool = value.parse().map_err(|e| bad(&e))?,
            "--batch" => o.batch = value.parse().map_err(|e| bad(&e))?,
            "--segments" => o.segments = value == "on",
            "--core" => o.core = Some(value.parse().map_err(|e| bad(&e))?),
            "--first" => o.first = value.parse().map_err(|e| bad(&e))?,
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    if o.ports.is_empty() {
        return Err(USAGE.to_owned());
    }
    let base = o.ports[0];
    for i in 1..port_count {
        o.ports.push(base + i);
    }
    if o.count == 0 {
        o.count = (seconds * o.rate as f64) as u64;
    }
    if o.count == 0 || !(1..=64).contains(&o.batch) || o.pool == 0 || !(1..=192).contains(&o.priorities) {
        return Err(format!("nothing to send, or out of range\n{USAGE}"));
    }
    Ok(o)
}

/// One connected socket a port: the address is looked up once, not per message.
fn connect(port: u16) -> io::Result<i32> {
    // SAFETY: plain system calls; the address struct lives across the call and its size is given.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(Error::last_os_error());
        }
        let size: libc::c_int = 8 << 20;
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const size).cast(), 4);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let length = size_of::<libc::sockaddr_in>() as u32;
        if libc::connect(socket, (&raw const address).cast(), length) < 0 {
            return Err(Error::last_os_error());
        }
        Ok(socket)
    }
}

/// Tells the kernel to cut what is sent into datagrams of `size` bytes (UDP segmentation offload, Linux 4.18).
///
/// One datagram a message costs the sender 2.3 us on loopback: it carries each through the whole stack, which
/// is less than the receivers under test can take. A run of equal lines passes the stack once, and the receiving
/// socket gets it as separate datagrams all the same.
fn segment(socket: i32, size: usize) -> io::Result<()> {
    const UDP_SEGMENT: libc::c_int = 103;
    let size = size as libc::c_int;
    // SAFETY: the option is an int, and its size is given.
    let failed =
        unsafe { libc::setsockopt(socket, libc::IPPROTO_UDP, UDP_SEGMENT, (&raw const size).cast(), 4) };
    if failed == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Sends one run of lines of equal length.
fn send_run(socket: i32, vectors: &mut [libc::iovec]) -> io::Result<()> {
    segment(socket, if vectors.len() > 1 { vectors[0].iov_len } else { 0 })?;
    // SAFETY: an all-zero msghdr is valid; the vectors and what they point at outlive the call (see `run`).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vectors.as_mut_ptr();
    header.msg_iovlen = vectors.len() as _;
    loop {
        // SAFETY: as above.
        if unsafe { libc::sendmsg(socket, &raw const header, 0) } >= 0 {
            return Ok(());
        }
        retry(Error::last_os_error())?;
    }
}

/// Sends a datagram a message, as separate senders on a network would.
fn send_each(socket: i32, headers: &mut [libc::mmsghdr]) -> io::Result<()> {
    let mut done = 0;
    while done < headers.len() {
        let rest = &mut headers[done..];
        // SAFETY: every header points at an iovec and a buffer that outlive this call (see `run`).
        let n = unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), rest.len() as u32, 0) };
        if n < 0 {
            retry(Error::last_os_error())?;
        } else {
            done += n as usize;
        }
    }
    Ok(())
}

fn retry(error: Error) -> io::Result<()> {
    match error.raw_os_error() {
        // The ICMP answer to an earlier message (nobody listens) is reported once, in place of sending.
        Some(libc::EINTR | libc::ECONNREFUSED) => Ok(()),
        Some(libc::ENOBUFS | libc::EAGAIN) => {
            std::thread::yield_now();
            Ok(())
        }
        _ => Err(error),
    }
}

fn run(o: &Options) -> io::Result<()> {
    if let Some(core) = o.core {
        pin(core)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let mut pool: Vec<Line> =
        loadgen::pool(o.mode, o.format, o.pool.max(o.batch), o.batch, o.priorities, now);
    let sockets = o.ports.iter().map(|p| connect(*p)).collect::<io::Result<Vec<_>>>()?;

    // Headers for the whole pool, made once; a batch is a window of them. The vectors are not touched
    // again except for the digits in place, so the pointers stay good.
    let mut vectors: Vec<libc::iovec> = pool
        .iter_mut()
        .map(|line| libc::iovec { iov_base: line.bytes.as_mut_ptr().cast(), iov_len: line.bytes.len() })
        .collect();
    let base = vectors.as_mut_ptr();
    let mut headers: Vec<libc::mmsghdr> = (0..vectors.len())
        .map(|i| {
            // SAFETY: an all-zero mmsghdr is valid: no name, no control data.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = base.wrapping_add(i);
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();

    // At low rates a batch of 64 would be a burst every 64 ms: at most a millisecond's worth at a time.
    let per_ms = if o.rate == 0 { o.batch } else { (o.rate / 1000).max(1) as usize };
    let batch = o.batch.min(per_ms);
    let equal = o.batch; // lines at, ..., at + equal - 1 have one length where `at` is a multiple of it
    let (mut sent, mut bytes, mut at, mut port) = (0_u64, 0_u64, 0_usize, 0_usize);
    let mut late = Duration::ZERO;
    let start = Instant::now();
    while sent < o.count {
        let n = batch.min((o.count - sent) as usize).min(equal - at % equal);
        for (i, line) in pool[at..at + n].iter_mut().enumerate() {
            let from = line.sequence_at;
            write_digits(&mut line.bytes[from..from + DIGITS], o.first + sent + i as u64);
            bytes += line.bytes.len() as u64;
        }
        if o.rate > 0 {
            let due = Duration::from_nanos((u128::from(sent) * 1_000_000_000 / u128::from(o.rate)) as u64);
            wait_until(start, due);
            late = late.max(start.elapsed() - due);
        }
        if o.segments {
            send_run(sockets[port], &mut vectors[at..at + n])?;
        } else {
            send_each(sockets[port], &mut headers[at..at + n])?;
        }
        sent += n as u64;
        at = (at + n) % pool.len();
        port = (port + 1) % sockets.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"sent\":{sent},\"seconds\":{seconds:.6},\"rate\":{:.0},\"bytes\":{bytes},\"late_ms\":{:.3}}}",
        sent as f64 / seconds,
        late.as_secs_f64() * 1e3
    );
    Ok(())
}

fn main() {
    let outcome = options().and_then(|o| run(&o).map_err(|e| e.to_string()));
    if let Err(message) = outcome {
        eprintln!("loadgen: {message}");
        std::process::exit(2);
    }
}

//! Sends numbered events by the forward protocol, or as syslog lines over TCP, and says exactly how many.
//!
//! `forwardgen --port P --seconds 3` prints `{"sent":..,"seconds":..,"bytes":..,"acked":..}`. With `--idle N` it opens
//! N connections, sends one event over each, prints `{"open":N}` and keeps them until its standard input ends.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::forward::{put_text, skip};
use loadgen::os::{pin, raise_file_limit, wait_until, write_digits};
use loadgen::{DIGITS, Format, Mode, pool};

const USAGE: &str = "usage: forwardgen --port P [--mode packed|array|message|lines|apache] [--batch N] [--ack on|off] \
[--window N] [--rate EVENTS_PER_SECOND|0=unpaced] [--count N | --seconds S] [--first N] [--core N] [--idle N] [--fields 4..10]";
const OPTIONS: &[&str] = &[
    "port", "mode", "batch", "ack", "window", "rate", "count", "seconds", "first", "core", "idle", "fields",
];
/// Of an event's text, so that an event is about 250 bytes.
const TEXT: usize = 186;
/// Fields that an event has besides host, ident, stream and message, where more are asked for: as MessagePack pairs.
const MORE: [&[u8]; 6] = [
    b"\xa5level\xa4info",
    b"\xa9container\xa6/web-1",
    b"\xaccontainer_id\xac4f1c0a9be210",
    b"\xa4zone\xaaeu-west-1b",
    b"\xa6status\xcc\xc8",
    b"\xa5bytes\xcd\x14\x03",
];
/// Different messages in turn: more than fit the first cache.
const MESSAGES: usize = 4;
/// Length of a chunk's id, as of the 16 bytes in base64 that clients send.
const CHUNK: usize = 24;

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Packed,
    /// As `Packed`; the text is the whole message of a line, for a receiver that parses it.
    Apache,
    Array,
    Single,
    Lines,
}

/// What one write sends, and where its changing parts are.
struct Burst {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    chunk: Option<usize>,
}

fn main() {
    exit_on_error("forwardgen", run());
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(OPTIONS, USAGE)?;
    let shape = match arguments.text("mode").unwrap_or("packed") {
        "packed" => Shape::Packed,
        "apache" => Shape::Apache,
        "array" => Shape::Array,
        "message" => Shape::Single,
        "lines" => Shape::Lines,
        _ => return Err(USAGE.to_owned()),
    };
    let plan = Plan {
        port: arguments.required("port")?,
        window: if arguments.text("ack") == Some("on") { arguments.or("window", 16)? } else { 0 },
        rate: arguments.or("rate", 0)?,
        count: arguments.or("count", u64::MAX)?,
        seconds: arguments.or("seconds", f64::MAX)?,
        first: arguments.or("first", 0)?,
    };
    if plan.window > 0 && !matches!(shape, Shape::Packed | Shape::Apache | Shape::Array) {
        return Err("acks are for chunks: --mode packed, apache or array".to_owned());
    }
    if let Some(core) = arguments.get("core")? {
        pin(core).map_err(|e| e.to_string())?;
    }
    if let Some(count) = arguments.get("idle")? {
        return idle(&plan, count).map_err(|e| e.to_string());
    }
    let batch = arguments.or("batch", 1000)?;
    if batch == 0 || (plan.count == u64::MAX && plan.seconds == f64::MAX) {
        return Err(USAGE.to_owned());
    }
    let fields = arguments.or("fields", 4)?;
    if !(4..=4 + MORE.len()).contains(&fields) {
        return Err(USAGE.to_owned());
    }
    let more = &MORE[..fields - 4];
    let mut bursts: Vec<Burst> =
        (0..MESSAGES).map(|i| burst(shape, batch, i, plan.window > 0, more)).collect();
    send(&plan, &mut bursts).map_err(|e| e.to_string())
}

struct Plan {
    port: u16,
    /// Chunks that may wait for their acknowledgement; 0: none is asked for.
    window: usize,
    rate: u64,
    count: u64,
    seconds: f64,
    first: u64,
}

fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as u32)
}

fn burst(shape: Shape, batch: usize, turn: usize, ack: bool, more: &[&[u8]]) -> Burst {
    let lines = pool(Mode::Apache, Format::Rfc3164, batch * (turn + 1), 1, 1, i64::from(now()));
    let (mut body, mut numbers) = (vec![], vec![]);
    for line in &lines[batch * turn..batch * (turn + 1)] {
        // the text from a little before the number on, so that it is inside whatever the line's length
        let header = line.bytes.iter().position(|b| *b == b']').map_or(0, |at| at + 3);
        let (from, to) = match shape {
            Shape::Apache => (header, line.bytes.len()),
            _ => {
                let from = (line.sequence_at + DIGITS).saturating_sub(TEXT / 2);
                (from, line.bytes.len().min(from + TEXT))
            }
        };
        let text = &line.bytes[from..to];
        let at = match shape {
            Shape::Lines => {
                body.extend_from_slice(&line.bytes[..header]);
                body.extend_from_slice(text);
                body.push(b'\n');
                body.len() - 1 - text.len()
            }
            Shape::Single => {
                body.extend_from_slice(b"\x93\xaabench.test");
                let at = event(&mut body, text, more);
                // the entry's own array header is not part of this form
                body.remove(at.0);
                at.1 - 1
            }
            _ => event(&mut body, text, more).1,
        };
        numbers.push(at + line.sequence_at - from);
    }
    wrap(shape, batch, ack, body, numbers)
}

/// Appends `[time, record]`; where it starts, and where the text in it does.
fn event(out: &mut Vec<u8>, text: &[u8], more: &[&[u8]]) -> (usize, usize) {
    let start = out.len();
    out.extend_from_slice(b"\x92\xd7\x00");
    out.extend_from_slice(&now().to_be_bytes());
    out.extend_from_slice(&123_456_789_u32.to_be_bytes());
    out.push(0x84 + more.len() as u8);
    out.extend_from_slice(b"\xa4host\xa5web01\xa5ident\xa5httpd\xa6stream\xa6stdout");
    out.extend_from_slice(&more.concat());
    out.extend_from_slice(b"\xa7message");
    put_text(out, text);
    (start, out.len() - text.len())
}

fn wrap(shape: Shape, batch: usize, ack: bool, body: Vec<u8>, numbers: Vec<usize>) -> Burst {
    if matches!(shape, Shape::Single | Shape::Lines) {
        return Burst { bytes: body, numbers, chunk: None };
    }
    let mut bytes = b"\x93\xaabench.test".to_vec();
    let count = batch as u32;
    if matches!(shape, Shape::Packed | Shape::Apache) {
        bytes.push(0xc6);
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    } else {
        bytes.push(0xdd);
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    let numbers = numbers.iter().map(|at| at + bytes.len()).collect();
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(if ack { b"\x82\xa4size\xce" } else { b"\x81\xa4size\xce" });
    bytes.extend_from_slice(&count.to_be_bytes());
    let mut chunk = None;
    if ack {
        bytes.extend_from_slice(b"\xa5chunk");
        put_text(&mut bytes, &[b'c'; CHUNK]);
        chunk = Some(bytes.len() - DIGITS);
    }
    Burst { bytes, numbers, chunk }
}

fn send(plan: &Plan, bursts: &mut [Burst]) -> io::Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", plan.port))?;
    socket.set_nodelay(true)?;
    let mut acks = Acks { waiting: VecDeque::new(), input: vec![], acked: 0 };
    let limit = Duration::from_secs_f64(plan.seconds.min(1e9));
    let (mut sent, mut bytes, mut turn, mut chunks) = (0_u64, 0_u64, 0, 0_u64);
    let start = Instant::now();
    while sent < plan.count && start.elapsed() < limit {
        let burst = &mut bursts[turn % MESSAGES];
        for (i, at) in burst.numbers.iter().enumerate() {
            write_digits(&mut burst.bytes[*at..*at + DIGITS], plan.first + sent + i as u64);
        }
        if let Some(at) = burst.chunk {
            write_digits(&mut burst.bytes[at..at + DIGITS], chunks);
            acks.waiting.push_back(burst.bytes[at + DIGITS - CHUNK..at + DIGITS].to_vec());
            chunks += 1;
        }
        if plan.rate > 0 {
            let due = u128::from(sent) * 1_000_000_000 / u128::from(plan.rate);
            wait_until(start, Duration::from_nanos(due as u64));
        }
        socket.write_all(&burst.bytes)?;
        sent += burst.numbers.len() as u64;
        bytes += burst.bytes.len() as u64;
        turn += 1;
        while plan.window > 0 && acks.waiting.len() >= plan.window {
            acks.read(&mut socket)?;
        }
    }
    while !acks.waiting.is_empty() {
        acks.read(&mut socket)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{{\"sent\":{sent},\"seconds\":{seconds:.6},\"bytes\":{bytes},\"acked\":{}}}", acks.acked);
    Ok(())
}

/// Chunks that were sent and not yet acknowledged.
struct Acks {
    waiting: VecDeque<Vec<u8>>,
    input: Vec<u8>,
    acked: u64,
}

impl Acks {
    /// Waits for acknowledgements: `{"ack": id}`, each for a chunk that waits.
    fn read(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut buffer = [0_u8; 4096];
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Err(wrong("closed before everything was acknowledged"));
        }
        self.input.extend_from_slice(&buffer[..n]);
        while let Some(end) = skip(&self.input, 0) {
            let object: Vec<u8> = self.input.drain(..end).collect();
            let id = object.len().checked_sub(CHUNK).map(|at| &object[at..]);
            let Some(at) = self.waiting.iter().position(|waiting| Some(&waiting[..]) == id) else {
                return Err(wrong("an answer that acknowledges nothing that was sent"));
            };
            self.waiting.remove(at);
            self.acked += 1;
        }
        Ok(())
    }
}

/// Opens `count` connections, each with one event over it, and keeps them.
fn idle(plan: &Plan, count: usize) -> io::Result<()> {
    raise_file_limit();
    let mut one = burst(Shape::Single, 1, 0, false, &[]);
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let mut socket = TcpStream::connect(("127.0.0.1", plan.port))?;
        let at = one.numbers[0];
        write_digits(&mut one.bytes[at..at + DIGITS], plan.first + number as u64);
        socket.write_all(&one.bytes)?;
        open.push(socket);
    }
    println!("{{\"open\":{count}}}");
    io::stdin().read_to_end(&mut vec![])?;
    Ok(())
}

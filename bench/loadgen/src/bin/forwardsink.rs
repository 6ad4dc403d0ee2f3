//! The end of a relay: takes the forward protocol, or syslog lines, and counts the sequence numbers.
//!
//! `forwardsink [--core N]` listens on a free port of 127.0.0.1, prints `{"port":N}`, and at SIGTERM the counts.
//! `GET /stats?expect=N` on the same port gives them at any time. Chunks that ask for it are acknowledged.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::counts::Counts;
use loadgen::forward::{message, put_text};
use loadgen::os::{catch_stop, pin};
use loadgen::serve::{Handler, serve};
use memchr::{memmem, memrchr};

#[derive(Default)]
struct Sink {
    counts: Counts,
    messages: u64,
    acks: u64,
    wire_bytes: u64,
    plain: Vec<u8>,
}

impl Handler for Sink {
    type Peer = ();

    fn message(&mut self, (): &mut (), input: &[u8], output: &mut Vec<u8>) -> Result<usize, String> {
        match input[0] {
            b'G' => self.stats_request(input, output),
            b'<' => {
                let end = memrchr(b'\n', input).map_or(0, |at| at + 1);
                self.counts.records_by_number(&input[..end]);
                self.wire_bytes += end as u64;
                Ok(end)
            }
            _ => self.forward(input, output),
        }
    }

    fn report(&self) -> String {
        self.stats(None)
    }
}

impl Sink {
    fn forward(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, String> {
        let Some(message) = message(input)? else { return Ok(0) };
        self.messages += 1;
        self.wire_bytes += message.length as u64;
        let before = self.counts.records;
        if message.gzip {
            self.plain.clear();
            MultiGzDecoder::new(message.events)
                .read_to_end(&mut self.plain)
                .map_err(|e| format!("gzip: {e}"))?;
            self.counts.records_by_number(&self.plain);
        } else {
            self.counts.records_by_number(message.events);
        }
        let counted = self.counts.records - before;
        self.counts.unnumbered += message.size.map_or(0, |size| size.abs_diff(counted));
        if let Some(chunk) = message.chunk {
            self.acks += 1;
            output.extend_from_slice(b"\x81\xa3ack");
            put_text(output, chunk);
        }
        Ok(message.length)
    }

    fn stats_request(&self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, String> {
        let Some(end) = memmem::find(input, b"\r\n\r\n") else { return Ok(0) };
        let head = std::str::from_utf8(&input[..end]).map_err(|e| e.to_string())?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let expect = target.strip_prefix("/stats?expect=").and_then(|n| n.parse().ok());
        let body = self.stats(expect);
        output.extend_from_slice(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
        Ok(end + 4)
    }

    fn stats(&self, expect: Option<u64>) -> String {
        let counts = self.counts.json(expect);
        format!(
            "{},\"messages\":{},\"acks\":{},\"wire_bytes\":{}}}",
            counts.trim_end_matches('}'),
            self.messages,
            self.acks,
            self.wire_bytes
        )
    }
}

fn main() {
    exit_on_error("forwardsink", run());
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["core"], "usage: forwardsink [--core N]")?;
    catch_stop();
    if let Some(core) = arguments.get("core")? {
        pin(core).map_err(|e| e.to_string())?;
    }
    serve("forwardsink", &mut Sink::default()).map_err(|e| e.to_string())
}

//! An Elasticsearch that keeps nothing: answers `_bulk` as a node does and counts the sequence numbers in it.
//!
//! `bulksink [--core N]` listens on a free port of 127.0.0.1, prints `{"port":N}`, and at SIGTERM the counts.
//! `GET /stats?expect=N` gives them at any time. What clients ask before they send (`/`, `/_license`,
//! `/_cat/health`, templates) is answered as a node of version 8 would, or with an empty object.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::counts::Counts;
use loadgen::os::{catch_stop, pin};
use loadgen::serve::{Handler, serve};
use memchr::{memchr, memmem};

const USAGE: &str = "usage: bulksink [--core N]";
const HELLO: &str = "{\"name\":\"sink\",\"cluster_name\":\"bench\",\"cluster_uuid\":\"AAAAAAAAAAAAAAAAAAAAAA\",\
\"version\":{\"number\":\"8.11.4\",\"build_flavor\":\"default\",\"build_type\":\"tar\",\"build_hash\":\"0\",\
\"build_date\":\"2024-01-08T00:00:00.000000000Z\",\"build_snapshot\":false,\"lucene_version\":\"9.8.0\",\
\"minimum_wire_compatibility_version\":\"7.17.0\",\"minimum_index_compatibility_version\":\"7.0.0\"},\
\"tagline\":\"You Know, for Search\"}";
const LICENSE: &str =
    "{\"license\":{\"status\":\"active\",\"uid\":\"0\",\"type\":\"basic\",\"issued_to\":\"bench\"}}";

/// What of the answer a client wants (`filter_path`).
struct Wanted {
    took: bool,
    errors: bool,
    items: Items,
}

#[derive(Clone, Copy, PartialEq)]
enum Items {
    Whole,
    StatusOnly,
    /// Only of what failed, and nothing did.
    None,
}

impl Wanted {
    fn of(query: &str) -> Self {
        let path = query.split('&').find_map(|pair| pair.strip_prefix("filter_path="));
        let Some(path) = path else { return Wanted { took: true, errors: true, items: Items::Whole } };
        let path = path.replace("%2C", ",").replace("%2c", ",").replace("%2A", "*").replace("%2a", "*");
        let mut wanted = Wanted { took: false, errors: false, items: Items::None };
        for part in path.split(',') {
            match part {
                "took" => wanted.took = true,
                "errors" => wanted.errors = true,
                "items" | "items.*" | "*" | "**" => wanted.items = Items::Whole,
                _ if part.starts_with("items.")
                    && part.ends_with(".status")
                    && wanted.items == Items::None =>
                {
                    wanted.items = Items::StatusOnly;
                }
                _ => {}
            }
        }
        wanted
    }
}

struct Sink {
    counts: Counts,
    requests: u64,
    wire_bytes: u64,
    documents: u64,
    plain: Vec<u8>,
    items: Vec<u8>,
}

/// The parts of a request's head that matter here.
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    body: usize,
    gzip: bool,
    expects_continue: bool,
    closes: bool,
    length: usize,
}

impl<'a> Head<'a> {
    fn parse(head: &'a str, length: usize) -> Result<Self, String> {
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) =
            (words.next(), words.next(), words.next())
        else {
            return Err(format!("not an HTTP request: {first:?}"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parsed = Head {
            method,
            path,
            query,
            body: 0,
            gzip: false,
            expects_continue: false,
            closes: false,
            length,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => parsed.body = value.parse().map_err(|e| format!("{value}: {e}"))?,
                "content-encoding" => parsed.gzip = value.eq_ignore_ascii_case("gzip"),
                "transfer-encoding" => return Err("a chunked body is not understood".to_owned()),
                "expect" => parsed.expects_continue = value.eq_ignore_ascii_case("100-continue"),
                "connection" => parsed.closes = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(parsed)
    }
}

impl Handler for Sink {
    /// Whether "100 Continue" was said for the request that is coming in.
    type Peer = bool;

    fn message(&mut self, continued: &mut bool, input: &[u8], output: &mut Vec<u8>) -> Result<usize, String> {
        let Some(end) = memmem::find(&input[..input.len().min(64 << 10)], b"\r\n\r\n") else { return Ok(0) };
        let text = std::str::from_utf8(&input[..end]).map_err(|e| e.to_string())?;
        let head = Head::parse(text, end + 4)?;
        let whole = head.length + head.body;
        if input.len() < whole {
            if head.expects_continue && !*continued {
                *continued = true;
                output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            return Ok(0);
        }
        *continued = false;
        self.request(&head, &input[head.length..whole], output)?;
        if head.closes {
            return Err("closed as the client asked".to_owned());
        }
        Ok(whole)
    }

    fn report(&self) -> String {
        self.stats(None)
    }
}

impl Sink {
    fn stats(&self, expect: Option<u64>) -> String {
        let counts = self.counts.json(expect);
        format!(
            "{},\"documents\":{},\"requests\":{},\"wire_bytes\":{}}}",
            counts.trim_end_matches('}'),
            self.documents,
            self.requests,
            self.wire_bytes
        )
    }

    fn request(&mut self, head: &Head, body: &[u8], output: &mut Vec<u8>) -> Result<(), String> {
        if head.path.ends_with("/_bulk") && matches!(head.method, "POST" | "PUT") {
            self.requests += 1;
            self.wire_bytes += body.len() as u64;
            let index = head.path.trim_start_matches('/').split('/').next().filter(|part| *part != "_bulk");
            if head.gzip {
                let mut plain = std::mem::take(&mut self.plain);
                plain.clear();
                MultiGzDecoder::new(body).read_to_end(&mut plain).map_err(|e| format!("gzip: {e}"))?;
                self.bulk(&plain, index.unwrap_or(""), Wanted::of(head.query).items)?;
                self.plain = plain;
            } else {
                self.bulk(body, index.unwrap_or(""), Wanted::of(head.query).items)?;
            }
            self.answer_bulk(&Wanted::of(head.query), output);
            return Ok(());
        }
        let stats;
        let text = match (head.method, head.path) {
            (_, "/") => HELLO,
            ("GET", "/stats") => {
                let expect = head.query.strip_prefix("expect=").and_then(|n| n.parse().ok());
                stats = self.stats(expect);
                &stats
            }
            (_, "/_license") => LICENSE,
            ("GET" | "HEAD", "/_cat/health") => "bench green",
            ("GET" | "HEAD", "/_cluster/health") => "{\"cluster_name\":\"bench\",\"status\":\"green\"}",
            ("PUT" | "POST" | "DELETE", _) => "{\"acknowledged\":true}",
            _ => "{}",
        };
        respond(output, text.len());
        if head.method != "HEAD" {
            output.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    /// Counts the documents and makes the answer's items.
    fn bulk(&mut self, body: &[u8], index: &str, wanted: Items) -> Result<(), String> {
        self.items.clear();
        let mut rest = body;
        while let Some(action) = line(&mut rest) {
            if action.is_empty() {
                continue;
            }
            let operation = [&b"index"[..], b"create", b"update", b"delete"]
                .into_iter()
                .find(|name| memchr(b'"', action).is_some_and(|at| action[at + 1..].starts_with(name)));
            let operation = operation.ok_or_else(|| {
                format!("not an action: {:?}", String::from_utf8_lossy(&action[..action.len().min(80)]))
            })?;
            if operation != b"delete" {
                let document = line(&mut rest).ok_or("an action without a document")?;
                if document.first() != Some(&b'{') || document.last() != Some(&b'}') {
                    return Err("a document that is no object".to_owned());
                }
                self.counts.record(document);
            }
            self.documents += 1;
            match wanted {
                Items::None => {}
                Items::StatusOnly => {
                    self.items.extend_from_slice(b"{\"");
                    self.items.extend_from_slice(operation);
                    self.items.extend_from_slice(b"\":{\"status\":201}},");
                }
                Items::Whole => self.item(operation, action, index),
            }
        }
        Ok(())
    }

    /// One item as a node writes it; ids and sequence numbers of their usual length.
    fn item(&mut self, operation: &[u8], action: &[u8], index: &str) {
        let items = &mut self.items;
        items.extend_from_slice(b"{\"");
        items.extend_from_slice(operation);
        items.extend_from_slice(b"\":{\"_index\":\"");
        items.extend_from_slice(value(action, b"\"_index\"").unwrap_or(index.as_bytes()));
        items.extend_from_slice(b"\",\"_id\":\"");
        items.extend_from_slice(value(action, b"\"_id\"").unwrap_or(b"AVYzZ4sBq0n5Yx0aBcDe"));
        items.extend_from_slice(
            b"\",\"_version\":1,\"result\":\"created\",\"_shards\":{\"total\":2,\"successful\":1,\
              \"failed\":0},\"_seq_no\":1234567,\"_primary_term\":1,\"status\":201}},",
        );
    }

    fn answer_bulk(&mut self, wanted: &Wanted, output: &mut Vec<u8>) {
        let mut parts: Vec<&[u8]> = vec![];
        if wanted.took {
            parts.push(b"\"took\":7");
        }
        if wanted.errors {
            parts.push(b"\"errors\":false");
        }
        if wanted.items != Items::None {
            self.items.pop();
            self.items.splice(0..0, *b"\"items\":[");
            self.items.push(b']');
            parts.push(&self.items);
        }
        let body = parts.join(&b","[..]);
        respond(output, body.len() + 2);
        output.push(b'{');
        output.extend_from_slice(&body);
        output.push(b'}');
    }
}

fn respond(output: &mut Vec<u8>, length: usize) {
    output.extend_from_slice(
        format!(
            "HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// The next line, without its newline.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr(b'\n', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(line)
}

/// The string value of a key in an action line (names of indices and ids hold no quotes).
fn value<'a>(action: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let after = &action[memmem::find(action, key)? + key.len()..];
    let start = memchr(b'"', after)? + 1;
    let length = memchr(b'"', &after[start..])?;
    Some(&after[start..start + length])
}

fn main() {
    exit_on_error("bulksink", run());
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["core"], USAGE)?;
    catch_stop();
    if let Some(core) = arguments.get("core")? {
        pin(core).map_err(|e| e.to_string())?;
    }
    serve("bulksink", &mut sink()).map_err(|e| e.to_string())
}

fn sink() -> Sink {
    Sink { counts: Counts::default(), requests: 0, wire_bytes: 0, documents: 0, plain: vec![], items: vec![] }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn talk(sink: &mut Sink, head: &str, body: &[u8]) -> (usize, String) {
        let mut input = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        input.extend_from_slice(body);
        let mut output = vec![];
        let cut = input.len() - 1;
        if !body.is_empty() {
            assert_eq!(sink.message(&mut false, &input[..cut], &mut output), Ok(0));
        }
        assert_eq!(sink.message(&mut false, &input, &mut output), Ok(input.len()));
        (input.len(), String::from_utf8(output).expect("text"))
    }

    fn body(numbers: &[u64]) -> Vec<u8> {
        let pair =
            |n: &u64| format!("{{\"index\":{{\"_index\":\"logs\"}}}}\n{{\"message\":\"seq-{n:010}\"}}\n");
        numbers.iter().map(pair).collect::<String>().into_bytes()
    }

    #[test]
    fn a_loss_and_a_double_are_seen() {
        let mut sink = sink();
        let (_, answer) = talk(&mut sink, "POST /_bulk HTTP/1.1", &body(&[0, 1, 3, 3]));
        assert_eq!(answer.matches("\"_index\":\"logs\"").count(), 4);
        assert!(answer.contains("{\"took\":7,\"errors\":false,\"items\":[{\"index\":"));
        assert!(answer.ends_with("\"status\":201}}]}"));
        let stats = sink.stats(Some(4));
        assert!(stats.contains("\"unique\":3,\"doubled\":1,") && stats.contains("\"missing\":1,"), "{stats}");
    }

    #[test]
    fn gzip_and_filter_path() {
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gzip.write_all(&body(&[5, 6])).expect("memory");
        let packed = gzip.finish().expect("memory");
        let mut sink = sink();
        let head = "POST /a/_bulk?filter_path=errors%2Citems.*.error HTTP/1.1\r\nContent-Encoding: gzip";
        let (_, answer) = talk(&mut sink, head, &packed);
        assert!(answer.ends_with("\r\n\r\n{\"errors\":false}"), "{answer}");
        assert_eq!((sink.counts.unique, sink.documents, sink.requests), (2, 2, 1));
    }

    #[test]
    fn probes() {
        let mut sink = sink();
        assert!(talk(&mut sink, "GET / HTTP/1.1", b"").1.contains("You Know, for Search"));
        assert!(talk(&mut sink, "HEAD / HTTP/1.1", b"").1.ends_with("\r\n\r\n"));
        assert!(talk(&mut sink, "GET /_license HTTP/1.1", b"").1.contains("active"));
    }

    #[test]
    fn continue_is_said_once() {
        let (mut sink, mut output, mut said) = (sink(), vec![], false);
        let head = b"POST /_bulk HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        for _ in 0..2 {
            assert_eq!(sink.message(&mut said, head, &mut output), Ok(0));
        }
        assert_eq!(output, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}

//! The pool of realistic lines, rendered once. What changes from message to message while sending is
//! only the sequence number, ten digits at a known place.

use std::collections::HashMap;

pub mod arguments;
pub mod counts;
pub mod forward;
pub mod os;
pub mod serve;

/// What the lines hold after the syslog header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Free text of a daemon.
    Header,
    /// A line of an Apache combined access log.
    Apache,
}

/// Which header stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<34>Oct 11 22:14:15 host ident[pid]: `
    Rfc3164,
    /// `<34>1 2023-10-11T22:14:15.003Z host app pid msgid - `
    Rfc5424,
    /// None: a line of a file.
    Plain,
}

/// Digits of a sequence number.
pub const DIGITS: usize = 10;

/// Before a sequence number in the line. In the free text it is a word of its own; in an access line it
/// is the last part of the path. The sink looks for it in whatever the receiver wrote.
pub const MARK: &[u8] = b"seq-";

/// One message: its bytes, and where the sequence number is.
pub struct Line {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// Offset of the first digit.
    pub sequence_at: usize,
}

/// xorshift64*: the same lines in every run, without a dependency.
pub struct Random(u64);

impl Random {
    /// A generator; the seed must not be 0.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

const HOSTS: &[&str] = &[
    "web",
    "api",
    "edge",
    "cache",
    "proxy",
    "store-node",
    "auth",
    "db",
    "queue",
    "mail",
    "build",
    "metrics",
];
const IDENTS: &[&str] = &["httpd", "sshd", "cron", "kernel", "systemd", "nginx", "postfix/smtpd", "storaged"];
const PATHS: &[&str] = &[
    "/index.html",
    "/",
    "/api/v1/users",
    "/api/v2/orders/items",
    "/static/js/app.3f2a91.min.js",
    "/images/logo.png",
    "/login",
    "/search",
    "/products/category/shoes",
    "/healthz",
    "/blog/2023/10/how-we-store-a-petabyte",
    "/download/releases/latest/package.tar.gz",
];
const QUERIES: &[&str] = &[
    "",
    "",
    "",
    "?q=log+forwarder&lang=en",
    "?page=2&sort=asc",
    "?utm_source=mail&utm_campaign=autumn",
    "?id=42",
];
const METHODS: &[&str] = &["GET", "GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"];
const STATUSES: &[&str] = &["200", "200", "200", "200", "304", "301", "404", "403", "500", "503"];
const USERS: &[&str] = &["-", "-", "-", "-", "alice", "bob", "frank", "svc-backup"];
const REFERERS: &[&str] = &[
    "-",
    "-",
    "https://www.example.com/",
    "https://www.example.com/search?q=storage",
    "https://news.example.org/item/38111111",
    "http://intranet.example.net/wiki/Runbooks/Storage",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:109.0) Gecko/20100101 Firefox/118.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "curl/8.4.0",
    "Prometheus/2.47.0",
    "kube-probe/1.28",
    "python-requests/2.31.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];
const TEXTS: &[&str] = &[
    "Accepted publickey for deploy from 10.1.2.3 port 52011 ssh2",
    "connection closed by 192.0.2.41",
    "session opened for user root by (uid=0)",
    "volume vol-0a17 replica 2 is in sync after 1532 ms",
    "scrub of placement group 4.1f finished, 0 errors",
    "slow request 1.27 s: osd_op(client.4123 write 0~4194304)",
    "Out of memory check passed, 81% used",
    "TLS handshake with peer failed: certificate has expired",
    "retrying in 5 s (attempt 3 of 8)",
];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// (year, month 1-12, day) of a day since 1970 (the civil calendar from days, after H. Hinnant).
fn civil(days: i64) -> (i64, usize, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as usize, day)
}

/// Renders about `count` lines, in runs of `run` lines of the same length (and different content), which is what lets
/// one system call send a whole run (UDP segmentation offload). `priorities`: how many of the 192
/// facility/severity pairs occur (each is a tag of its own to a Fluentd-style syslog input). `now`: seconds
/// since the epoch; the headers show the 30 seconds before it.
pub fn pool(mode: Mode, format: Format, count: usize, run: usize, priorities: usize, now: i64) -> Vec<Line> {
    let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
    let mut lines = Vec::with_capacity(count + run);
    let mut by_length: HashMap<usize, Vec<Line>> = HashMap::new();
    let mut i = 0;
    while lines.len() < count {
        let line = line(mode, format, i, priorities, now, &mut random);
        i += 1;
        let bucket = by_length.entry(line.bytes.len()).or_default();
        bucket.push(line);
        if bucket.len() == run {
            lines.append(bucket);
        }
    }
    lines
}

fn line(mode: Mode, format: Format, i: usize, priorities: usize, now: i64, r: &mut Random) -> Line {
    // One priority only: local0.info, what an application sends.
    let priority = if priorities <= 1 { 134 } else { i % priorities };
    let at = now - (i as i64 % 30);
    let (year, month, day) = civil(at.div_euclid(86_400));
    let second = at.rem_euclid(86_400);
    let (hh, mm, ss) = (second / 3600, second / 60 % 60, second % 60);
    let host = format!("{}{:02}", r.pick(HOSTS), r.below(60));
    let ident = if mode == Mode::Apache { "httpd" } else { r.pick(IDENTS) };
    let pid = 300 + r.below(30_000);
    let mut text = match format {
        Format::Rfc3164 => format!(
            "<{priority}>{} {day:>2} {hh:02}:{mm:02}:{ss:02} {host} {ident}[{pid}]: ",
            MONTHS[month - 1]
        ),
        Format::Rfc5424 => {
            let ms = r.below(1000);
            format!(
                "<{priority}>1 {year}-{month:02}-{day:02}T{hh:02}:{mm:02}:{ss:02}.{ms:03}Z {host} {ident} {pid} - - "
            )
        }
        Format::Plain => String::new(),
    };
    let zeros = "0".repeat(DIGITS);
    let sequence_at;
    match mode {
        Mode::Header => {
            text.push_str("seq-");
            sequence_at = text.len();
            text.push_str(&format!("{zeros} {}", r.pick(TEXTS)));
        }
        Mode::Apache => {
            let address =
                format!("{}.{}.{}.{}", 1 + r.below(223), r.below(256), r.below(256), 1 + r.below(254));
            let path = r.pick(PATHS).trim_end_matches('/');
            text.push_str(&format!(
                "{address} - {} [{day:02}/{}/{year}:{hh:02}:{mm:02}:{ss:02} +0000] \"{} {path}/seq-",
                r.pick(USERS),
                MONTHS[month - 1],
                r.pick(METHODS)
            ));
            sequence_at = text.len();
            let size =
                if r.below(12) == 0 { "-".to_owned() } else { (r.below(900) * r.below(900)).to_string() };
            text.push_str(&format!(
                "{zeros}{} HTTP/1.1\" {} {size} \"{}\" \"{}\"",
                r.pick(QUERIES),
                r.pick(STATUSES),
                r.pick(REFERERS),
                r.pick(AGENTS)
            ));
        }
    }
    Line { bytes: text.into_bytes(), sequence_at }
}

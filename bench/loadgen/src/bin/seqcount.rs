//! The counting sink: which sequence numbers are in what a receiver wrote.
//!
//! `seqcount --expect N FILE...` reads the files, marks every `seq-DIGITS` in a bitmap and prints
//! one JSON line: unique, doubled, missing below N, out of range, lines, bytes, and lines without a number.

use std::fs::File;
use std::io::{self, Read};

use loadgen::{DIGITS, MARK};

/// What was found so far.
struct Counts {
    seen: Vec<u64>,
    unique: u64,
    doubled: u64,
    outside: u64,
    lines: u64,
    unnumbered: u64,
    bytes: u64,
}

impl Counts {
    fn new(expect: usize) -> Self {
        let seen = vec![0; expect.div_ceil(64)];
        Counts { seen, unique: 0, doubled: 0, outside: 0, lines: 0, unnumbered: 0, bytes: 0 }
    }

    fn mark(&mut self, sequence: u64, expect: u64) {
        if sequence >= expect {
            self.outside += 1;
            return;
        }
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.unique += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// One line. Only its first number counts: a receiver may write a field and the whole message.
    fn line(&mut self, line: &[u8], expect: u64) {
        self.lines += 1;
        let mut rest = line;
        while let Some(at) = find(rest, MARK) {
            let digits = &rest[at + MARK.len()..];
            if digits.len() >= DIGITS && digits[..DIGITS].iter().all(u8::is_ascii_digit) {
                let number = digits[..DIGITS].iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'));
                self.mark(number, expect);
                return;
            }
            rest = digits;
        }
        self.unnumbered += 1;
    }
}

/// Where `needle` starts in `hay`; libc's memmem is vectorised.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    // SAFETY: both pointers are valid for the lengths given.
    let at = unsafe { libc::memmem(hay.as_ptr().cast(), hay.len(), needle.as_ptr().cast(), needle.len()) };
    if at.is_null() { None } else { Some(at as usize - hay.as_ptr() as usize) }
}

fn newline(hay: &[u8]) -> Option<usize> {
    // SAFETY: the pointer is valid for the length given.
    let at = unsafe { libc::memchr(hay.as_ptr().cast(), i32::from(b'\n'), hay.len()) };
    if at.is_null() { None } else { Some(at as usize - hay.as_ptr() as usize) }
}

fn count(path: &str, counts: &mut Counts, expect: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0_u8; 4 << 20];
    let mut filled = 0;
    loop {
        let n = file.read(&mut buffer[filled..])?;
        counts.bytes += n as u64;
        filled += n;
        let mut start = 0;
        while let Some(end) = newline(&buffer[start..filled]) {
            counts.line(&buffer[start..start + end], expect);
            start += end + 1;
        }
        if n == 0 {
            if start < filled {
                counts.line(&buffer[start..filled], expect); // a last line without its newline
            }
            return Ok(());
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut expect, mut files) = (0_u64, vec![]);
    while let Some(argument) = arguments.next() {
        if argument == "--expect" {
            expect = arguments.next().and_then(|v| v.parse().ok()).unwrap_or(0);
        } else {
            files.push(argument);
        }
    }
    if expect == 0 || files.is_empty() {
        eprintln!("usage: seqcount --expect N FILE...");
        std::process::exit(2);
    }
    let mut counts = Counts::new(expect as usize);
    for file in &files {
        if let Err(error) = count(file, &mut counts, expect) {
            eprintln!("seqcount: {file}: {error}");
            std::process::exit(1);
        }
    }
    println!(
        "{{\"unique\":{},\"doubled\":{},\"missing\":{},\"outside\":{},\"lines\":{},\"unnumbered\":{},\"bytes\":{}}}",
        counts.unique,
        counts.doubled,
        expect - counts.unique,
        counts.outside,
        counts.lines,
        counts.unnumbered,
        counts.bytes
    );
}

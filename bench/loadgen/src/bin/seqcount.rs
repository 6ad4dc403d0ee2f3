//! The counting sink for files: which sequence numbers are in what a receiver wrote.
//!
//! `seqcount --expect N FILE...` reads the files, marks every `seq-DIGITS` in a bitmap and prints
//! one JSON line: unique, doubled, missing below N, out of range, lines, bytes, and lines without a number.

use std::fs::File;
use std::io::{self, Read};

use loadgen::counts::Counts;
use memchr::memchr;

fn count(path: &str, counts: &mut Counts) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0_u8; 4 << 20];
    let mut filled = 0;
    loop {
        let n = file.read(&mut buffer[filled..])?;
        filled += n;
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &buffer[start..filled]) {
            counts.record(&buffer[start..start + length]);
            start += length + 1;
        }
        if n == 0 {
            if start < filled {
                counts.record(&buffer[start..filled]); // a last line without its newline
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
    let mut counts = Counts::default();
    for file in &files {
        if let Err(error) = count(file, &mut counts) {
            eprintln!("seqcount: {file}: {error}");
            std::process::exit(1);
        }
    }
    println!("{}", counts.json(Some(expect)));
}

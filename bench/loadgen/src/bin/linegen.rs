//! Appends numbered Apache lines to files, and says exactly how many.
//!
//! `linegen --path access.log --count 1000000` prints `{"sent":..,"seconds":..,"bytes":..}`. With `--files N` they go in
//! turn to N files, `access.log.0` and so on, which stay open; with `--rate R` so many a second, one write a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loadgen::arguments::{Arguments, exit_on_error};
use loadgen::os::{pin, raise_file_limit, wait_until, write_digits};
use loadgen::{DIGITS, Format, Mode, pool};

const USAGE: &str = "usage: linegen --path PATH --count N [--files N] [--rate LINES_PER_SECOND|0=unpaced] [--first N] [--core N]";
const OPTIONS: &[&str] = &["path", "count", "files", "rate", "first", "core"];
/// Different lines.
const POOL: usize = 4096;
/// Bytes of one write without a rate, as a server that buffers its log.
const BLOCK: usize = 32 << 10;

fn main() {
    exit_on_error("linegen", run());
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(OPTIONS, USAGE)?;
    let path: String = arguments.required("path")?;
    let (count, files): (u64, usize) = (arguments.required("count")?, arguments.or("files", 1)?);
    let (rate, first) = (arguments.or("rate", 0)?, arguments.or("first", 0)?);
    if files == 0 {
        return Err(USAGE.to_owned());
    }
    if let Some(core) = arguments.get("core")? {
        pin(core).map_err(|e| e.to_string())?;
    }
    raise_file_limit();
    let mut open = open(&path, files).map_err(|e| format!("{path}: {e}"))?;
    write(&mut open, count, rate, first).map_err(|e| e.to_string())
}

fn open(path: &str, files: usize) -> io::Result<Vec<File>> {
    let name = |i: usize| if files == 1 { path.to_owned() } else { format!("{path}.{i}") };
    (0..files).map(|i| OpenOptions::new().append(true).create(true).open(name(i))).collect()
}

fn write(files: &mut [File], count: u64, rate: u64, first: u64) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let mut lines = pool(Mode::Apache, Format::Plain, POOL, 1, 1, now);
    for line in &mut lines {
        line.bytes.push(b'\n');
    }
    let (mut block, mut bytes, mut turn) = (Vec::with_capacity(BLOCK + 1024), 0, 0);
    let start = Instant::now();
    for number in 0..count {
        let line = &mut lines[number as usize % POOL];
        write_digits(&mut line.bytes[line.sequence_at..line.sequence_at + DIGITS], first + number);
        block.extend_from_slice(&line.bytes);
        if rate > 0 {
            let due = u128::from(number) * 1_000_000_000 / u128::from(rate);
            wait_until(start, Duration::from_nanos(due as u64));
        } else if block.len() < BLOCK && number + 1 < count {
            continue;
        }
        files[turn % files.len()].write_all(&block)?;
        bytes += block.len();
        block.clear();
        turn += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{{\"sent\":{count},\"seconds\":{seconds:.6},\"bytes\":{bytes}}}");
    Ok(())
}

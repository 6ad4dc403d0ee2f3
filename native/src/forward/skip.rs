//! Finds where MessagePack values end, however they are cut into segments, looking at each byte once.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use crate::msgpack::{MAX_DEPTH, Malformed, SIZES};

/// How far a walk has come: it goes on with the next segment where it stopped.
#[derive(Debug)]
pub struct Skipper {
    /// Bytes of a string that are still to come.
    owed: usize,
    /// Values that are still to come in the array or map at hand.
    left: u64,
    /// The same for the arrays and maps around it.
    outer: Vec<u64>,
}

impl Skipper {
    /// Before `values` values, behind `owed` bytes that are not looked at.
    #[must_use]
    pub fn new(values: u64, owed: usize) -> Self {
        Skipper { owed, left: values, outer: Vec::new() }
    }

    /// Walks from `pos` on. True: all values are over, and `pos` is behind them. False: more bytes are needed,
    /// and `pos` is where the next call must go on (at most a head of a value is left over).
    ///
    /// # Errors
    /// [`Malformed`]: 0xc1, or too deep nesting.
    pub fn run(&mut self, data: &[u8], pos: &mut usize) -> Result<bool, Malformed> {
        let eaten = self.owed.min(data.len() - *pos);
        *pos += eaten;
        self.owed -= eaten;
        if self.owed > 0 {
            return Ok(false);
        }
        loop {
            while self.left == 0 {
                match self.outer.pop() {
                    Some(left) => self.left = left,
                    None => return Ok(true),
                }
            }
            let Some(&first) = data.get(*pos) else { return Ok(false) };
            let size = usize::from(SIZES[usize::from(first)]);
            if size != 0 {
                if data.len() - *pos < size {
                    return Ok(false);
                }
                *pos += size;
                self.left -= 1;
                continue;
            }
            let (head, count) = match first {
                0x80..=0x8f => (1, u64::from(first & 0x0f) * 2),
                0x90..=0x9f => (1, u64::from(first & 0x0f)),
                0xdc..=0xdf => {
                    let width = if first & 1 == 0 { 2 } else { 4 };
                    let Some(count) = number(data, *pos + 1, width) else { return Ok(false) };
                    (1 + width, if first >= 0xde { count * 2 } else { count })
                }
                0xc1 => return Err(Malformed::Reserved),
                _ => {
                    // str, bin and ext with a length before them; ext has a type too
                    let (width, more) = match first {
                        0xc4..=0xc6 => (1 << (first - 0xc4), 0),
                        0xc7..=0xc9 => (1 << (first - 0xc7), 1),
                        _ => (1 << (first - 0xd9), 0),
                    };
                    let Some(len) = number(data, *pos + 1, width) else { return Ok(false) };
                    let len = len as usize + more;
                    *pos += 1 + width;
                    self.left -= 1;
                    let there = len.min(data.len() - *pos);
                    *pos += there;
                    self.owed = len - there;
                    if self.owed > 0 {
                        return Ok(false);
                    }
                    continue;
                }
            };
            *pos += head;
            self.left -= 1;
            if count > 0 {
                if self.outer.len() >= MAX_DEPTH as usize {
                    return Err(Malformed::TooDeep);
                }
                self.outer.push(self.left);
                self.left = count;
            }
        }
    }
}

/// A big-endian number of `width` bytes; None where they are not there yet.
fn number(data: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = data.get(at..at + width)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The same for JSON: where an array or object ends that starts at the beginning.
#[derive(Debug, Default)]
pub struct JsonSkipper {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonSkipper {
    /// As [`Skipper::run`]. At the start `pos` is at a bracket.
    pub fn run(&mut self, data: &[u8], pos: &mut usize) -> bool {
        while let Some(&byte) = data.get(*pos) {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' {
                    self.escaped = true;
                } else if byte == b'"' {
                    self.in_string = false;
                } else if let Some(far) = memchr::memchr2(b'"', b'\\', &data[*pos..]) {
                    *pos += far;
                    continue;
                } else {
                    *pos = data.len();
                    return false;
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => self.depth += 1,
                    b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            *pos += 1;
            if self.depth == 0 && !self.in_string {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    fn ends(data: &[u8], step: usize) -> Result<Option<usize>, Malformed> {
        let mut skipper = Skipper::new(1, 0);
        let (mut pos, mut there) = (0, 0);
        while there < data.len() {
            there = (there + step).min(data.len());
            if skipper.run(&data[..there], &mut pos)? {
                return Ok(Some(pos));
            }
        }
        Ok(None)
    }

    #[test]
    fn agrees_with_skip_value_wherever_it_is_cut() {
        for first in 0..=255u8 {
            let mut data = vec![first, 0, 0, 0, 2];
            data.extend([1; 40]);
            let mut pos = 0;
            let whole = msgpack::skip_value(&data, &mut pos).map(|()| pos);
            for step in [1, 2, 3, 7, 100] {
                let found = ends(&data, step);
                match whole {
                    Ok(pos) => assert_eq!(found, Ok(Some(pos)), "{first:#x} in steps of {step}"),
                    Err(Malformed::Truncated) => assert_eq!(found, Ok(None), "{first:#x}"),
                    Err(why) => assert_eq!(found, Err(why), "{first:#x}"),
                }
            }
        }
    }

    #[test]
    fn a_long_string_is_walked_once() {
        let mut data = Vec::new();
        msgpack::write_array_header(&mut data, 2);
        msgpack::write_str(&mut data, &[b'x'; 70_000]);
        msgpack::write_bin(&mut data, &[0; 300]);
        for step in [1, 1000, 70_000] {
            assert_eq!(ends(&data, step), Ok(Some(data.len())));
        }
        assert_eq!(ends(&vec![0x91; 100_000], 1000), Err(Malformed::TooDeep));
    }

    #[test]
    fn json_ends_at_the_last_bracket() {
        let text = br#"["a]\"\\",{"k":[1,"}"]}] "#;
        for step in [1, 3, 100] {
            let mut skipper = JsonSkipper::default();
            let (mut pos, mut there, mut done) = (0, 0, false);
            while !done && there < text.len() {
                there = (there + step).min(text.len());
                done = skipper.run(&text[..there], &mut pos);
            }
            assert!(done);
            assert_eq!(pos, text.len() - 1);
        }
    }
}

//! Which sequence numbers came out: a bitmap, so that loss and doubles are exact.

use memchr::memmem::Finder;

use crate::{DIGITS, MARK};

/// Numbers at and above this are not ours: the bitmap would be larger than a gigabyte.
const HIGHEST: u64 = 1 << 33;

/// What was found so far.
pub struct Counts {
    finder: Finder<'static>,
    seen: Vec<u64>,
    /// Different numbers.
    pub unique: u64,
    /// Numbers that came once more.
    pub doubled: u64,
    /// Numbers that nobody can have sent.
    pub absurd: u64,
    /// Lines, documents or events.
    pub records: u64,
    /// Of these without a number.
    pub unnumbered: u64,
    /// Bytes of all that.
    pub bytes: u64,
}

impl Default for Counts {
    fn default() -> Self {
        let (seen, finder) = (vec![], Finder::new(MARK));
        Counts { finder, seen, unique: 0, doubled: 0, absurd: 0, records: 0, unnumbered: 0, bytes: 0 }
    }
}

impl Counts {
    /// One number.
    #[inline]
    pub fn mark(&mut self, sequence: u64) {
        if sequence >= HIGHEST {
            self.absurd += 1;
            return;
        }
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.unique += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// One record. Only its first number counts: a receiver may write a field and the whole message.
    pub fn record(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes += record.len() as u64;
        let first = self.finder.find_iter(record).find_map(|at| number(&record[at + MARK.len()..]));
        match first {
            Some(number) => self.mark(number),
            None => self.unnumbered += 1,
        }
    }

    /// Records that stand side by side, each with exactly one number: each number is a record.
    pub fn records_by_number(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        let finder = self.finder.clone();
        for number in finder.find_iter(data).filter_map(|at| number(&data[at + MARK.len()..])) {
            self.records += 1;
            self.mark(number);
        }
    }

    /// JSON; with `expect`, also how many numbers below it are missing and how many are not below it.
    #[must_use]
    pub fn json(&self, expect: Option<u64>) -> String {
        let mut text = format!(
            "{{\"unique\":{},\"doubled\":{},\"records\":{},\"unnumbered\":{},\"bytes\":{}",
            self.unique, self.doubled, self.records, self.unnumbered, self.bytes
        );
        if let Some(expect) = expect {
            let below = self.below(expect);
            text.push_str(&format!(
                ",\"missing\":{},\"outside\":{}",
                expect - below,
                self.unique - below + self.absurd
            ));
        }
        text.push('}');
        text
    }

    /// How many different numbers below `limit` were seen.
    fn below(&self, limit: u64) -> u64 {
        let whole = (limit / 64) as usize;
        let mut count: u64 = self.seen.iter().take(whole).map(|word| u64::from(word.count_ones())).sum();
        if let Some(word) = self.seen.get(whole) {
            count += u64::from((word & ((1 << (limit % 64)) - 1)).count_ones());
        }
        count
    }
}

/// The number at the start of `digits`.
#[inline]
fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.get(..DIGITS)?;
    let mut number = 0;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number = number * 10 + u64::from(value);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_doubles_are_exact() {
        let mut counts = Counts::default();
        for number in (0..1000).filter(|n| n % 100 != 7) {
            counts.record(format!("{{\"message\":\"seq-{number:010} text\"}}").as_bytes());
        }
        counts.record(b"seq-0000000003 again");
        counts.record(b"seq-0000001000 beyond");
        counts.record(b"seq-00000 cut");
        assert_eq!(
            counts.json(Some(1000)),
            "{\"unique\":991,\"doubled\":1,\"records\":993,\"unnumbered\":1,\"bytes\":32724,\"missing\":10,\"outside\":1}"
        );
    }

    #[test]
    fn numbers_side_by_side() {
        for widths in [vec![0; 50], (0..50).collect::<Vec<usize>>(), vec![3, 3, 3, 9, 3, 3, 3, 3]] {
            let mut data = vec![];
            for (number, width) in widths.iter().enumerate() {
                data.extend_from_slice(format!("ab seq-{number:010} c{}", "x".repeat(*width)).as_bytes());
            }
            let mut counts = Counts::default();
            counts.records_by_number(&data);
            assert_eq!((counts.unique, counts.doubled), (widths.len() as u64, 0));
            counts.records_by_number(&data);
            assert_eq!((counts.unique, counts.doubled), (widths.len() as u64, widths.len() as u64));
        }
    }

    #[test]
    fn a_cut_number_is_none() {
        let mut counts = Counts::default();
        counts.records_by_number(b"seq-0000000001 seq-000000 seq-0000000002 seq-00000000");
        assert_eq!((counts.unique, counts.records), (2, 2));
    }
}

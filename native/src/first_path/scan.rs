//! Where a run of a class ends, by blocks of bytes where the processor has them.

/// A set of bytes; it has all from 0x80 on or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// All but one byte.
    Not(u8),
    /// At most two ranges, or all but these.
    Ranges(Ranges),
    /// Every byte.
    Any,
    /// By byte.
    Table(Box<[bool; 256]>),
}

/// The bytes `low..=low + width` of two ranges; with `negated` all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ranges {
    low: [u8; 2],
    width: [u8; 2],
    negated: bool,
}

impl Ranges {
    /// None: it takes more than two.
    fn of(set: &[bool; 256], negated: bool) -> Option<Self> {
        let mut found: Vec<(u8, u8)> = Vec::new();
        for byte in (0..=255_u8).filter(|byte| set[usize::from(*byte)] != negated) {
            match found.last_mut() {
                Some((low, width)) if u16::from(*low) + u16::from(*width) + 1 == u16::from(byte) => {
                    *width += 1
                }
                _ => found.push((byte, 0)),
            }
        }
        let first = *found.first()?;
        let second = *found.get(1).unwrap_or(&first);
        (found.len() <= 2).then_some(Ranges { low: [first.0, second.0], width: [first.1, second.1], negated })
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        let inside = |range: usize| byte.wrapping_sub(self.low[range]) <= self.width[range];
        (inside(0) || inside(1)) != self.negated
    }
}

impl Class {
    /// The fastest form of a set.
    pub(super) fn of(set: &[bool; 256]) -> Self {
        let mut missing = (0..=255_u8).filter(|byte| !set[usize::from(*byte)]);
        match (missing.next(), missing.next()) {
            (None, _) => return Class::Any,
            (Some(one), None) => return Class::Not(one),
            _ => {}
        }
        Ranges::of(set, true)
            .or_else(|| Ranges::of(set, false))
            .map_or_else(|| Class::Table(Box::new(*set)), Class::Ranges)
    }

    /// The first position from `pos` on whose byte is not in the class, or the text's length.
    #[inline(always)]
    pub(super) fn end<B: Blocks>(&self, text: &[u8], pos: usize) -> usize {
        match self {
            Class::Not(one) => B::find(*one, text, pos),
            Class::Ranges(ranges) => B::end(ranges, text, pos),
            Class::Any => text.len(),
            Class::Table(set) => bytewise(text, pos, |byte| set[usize::from(byte)]),
        }
    }
}

#[inline]
fn bytewise(text: &[u8], pos: usize, has: impl Fn(u8) -> bool) -> usize {
    let run = text[pos..].iter().take_while(|byte| has(**byte)).count();
    pos + run
}

/// How the end is looked for.
pub(super) trait Blocks {
    /// As [`Class::end`].
    fn end(ranges: &Ranges, text: &[u8], pos: usize) -> usize;

    /// As [`Class::end`], of all bytes but this.
    fn find(byte: u8, text: &[u8], pos: usize) -> usize;
}

/// Byte by byte.
pub(super) struct Bytes;

impl Blocks for Bytes {
    #[inline]
    fn end(ranges: &Ranges, text: &[u8], pos: usize) -> usize {
        bytewise(text, pos, |byte| ranges.has(byte))
    }

    #[inline]
    fn find(byte: u8, text: &[u8], pos: usize) -> usize {
        memchr::memchr(byte, &text[pos..]).map_or(text.len(), |at| pos + at)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::{Blocks, Bytes, Ranges};

    /// Bytes of one block.
    const BLOCK: usize = 32;

    /// 32 bytes at a time. Only for code that runs where AVX2 is.
    pub(in crate::first_path) struct Avx2;

    impl Blocks for Avx2 {
        #[inline(always)]
        fn end(ranges: &Ranges, text: &[u8], pos: usize) -> usize {
            if text.len() < BLOCK {
                return Bytes::end(ranges, text, pos);
            }
            // SAFETY: `blocks` gives pointers with 32 bytes behind them; whoever names this type has AVX2.
            blocks(text, pos, |block| unsafe { outside(ranges, block) })
        }

        #[inline(always)]
        fn find(byte: u8, text: &[u8], pos: usize) -> usize {
            if text.len() < BLOCK {
                return Bytes::find(byte, text, pos);
            }
            // SAFETY: as above
            blocks(text, pos, |block| unsafe { equal(byte, block) })
        }
    }

    /// The first position from `pos` on that `stops` has a bit for, in 32 bytes from a pointer on. The text is not
    /// shorter than that.
    #[inline(always)]
    fn blocks(text: &[u8], mut pos: usize, stops: impl Fn(*const u8) -> u32) -> usize {
        let len = text.len();
        while pos + BLOCK <= len {
            let found = stops(text[pos..].as_ptr());
            if found != 0 {
                return pos + found.trailing_zeros() as usize;
            }
            pos += BLOCK;
        }
        if pos == len {
            return len;
        }
        // the last block overlaps what was looked at already
        let last = len - BLOCK;
        let found = stops(text[last..].as_ptr()) >> (pos - last);
        if found == 0 { len } else { pos + found.trailing_zeros() as usize }
    }

    /// The bit of each of 32 bytes that is this one.
    ///
    /// # Safety
    /// 32 bytes can be read at `block`, and the processor has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn equal(byte: u8, block: *const u8) -> u32 {
        // SAFETY: the caller's
        let block = unsafe { _mm256_loadu_si256(block.cast()) };
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(block, _mm256_set1_epi8(byte.cast_signed()))).cast_unsigned()
    }

    /// The bit of each of 32 bytes that is not in the class.
    ///
    /// # Safety
    /// 32 bytes can be read at `block`, and the processor has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn outside(ranges: &Ranges, block: *const u8) -> u32 {
        // SAFETY: the caller's
        let block = unsafe { _mm256_loadu_si256(block.cast()) };
        let inside = |range: usize| {
            // x - low <= width, without signs
            let above = _mm256_sub_epi8(block, _mm256_set1_epi8(ranges.low[range].cast_signed()));
            _mm256_cmpeq_epi8(
                _mm256_min_epu8(above, _mm256_set1_epi8(ranges.width[range].cast_signed())),
                above,
            )
        };
        let found = _mm256_movemask_epi8(_mm256_or_si256(inside(0), inside(1))).cast_unsigned();
        if ranges.negated { found } else { !found }
    }
}

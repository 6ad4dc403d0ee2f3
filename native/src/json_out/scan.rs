//! Copying a block while looking for what must be escaped.

#[cfg(not(target_arch = "x86_64"))]
pub use portable::{WIDTH, copy_ascii, copy_text};

#[cfg(target_arch = "x86_64")]
pub use x86::{WIDTH, copy_ascii, copy_text};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8,
        _mm_or_si128, _mm_set1_epi8, _mm_storeu_si128,
    };

    /// Bytes per block.
    pub const WIDTH: usize = 16;

    /// Copies a block from `from` to `to`; gives the number of bytes before the first that is `"`, `\`,
    /// a control character, or no ASCII.
    ///
    /// # Safety
    /// WIDTH bytes can be read at `from` and written at `to`.
    #[inline(always)]
    pub unsafe fn copy_ascii(from: *const u8, to: *mut u8) -> usize {
        // SAFETY: the caller's promise; SSE2 is part of x86-64.
        unsafe {
            let block = _mm_loadu_si128(from.cast());
            _mm_storeu_si128(to.cast(), block);
            // signed: bytes from 0x80 on are negative, so they count as below 0x20 too
            first(block, _mm_cmplt_epi8(block, _mm_set1_epi8(0x20)))
        }
    }

    /// As `copy_ascii`, and bytes from 0x80 on pass.
    ///
    /// # Safety
    /// As `copy_ascii`.
    #[inline(always)]
    pub unsafe fn copy_text(from: *const u8, to: *mut u8) -> usize {
        // SAFETY: as in `copy_ascii`.
        unsafe {
            let block = _mm_loadu_si128(from.cast());
            _mm_storeu_si128(to.cast(), block);
            first(block, _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block))
        }
    }

    #[inline(always)]
    fn first(block: __m128i, control: __m128i) -> usize {
        // SAFETY: SSE2 is part of x86-64.
        let mask = unsafe {
            let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
            let slash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, slash)))
        };
        // bit 16 is the answer where no byte stands out
        (mask | 1 << 16).trailing_zeros() as usize
    }
}

/// The same with plain 64-bit arithmetic, for other processors (and tested on all).
#[cfg(any(test, not(target_arch = "x86_64")))]
pub mod portable {
    /// Bytes per block.
    pub const WIDTH: usize = 8;

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    /// Marks (bit 7) the bytes of `block` that are `byte`, exact up to the first one marked.
    fn equal(block: u64, byte: u8) -> u64 {
        let zero_where_equal = block ^ (ONES * u64::from(byte));
        zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGH
    }

    /// # Safety
    /// WIDTH bytes can be read at `from` and written at `to`.
    unsafe fn copy(from: *const u8, to: *mut u8) -> (u64, u64) {
        // SAFETY: the caller's promise.
        let block = unsafe {
            let raw: [u8; WIDTH] = from.cast::<[u8; WIDTH]>().read();
            to.cast::<[u8; WIDTH]>().write(raw);
            u64::from_le_bytes(raw)
        };
        let control = block.wrapping_sub(ONES * 0x20) & !block & HIGH;
        (block, control | equal(block, b'"') | equal(block, b'\\'))
    }

    /// See the SSE2 version.
    ///
    /// # Safety
    /// WIDTH bytes can be read at `from` and written at `to`.
    pub unsafe fn copy_ascii(from: *const u8, to: *mut u8) -> usize {
        // SAFETY: the caller's promise.
        let (block, mask) = unsafe { copy(from, to) };
        ((mask | block & HIGH).trailing_zeros() / 8) as usize
    }

    /// See the SSE2 version.
    ///
    /// # Safety
    /// As `copy_ascii`.
    pub unsafe fn copy_text(from: *const u8, to: *mut u8) -> usize {
        // SAFETY: the caller's promise.
        let (_, mask) = unsafe { copy(from, to) };
        (mask.trailing_zeros() / 8) as usize
    }
}

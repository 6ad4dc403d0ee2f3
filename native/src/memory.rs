//! How the C library's allocator treats the blocks that batches live in.

use pyo3::prelude::*;

/// Freed memory at the end of the heap that is kept for the next batches.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 64 << 20;
/// Blocks below this come from the heap, not from the kernel one by one. The largest value that glibc takes.
#[cfg(target_env = "gnu")]
const FROM_HEAP: libc::c_int = 32 << 20;

/// `keep_memory()`: reuses the memory of past batches. By default glibc gives blocks of some hundred KiB
/// back to the kernel at once, and each new one costs a page fault per 4 KiB; one arena keeps the threads of
/// one pipeline in the same memory. What exceeds 64 MiB after a peak is still given back.
#[pyfunction]
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_HEAP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

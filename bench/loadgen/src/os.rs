//! System calls that the programs share.

use std::io::{self, Error};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::DIGITS;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGTERM and SIGINT only set what [`stopped`] tells; waiting system calls end with EINTR.
pub fn catch_stop() {
    // SAFETY: the handler does nothing but store to an atomic; the struct is zeroed and then filled.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut());
        libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut());
    }
}

/// Whether the process was asked to stop.
#[must_use]
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// The value of a system call, or its error.
///
/// # Errors
/// The system's.
pub fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

/// Pins this thread, and those that it will start, to a core.
///
/// # Errors
/// There is no such core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET bounds-checks; the size is the set's own.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    check(failed).map(|_| ())
}

/// As many open files as the system lets us have.
pub fn raise_file_limit() {
    // SAFETY: getrlimit fills the struct; setrlimit reads it.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Returns when `due` has passed since `start`. Sleeps while it is far, then spins: the pace must be even, or bursts
/// measure buffers, not receivers.
pub fn wait_until(start: Instant, due: Duration) {
    loop {
        let now = start.elapsed();
        if now >= due {
            return;
        }
        let left = due - now;
        if left > Duration::from_micros(300) {
            std::thread::sleep(left - Duration::from_micros(200));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Writes `n` as decimal digits that fill `at`.
#[inline]
pub fn write_digits(at: &mut [u8], mut n: u64) {
    debug_assert_eq!(at.len(), DIGITS);
    for digit in at.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

//! How many of a socket's drops are in somebody's books: the kernel's counter belongs to the socket and never goes
//! back, so processes that share the socket, at once or one after the other, share this number too.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sockaddr;

const PAGE: usize = 4096;

/// A number in memory that is shared through a file descriptor (`memfd_create`), or this process's own.
pub enum Booked {
    /// Nobody shares the socket.
    Own(AtomicU32),
    /// The beginning of a mapped page.
    Shared(NonNull<AtomicU32>),
}

// SAFETY: the number is atomic, and its memory is mapped as long as this value lives.
unsafe impl Send for Booked {}
// SAFETY: as above.
unsafe impl Sync for Booked {}

impl Booked {
    /// Maps the number in the file `fd`, which has at least four bytes; None: nobody shares it.
    ///
    /// # Errors
    /// The system's.
    pub fn new(fd: Option<RawFd>) -> io::Result<Self> {
        let Some(fd) = fd else { return Ok(Booked::Own(AtomicU32::new(0))) };
        let file = sockaddr::duplicate(fd)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, no pointers in.
        let page =
            unsafe { libc::mmap(std::ptr::null_mut(), PAGE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(page.cast()).map(Booked::Shared).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    fn number(&self) -> &AtomicU32 {
        match self {
            Booked::Own(number) => number,
            // SAFETY: the page is mapped until `drop`, aligned, and only used as this atomic number.
            Booked::Shared(page) => unsafe { page.as_ref() },
        }
    }

    /// What is to be booked now that the kernel's counter says `total`; it is booked then.
    pub fn take(&self, total: u32) -> u32 {
        let number = self.number();
        let mut seen = number.load(Ordering::Acquire);
        loop {
            let news = total.wrapping_sub(seen);
            if news == 0 || news > u32::MAX / 2 {
                return 0; // another process has booked a later total
            }
            match number.compare_exchange_weak(seen, total, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return news,
                Err(now) => seen = now,
            }
        }
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        if let Booked::Shared(page) = self {
            // SAFETY: mapped by `new` with this length; nobody uses it any more.
            unsafe { libc::munmap(page.as_ptr().cast(), PAGE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn every_drop_is_booked_once() {
        let booked = Booked::new(None).unwrap();
        for (total, news) in [(0, 0), (5, 5), (3, 0), (5, 0), (9, 4)] {
            assert_eq!(booked.take(total), news, "{total}");
        }
        let wrapped = Booked::Own(AtomicU32::new(u32::MAX - 1));
        assert_eq!(wrapped.take(3), 5);
    }

    #[test]
    fn those_who_share_a_file_share_the_number() {
        let path = std::env::temp_dir().join(format!("forwarder-drops-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(PAGE as u64).unwrap();
        let (one, two) =
            (Booked::new(Some(file.as_raw_fd())).unwrap(), Booked::new(Some(file.as_raw_fd())).unwrap());
        assert_eq!((one.take(7), two.take(7), two.take(8), one.take(8)), (7, 0, 1, 0));
        std::fs::remove_file(path).unwrap();
    }
}

//! Socket addresses: how a peer's address is written, its host name, and allow-lists.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Host names kept at most.
const NAMES: usize = 4096;
/// How long a host name is believed.
const NAME_AGE: Duration = Duration::from_secs(300);

/// The C form of an address and its length.
#[must_use]
pub fn to_raw(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain data for which all zeroes are valid.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every address family.
            unsafe { std::ptr::write((&raw mut storage).cast(), raw) };
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { std::ptr::write((&raw mut storage).cast(), raw) };
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

/// An address as the kernel wrote it; None for another family.
#[must_use]
pub fn from_raw(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in.
            let raw = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let raw = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Which address a socket is bound to; None for another family, such as a Unix-domain socket.
///
/// # Errors
/// The system's.
pub fn local_address(fd: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    // SAFETY: plain data, see `to_raw`.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the storage is valid for `len` bytes.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &raw mut len) })?;
    Ok(from_raw(&storage))
}

/// A descriptor of our own for an open file.
///
/// # Errors
/// The system's.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A system call's result: an error for -1.
///
/// # Errors
/// `errno`.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets an integer socket option.
///
/// # Errors
/// The system's.
pub fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is valid for `len` bytes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

/// Reads an integer socket option.
///
/// # Errors
/// The system's.
pub fn get_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is valid for `len` bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

/// An eventfd: wakes a thread that waits in `poll`.
pub struct Wake {
    fd: OwnedFd,
}

impl Wake {
    /// Not woken yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Wake { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes the descriptor readable, until [`Wake::calm`].
    pub fn wake(&self) {
        let one: u64 = 1;
        // SAFETY: eight bytes as eventfd wants. It fails only when the counter is full: awake already.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Undoes a wake.
    pub fn calm(&self) {
        let mut count: u64 = 0;
        // SAFETY: room for the eight bytes that eventfd gives. It fails only where nobody has woken.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    /// The descriptor, to poll.
    #[must_use]
    pub fn raw(&self) -> libc::c_int {
        self.fd.as_raw_fd()
    }

    /// Sleeps; a wake ends it early.
    pub fn sleep(&self, time: Duration) {
        let mut poll = libc::pollfd { fd: self.raw(), events: libc::POLLIN, revents: 0 };
        let limit = timespec(time);
        // SAFETY: one pollfd, a valid timespec, no signal mask.
        unsafe { libc::ppoll(&raw mut poll, 1, &raw const limit, std::ptr::null()) };
    }
}

/// The C form of a duration.
#[must_use]
pub fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs().min(86_400) as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    }
}

/// Nanoseconds since the epoch.
#[must_use]
pub fn now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

/// Host names by address, asked of the resolver once in five minutes; bounded.
#[derive(Default)]
pub struct HostNames {
    known: HashMap<IpAddr, (Box<str>, Instant)>,
}

impl HostNames {
    /// The name of `ip`, or the address as text where it has none. Blocks while the resolver works.
    pub fn get(&mut self, ip: IpAddr) -> &str {
        let now = Instant::now();
        let fresh = self.known.get(&ip).is_some_and(|(_, since)| now.duration_since(*since) < NAME_AGE);
        if !fresh {
            if self.known.len() >= NAMES {
                self.known.clear();
            }
            self.known.insert(ip, (look_up(ip).into(), Instant::now()));
        }
        self.known.get(&ip).map_or("", |(name, _)| name)
    }
}

fn look_up(ip: IpAddr) -> String {
    let (raw, len) = to_raw(&SocketAddr::new(ip, 0));
    let mut name = [0 as libc::c_char; 1025];
    // SAFETY: address and buffer are valid for the lengths given; the result is NUL-terminated.
    let outcome = unsafe {
        libc::getnameinfo(
            (&raw const raw).cast(),
            len,
            name.as_mut_ptr(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            0,
        )
    };
    if outcome != 0 {
        return ip.to_string();
    }
    // SAFETY: getnameinfo succeeded, so the buffer holds a C string.
    unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
}

/// A network in CIDR form; a single host is one with all its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    prefix: u32,
    v4: bool,
}

fn bits_of(ip: IpAddr) -> (u128, bool) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

impl Network {
    /// From "10.0.0.0/8", "10.0.0.0/255.0.0.0", "::1/128" or a plain address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
        let (bits, v4) = bits_of(address.parse().ok()?);
        let width = if v4 { 32 } else { 128 };
        let prefix = match mask {
            None => width,
            Some(mask) => match mask.parse::<u32>() {
                Ok(prefix) => prefix,
                Err(_) => {
                    let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
                    if !v4 || mask.leading_ones() + mask.trailing_zeros() != 32 {
                        return None;
                    }
                    mask.leading_ones()
                }
            },
        };
        (prefix <= width).then(|| Network { bits: bits & Self::mask(prefix), prefix, v4 })
    }

    fn mask(prefix: u32) -> u128 {
        if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) }
    }

    /// Whether `ip` is in it; an IPv4 address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (bits, v4) = bits_of(ip);
        v4 == self.v4 && bits & Self::mask(self.prefix) == self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (network, ip, inside) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/255.255.0.0", "10.1.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("fe80::/10", "fe80::1", true),
            ("::1", "::2", false),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.contains(ip.parse().unwrap()), inside, "{network} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "host", "::1/129", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_survive_the_c_form() {
        for text in ["127.0.0.1:514", "[::1]:65535", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_raw(&to_raw(&address).0), Some(address));
        }
    }

    #[test]
    fn host_names_fall_back_to_the_address() {
        let mut names = HostNames::default();
        // 192.0.2.0/24 is reserved for documentation (RFC 5737): never a name
        let name = names.get("192.0.2.1".parse().unwrap()).to_owned();
        assert!(!name.is_empty());
        assert_eq!(names.get("192.0.2.1".parse().unwrap()), name);
    }
}

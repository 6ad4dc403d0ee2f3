//! One file that is followed: where reading stands, and reading on.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::decode::Decoder;
use super::fill::{Filling, Origin};
use super::join::{Held, Joining};
use super::lines::{Line, Rules, Splitter};
use super::watch::Id;
use crate::sockaddr::check;

/// Bytes of one read.
pub const BLOCK: usize = 64 << 10;
/// Descriptors that are left to others, at most a quarter of what there may be.
const RESERVED: u64 = 1024;
/// So many bytes at its start tell a file from another one.
const HEAD: usize = 64;

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// A file, rather than a folder, pipe or device.
    pub regular: bool,
    /// A folder.
    pub folder: bool,
    /// When its content last changed, seconds since the epoch.
    pub changed: i64,
}

impl Status {
    fn of(state: &libc::stat) -> Self {
        Status {
            inode: state.st_ino,
            size: u64::try_from(state.st_size).unwrap_or(0),
            regular: state.st_mode & libc::S_IFMT == libc::S_IFREG,
            folder: state.st_mode & libc::S_IFMT == libc::S_IFDIR,
            changed: state.st_mtime,
        }
    }

    /// Of what has this path now.
    ///
    /// # Errors
    /// The system's.
    pub fn at(path: &CString) -> io::Result<Self> {
        let mut state = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: a C string and room for the answer.
        check(unsafe { libc::stat(path.as_ptr(), state.as_mut_ptr()) })?;
        // SAFETY: it was filled in.
        Ok(Self::of(unsafe { state.assume_init_ref() }))
    }

    /// Of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of_open(fd: &OwnedFd) -> io::Result<Self> {
        let mut state = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: room for the answer.
        check(unsafe { libc::fstat(fd.as_raw_fd(), state.as_mut_ptr()) })?;
        // SAFETY: it was filled in.
        Ok(Self::of(unsafe { state.assume_init_ref() }))
    }
}

/// Opens for reading, without waiting for whatever it might be.
///
/// # Errors
/// The system's.
pub fn open(path: &CString) -> io::Result<OwnedFd> {
    open_with(path, 0)
}

/// Opens what has the path itself, where that is no link.
///
/// # Errors
/// The system's.
pub fn open_plain(path: &CString) -> io::Result<OwnedFd> {
    open_with(path, libc::O_NOFOLLOW)
}

fn open_with(path: &CString, more: libc::c_int) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | more;
    // SAFETY: a C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether so many descriptors are in use that files must not keep theirs: outputs, buffers and servers need some.
/// The system gives the lowest number that is free.
#[must_use]
pub fn is_scarce(fd: &OwnedFd) -> bool {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    let limit = *LIMIT.get_or_init(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: room for the answer.
        let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
        let most = if known { limit.rlim_cur } else { 1024 };
        most - (most / 4).min(RESERVED)
    });
    u64::try_from(fd.as_raw_fd()).is_ok_and(|number| number >= limit)
}

fn read_at(fd: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is valid for its length.
        let got = unsafe {
            libc::pread(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::off_t::try_from(offset).unwrap_or(libc::off_t::MAX),
            )
        };
        if let Ok(got) = usize::try_from(got) {
            return Ok(got);
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

/// What holds for all files of an input.
pub struct Limits {
    /// How files are cut into lines.
    pub lines: Rules,
    /// Lines of one turn, after which others have theirs.
    pub lines_per_turn: usize,
    /// Bytes of one file within a second.
    pub bytes_per_second: Option<u64>,
    /// From which encoding to which.
    pub decoder: Option<Decoder>,
    /// Files are closed after each turn.
    pub open_on_every_update: bool,
}

/// Files whose lines are limited together: each may have its share of `limit` within `period`.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Lines of all its files; negative: no limit.
    pub limit: i64,
    /// For so long.
    pub period: Duration,
    /// How many files it has.
    pub files: u64,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// All is read.
    End,
    /// There is more.
    More,
    /// There may be more, but a limit was reached; None: nothing is ever read.
    Throttled(Option<Instant>),
}

/// A file that is followed.
pub struct File {
    /// Its path, by which it is looked for.
    pub path: CString,
    /// Its inode.
    pub inode: u64,
    /// Tag and path of its events.
    pub origin: Origin,
    /// Open, unless it need not or cannot be.
    pub fd: Option<OwnedFd>,
    /// What is read next.
    position: u64,
    /// Largest size seen.
    size: u64,
    head: [u8; HEAD],
    head_len: usize,
    splitter: Splitter,
    held: Held,
    /// All was read at the last look.
    pub at_end: bool,
    /// Whether it must start anew.
    pub truncated: bool,
    /// Of its group and their number of lines since the group's period began.
    pub group: Option<usize>,
    period: (Option<Instant>, u64),
    second: (Option<Instant>, u64),

    /// Whether it is known from where on it is read.
    pub begun: bool,
    /// Waits in the queue.
    pub queued: bool,
    /// Not before this time, because a limit was reached.
    pub paused: Option<Instant>,
    /// It is known when held texts are given up.
    pub flush_planned: bool,
    /// Number of its inotify watch.
    pub watch: Option<i32>,
    /// No longer looked for by its path.
    pub detached: bool,
    /// Nothing has had its path since then.
    pub missing: Option<Instant>,
    /// The inode that was reported as having taken its path.
    pub reported: Option<u64>,
    /// Closed as soon as all is read and this time is over.
    pub retire: Option<Instant>,
    /// Closed; stays until its events are safe.
    pub closed: bool,
    /// Where its entry in the position file has its numbers.
    pub slot: Option<u64>,
    /// Everything before it is safe for good.
    pub committed: u64,
    /// How often it was emptied.
    pub truncations: u64,
    /// Bytes that were there and went before they were read; at least so many.
    pub unread: u64,
    /// Who gets the entry when all of this file is safe.
    pub heir: Option<Id>,
    /// Its entry is marked as unwatched at the end.
    pub unwatch: bool,
}

impl File {
    /// Not read yet, and not before [`File::begin`].
    #[must_use]
    pub fn new(path: CString, origin: Origin, fd: Option<OwnedFd>, inode: u64, group: Option<usize>) -> Self {
        File {
            path,
            inode,
            origin,
            fd,
            position: 0,
            size: 0,
            head: [0; HEAD],
            head_len: 0,
            splitter: Splitter::default(),
            held: Held::default(),
            at_end: true,
            truncated: false,
            group,
            period: (None, 0),
            second: (None, 0),
            begun: false,
            queued: false,
            paused: None,
            flush_planned: false,
            watch: None,
            detached: false,
            missing: None,
            reported: None,
            retire: None,
            closed: false,
            slot: None,
            committed: 0,
            truncations: 0,
            unread: 0,
            heir: None,
            unwatch: false,
        }
    }

    /// Reads on from there.
    pub fn begin(&mut self, position: u64) {
        self.begun = true;
        self.position = position;
        self.size = position;
        self.committed = position;
        if let Some(fd) = &self.fd {
            self.head_len = read_at(fd, &mut self.head, 0).unwrap_or(0);
        }
        self.see();
    }

    /// How large it is now, so that what goes unread can be counted.
    fn see(&mut self) {
        if let Some(Ok(status)) = self.fd.as_ref().map(Status::of_open) {
            self.size = self.size.max(status.size);
        }
    }

    /// Everything before this position is in a batch, or given up.
    #[must_use]
    pub fn safe(&self) -> u64 {
        self.held.start().unwrap_or(self.position - self.splitter.unfinished())
    }

    /// Whether all of it was read and nothing of that waits for more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at_end && self.safe() == self.position
    }

    /// Whether all of it is safe for good.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.is_done() && self.committed == self.position
    }

    /// When a held text last grew.
    #[must_use]
    pub fn held_since(&self) -> Option<Instant> {
        self.held.since()
    }

    /// Compares with what the system says now: whether there may be something to read.
    pub fn compare(&mut self, size: u64) -> bool {
        if size < self.size || size < self.position {
            self.truncated = true;
        }
        self.size = self.size.max(size);
        self.truncated || size > self.position
    }

    /// Whether a limit forbids reading now.
    fn throttled(&mut self, limits: &Limits, group: Option<&Group>, now: Instant) -> Option<Option<Instant>> {
        if let Some(limit) = limits.bytes_per_second
            && self.second.1 >= limit
        {
            let until = self.second.0.unwrap_or(now) + Duration::from_secs(1);
            if now < until {
                return Some(Some(until));
            }
            self.second = (None, 0);
        }
        let group = group?;
        let limit = u64::try_from(group.limit).ok()?;
        if limit == 0 {
            return Some(None);
        }
        if self.period.1 >= limit / group.files.max(1) {
            let until = self.period.0.unwrap_or(now) + group.period;
            if self.period.0.is_some() && now < until {
                return Some(Some(until));
            }
            self.period = (None, 0);
        }
        None
    }

    /// Reads on for a while.
    ///
    /// # Errors
    /// The system's.
    pub fn turn(
        &mut self,
        limits: &Limits,
        group: Option<&Group>,
        buffer: &mut [u8],
        joining: &mut Joining<'_>,
        filling: &mut Filling<'_>,
    ) -> io::Result<Turn> {
        if self.fd.is_none() {
            let fd = match open(&self.path) {
                Ok(fd) => fd,
                Err(why) => {
                    self.at_end = true;
                    let full = matches!(why.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                    return if full { Err(why) } else { Ok(Turn::End) };
                }
            };
            let status = Status::of_open(&fd)?;
            if status.inode != self.inode || !status.regular {
                self.at_end = true;
                return Ok(Turn::End);
            }
            self.fd = Some(fd);
        }
        self.check_head();
        if self.truncated {
            self.start_anew(filling);
        }
        let mut lines = 0;
        loop {
            if let Some(until) = self.throttled(limits, group, joining.now) {
                self.see();
                return Ok(Turn::Throttled(until));
            }
            let Some(fd) = &self.fd else { return Ok(Turn::End) };
            let got = read_at(fd, buffer, self.position)?;
            self.second.0.get_or_insert(joining.now);
            self.period.0.get_or_insert(joining.now);
            self.second.1 += got as u64;
            let before = lines;
            self.feed(&buffer[..got], limits, joining, filling, &mut lines);
            self.period.1 += (lines - before) as u64;
            if got < buffer.len() {
                self.at_end = true;
                self.size = self.size.max(self.position);
                return Ok(Turn::End);
            }
            self.at_end = false;
            if lines >= limits.lines_per_turn {
                return Ok(Turn::More);
            }
        }
    }

    #[inline]
    fn feed(
        &mut self,
        data: &[u8],
        limits: &Limits,
        joining: &mut Joining<'_>,
        filling: &mut Filling<'_>,
        lines: &mut usize,
    ) {
        let mut start = self.position - self.splitter.unfinished();
        self.position += data.len() as u64;
        let held = &mut self.held;
        let mut converted = Vec::new();
        self.splitter.feed(&limits.lines, data, |line, length| {
            *lines += 1;
            match (line, &limits.decoder) {
                (Line::Whole(line), None) => joining.line(held, line, start, filling),
                (Line::Whole(line), Some(decoder)) => {
                    converted.clear();
                    decoder.convert(line, &mut converted);
                    joining.line(held, &converted, start, filling);
                }
                (Line::TooLong(rest), _) => filling.lost("line_limit", rest),
            }
            start += length;
        });
    }

    /// A file that was emptied and has grown beyond where it was read has another start.
    fn check_head(&mut self) {
        let Some(fd) = &self.fd else { return };
        if self.position == 0 || self.truncated {
            return;
        }
        let mut head = [0; HEAD];
        let got = read_at(fd, &mut head, 0).unwrap_or(0);
        if got < self.head_len || head[..self.head_len] != self.head[..self.head_len] {
            self.truncated = true;
        } else if got > self.head_len {
            (self.head, self.head_len) = (head, got);
        }
    }

    fn start_anew(&mut self, filling: &mut Filling<'_>) {
        let rest = self.splitter.finish();
        if !rest.is_empty() {
            filling.lost("unfinished", &rest);
        }
        self.held.flush(None, filling);
        filling.notice("truncated_file", self.path.as_bytes());
        self.count_unread(filling);
        self.truncated = false;
        self.truncations += 1;
        self.position = 0;
        self.size = 0;
        self.head_len = self.fd.as_ref().map_or(0, |fd| read_at(fd, &mut self.head, 0).unwrap_or(0));
    }

    /// What was seen of the file and not read is gone.
    fn count_unread(&mut self, filling: &mut Filling<'_>) {
        let unread = self.size.saturating_sub(self.position);
        if unread > 0 {
            self.unread += unread;
            filling.notice("unread", format!("{}: {unread} bytes", self.path.to_string_lossy()).as_bytes());
        }
    }

    /// Gives up waiting for texts that have not grown since `before` (None: for all).
    pub fn flush(&mut self, before: Option<Instant>, filling: &mut Filling<'_>) {
        self.held.flush(before, filling);
    }

    /// Closes for good; what is unfinished is lost, or an event where texts have several lines.
    pub fn finish(&mut self, filling: &mut Filling<'_>) {
        self.held.flush(None, filling);
        let rest = self.splitter.finish();
        if !rest.is_empty() {
            filling.lost("unfinished", &rest);
        }
        if self.fd.is_none() {
            self.count_unread(filling); // it is not there any more, or another one has its path
        }
        self.fd = None;
        self.closed = true;
    }
}

//! inotify: which files have grown, moved or appeared.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::departed::{Departures, Place};
use crate::sockaddr::check;

const FILE: u32 = libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_DELETE_SELF;
const FOLDER: u32 = libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_MOVED_FROM | libc::IN_ONLYDIR;
const EVENT: usize = size_of::<libc::inotify_event>();

/// A file by the number that the tailer gave it.
pub type Id = u64;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The file has new bytes, or fewer than before.
    Changed(Id),
    /// The file's path may be another file's now.
    Moved(Id),
    /// Events were lost: everything has to be looked at.
    Overflow,
}

/// Watches on files and on the folders they are in.
pub struct Watches {
    fd: OwnedFd,
    files: HashMap<i32, BTreeSet<Id>>,
    folders: HashMap<Vec<u8>, (i32, usize)>,
    names: HashMap<Place, BTreeSet<Id>>,
    /// Files that were renamed away.
    pub departures: Departures,
    buffer: Vec<u8>,
}

impl Watches {
    /// No watches yet.
    ///
    /// # Errors
    /// The system's: too many instances of inotify.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (files, folders, names, departures) = Default::default();
        Ok(Watches { fd, files, folders, names, departures, buffer: vec![0; 32 << 10] })
    }

    /// To poll.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn add(&self, path: &[u8], mask: u32) -> io::Result<i32> {
        let path = CString::new(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a C string that lives during the call.
        check(unsafe { libc::inotify_add_watch(self.raw(), path.as_ptr(), mask) })
    }

    /// Watches an open file, or what has its path now. The watch's number.
    ///
    /// # Errors
    /// The system's: too many watches.
    pub fn file(&mut self, id: Id, fd: Option<RawFd>, path: &[u8]) -> io::Result<i32> {
        let by_fd = fd.map(|fd| self.add(format!("/proc/self/fd/{fd}").as_bytes(), FILE));
        let number = match by_fd {
            Some(Ok(number)) => number,
            _ => self.add(path, FILE)?,
        };
        self.files.entry(number).or_default().insert(id);
        Ok(number)
    }

    /// Watches the folder for a file that takes this path, or leaves it. Once is as good as twice.
    ///
    /// # Errors
    /// As [`Watches::file`].
    pub fn name(&mut self, id: Id, path: &[u8]) -> io::Result<()> {
        let (folder, name) = split(path);
        let number = match self.folders.get(folder) {
            Some((number, _)) => *number,
            None => {
                let number = self.add(folder, FOLDER)?;
                self.folders.insert(folder.to_vec(), (number, 0));
                number
            }
        };
        if self.names.entry((number, name.to_vec())).or_default().insert(id)
            && let Some((_, users)) = self.folders.get_mut(folder)
        {
            *users += 1;
        }
        Ok(())
    }

    /// Whose path this is.
    pub fn owners(&self, place: &Place) -> impl Iterator<Item = Id> {
        self.names.get(place).into_iter().flatten().copied()
    }

    /// The path of a name in a watched folder.
    #[must_use]
    pub fn path(&self, place: &Place) -> Option<Vec<u8>> {
        let (folder, _) = self.folders.iter().find(|(_, (number, _))| *number == place.0)?;
        let slash: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
        Some([folder, slash, &place.1].concat())
    }

    /// Undoes [`Watches::file`].
    pub fn forget_file(&mut self, id: Id, number: i32) {
        let Some(ids) = self.files.get_mut(&number) else { return };
        ids.remove(&id);
        if ids.is_empty() {
            self.files.remove(&number);
            self.remove(number);
        }
    }

    /// Undoes [`Watches::name`].
    pub fn forget_name(&mut self, id: Id, path: &[u8]) {
        let (folder, name) = split(path);
        let Some((number, users)) = self.folders.get_mut(folder) else { return };
        let key = (*number, name.to_vec());
        let Some(ids) = self.names.get_mut(&key) else { return };
        if !ids.remove(&id) {
            return;
        }
        if ids.is_empty() {
            self.names.remove(&key);
        }
        *users -= 1;
        if *users == 0 {
            self.folders.remove(folder);
            self.remove(key.0);
        }
    }

    fn remove(&self, number: i32) {
        // SAFETY: no pointers. It fails where the kernel has removed the watch with its file.
        unsafe { libc::inotify_rm_watch(self.raw(), number) };
    }

    /// Gives what has happened since the last call.
    pub fn read(&mut self, mut give: impl FnMut(Seen)) {
        loop {
            // SAFETY: the buffer is valid for its length.
            let got = unsafe { libc::read(self.raw(), self.buffer.as_mut_ptr().cast(), self.buffer.len()) };
            let Ok(got) = usize::try_from(got) else { return };
            let mut at = 0;
            while at + EVENT <= got {
                // SAFETY: the kernel has written a whole event here; it need not be aligned in a byte buffer.
                let event: libc::inotify_event =
                    unsafe { std::ptr::read_unaligned(self.buffer[at..].as_ptr().cast()) };
                let end = (at + EVENT + event.len as usize).min(got);
                let name = &self.buffer[at + EVENT..end];
                let name = &name[..memchr::memchr(0, name).unwrap_or(name.len())];
                let ids = self.names.get(&(event.wd, name.to_vec()));
                if event.mask & libc::IN_Q_OVERFLOW != 0 {
                    self.departures.clear();
                    give(Seen::Overflow);
                } else if name.is_empty() {
                    for id in self.files.get(&event.wd).into_iter().flatten() {
                        let grown = event.mask & libc::IN_MODIFY != 0;
                        give(if grown { Seen::Changed(*id) } else { Seen::Moved(*id) });
                    }
                } else {
                    self.departures.see(&event, name, ids.is_some());
                    for id in ids.into_iter().flatten() {
                        give(Seen::Moved(*id));
                    }
                }
                if event.mask & libc::IN_IGNORED != 0 {
                    // the number may come again for another file
                    self.files.remove(&event.wd);
                    self.folders.retain(|_, (number, _)| *number != event.wd);
                    self.names.retain(|(number, _), _| *number != event.wd);
                }
                at = end;
            }
            if got + EVENT + 256 < self.buffer.len() {
                return;
            }
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b".", path),
    }
}

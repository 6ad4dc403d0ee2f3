//! Files that are renamed away from a path that is followed, maybe before they were ever opened.
//!
//! inotify says where such a file is now, by the cookie of a rename within folders that are watched. That is a
//! name only, which another file may have taken before it is opened. So the file is opened, then one entry of
//! the folder is read, which waits for the folder's lock, under which renames are told; then events are read
//! again. Where none of them is about the name, what was opened is the file that had the path.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::file::{is_scarce, open_plain};
use super::watch::{Seen, Watches};

/// A folder's watch and a name in it.
pub type Place = (i32, Vec<u8>);
/// How often a name is tried that keeps changing.
const TRIES: usize = 100;

/// A file that is on its way, or has arrived at `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Departed {
    number: u64,
    from: Place,
    at: Option<Place>,
}

/// What renames say.
#[derive(Default)]
pub struct Departures {
    last: u64,
    found: Vec<Departed>,
    cookies: HashMap<u32, u64>,
}

impl Departures {
    /// Takes an event about a name in a folder; `followed`: files are looked for under that name.
    pub fn see(&mut self, event: &libc::inotify_event, name: &[u8], followed: bool) {
        let here = |departed: &Departed| {
            departed.at.as_ref().is_some_and(|at| at.0 == event.wd && at.1.as_slice() == name)
        };
        let place = || (event.wd, name.to_vec());
        if event.mask & libc::IN_MOVED_FROM != 0 {
            if let Some(departed) = self.found.iter_mut().find(|departed| here(departed)) {
                departed.at = None;
                self.cookies.insert(event.cookie, departed.number);
            } else if followed {
                self.last += 1;
                self.found.push(Departed { number: self.last, from: place(), at: None });
                self.cookies.insert(event.cookie, self.last);
            }
        } else if event.mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 {
            self.found.retain(|departed| !here(departed));
            let number = (event.mask & libc::IN_MOVED_TO != 0).then(|| self.cookies.remove(&event.cookie));
            if let Some(number) = number.flatten() {
                // back where it was: it is found there
                self.found.retain(|departed| departed.number != number || departed.from != place());
                if let Some(departed) = self.found.iter_mut().find(|departed| departed.number == number) {
                    departed.at = Some(place());
                }
            }
        }
    }

    /// Whether there are files that were not opened yet.
    #[must_use]
    pub fn wait(&self) -> bool {
        !self.found.is_empty()
    }

    /// Nothing is certain any more.
    pub fn clear(&mut self) {
        self.found.clear();
        self.cookies.clear();
    }

    /// Who had left before `started` and has not arrived is out of sight.
    fn forget_the_lost(&mut self, started: &HashSet<u64>) {
        self.found.retain(|departed| departed.at.is_some() || !started.contains(&departed.number));
        self.cookies.retain(|_, number| self.found.iter().any(|departed| departed.number == *number));
    }

    fn on_their_way(&self) -> HashSet<u64> {
        self.found.iter().filter(|departed| departed.at.is_none()).map(|departed| departed.number).collect()
    }
}

/// A file that had a path which is followed.
pub struct Opened {
    /// The path's place.
    pub from: Place,
    /// The path that it has now.
    pub path: Vec<u8>,
    /// The file.
    pub fd: OwnedFd,
}

/// Reads what inotify says, and opens the files that have departed, in the order in which they did. Where there
/// are few descriptors left it opens one, and the others at the next call.
pub fn read(watches: &mut Watches, mut give: impl FnMut(Seen)) -> Vec<Opened> {
    let mut opened = Vec::new();
    let before = watches.departures.on_their_way();
    watches.read(&mut give);
    watches.departures.forget_the_lost(&before);
    let mut scarce = false;
    for _ in 0..TRIES {
        let mut tried = Vec::new();
        for departed in &watches.departures.found {
            let Some(path) = departed.at.as_ref().and_then(|at| watches.path(at)) else { continue };
            let fd = match CString::new(path.clone()).map(|path| open_plain(&path)) {
                Ok(Ok(fd)) => Some(fd),
                Ok(Err(why)) if matches!(why.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    scarce = true;
                    break;
                }
                // it was deleted, or is no plain file
                _ => None,
            };
            scarce = fd.as_ref().is_some_and(is_scarce);
            tried.push((departed.clone(), path, fd));
            if scarce {
                break;
            }
        }
        if tried.is_empty() {
            break;
        }
        let folders: HashSet<_> = tried.iter().filter_map(|(_, path, _)| folder(path)).collect();
        for folder in folders {
            let _ = fs::read_dir(folder).map(|mut names| names.next());
        }
        watches.read(&mut give);
        for (departed, path, fd) in tried {
            let Some(index) = watches.departures.found.iter().position(|now| *now == departed) else {
                continue;
            };
            watches.departures.found.remove(index);
            opened.extend(fd.map(|fd| (departed.number, Opened { from: departed.from, path, fd })));
        }
        if scarce {
            break;
        }
    }
    opened.sort_by_key(|(number, _)| *number);
    opened.into_iter().map(|(_, file)| file).collect()
}

fn folder(path: &[u8]) -> Option<&Path> {
    Path::new(std::ffi::OsStr::from_bytes(path)).parent()
}

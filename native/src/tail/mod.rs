//! The tail kernel: many files in one thread, from inotify and `pread` to batches of events.
//!
//! Python decides which files are followed, from where on, and what a rotation means; here is what happens
//! for every line. A position becomes durable only after the batch that it follows was emitted
//! ([`Tailer::commit`]), so that a crash repeats lines but loses none. Not calling `next` is back-pressure.

mod commit;
mod decode;
mod departed;
mod file;
mod fill;
mod glob;
mod join;
pub mod lines;
mod state;
mod watch;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use self::decode::decoding;
use self::file::{File, Group, Limits, Status};
use self::fill::{Origin, Recipe};
use self::glob::{Found, scan};
use self::join::Join;
use self::lines::Rules;
use self::state::{Change, Config, Departed, State};
use self::watch::{Id, Watches};
use crate::compiled::CompiledParser;
use crate::ingest::Taken;
use crate::intake::{Intake, lock, os_error};
use crate::msgpack;
use crate::sockaddr::{Wake, timespec};

/// While events keep coming, so much time is between two batches.
const LINGER: Duration = Duration::from_millis(40);
/// How long a stopping input reads on.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Follows files.
#[pyclass(frozen, module = "forwarder._native")]
pub struct Tailer {
    config: Config,
    state: Mutex<State>,
    pace: Mutex<Pace>,
    notify: Option<RawFd>,
    wake: Wake,
    stop: AtomicBool,
    finished: AtomicBool,
}

/// What only the reading thread uses.
struct Pace {
    given: Instant,
    stopping: Option<Instant>,
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX).min(Duration::from_secs(1 << 32))
}

fn c_path(path: Vec<u8>) -> PyResult<CString> {
    CString::new(path).map_err(|_| PyValueError::new_err("a path cannot hold a zero byte"))
}

fn origin(tag: &str, path: &CString) -> Origin {
    let mut value = Vec::new();
    msgpack::write_text(&mut value, path.as_bytes(), false);
    Origin { tag: tag.into(), path: value }
}

#[pymethods]
impl Tailer {
    #[new]
    #[pyo3(signature = (
        parser, *, path_key = None, emit_unmatched_lines = false, multiline = false, first_line = None,
        flush_interval = None, max_line_size = None, read_lines_limit = 1000, read_bytes_limit = None,
        encoding = None, from_encoding = None, open_on_every_update = false, rotate_wait = 5.0,
        inotify = true, groups = vec![]
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn new(
        parser: &CompiledParser,
        path_key: Option<String>,
        emit_unmatched_lines: bool,
        multiline: bool,
        first_line: Option<&str>,
        flush_interval: Option<f64>,
        max_line_size: Option<usize>,
        read_lines_limit: usize,
        read_bytes_limit: Option<u64>,
        encoding: Option<&str>,
        from_encoding: Option<&str>,
        open_on_every_update: bool,
        rotate_wait: f64,
        inotify: bool,
        groups: Vec<(i64, f64)>,
    ) -> PyResult<Self> {
        let invalid = |param: &str, why: String| PyValueError::new_err((why, param.to_owned()));
        let (eol, decoder) = decoding(encoding, from_encoding).map_err(|(param, why)| invalid(param, why))?;
        let join = if multiline {
            Join::multiline(first_line).map_err(|why| invalid("format_firstline", why))?
        } else {
            parser.inner.partial().map_or(Join::Lines, Join::Parts)
        };
        let config = Config {
            recipe: Recipe::new(Arc::clone(&parser.inner), path_key, emit_unmatched_lines),
            limits: Limits {
                lines: Rules::new(eol, max_line_size),
                lines_per_turn: read_lines_limit,
                bytes_per_second: read_bytes_limit,
                decoder,
                open_on_every_update,
            },
            join,
            flush_interval: flush_interval.map(seconds),
            rotate_wait: seconds(rotate_wait),
        };
        let watches = inotify.then(|| Watches::new().ok()).flatten();
        let groups = groups
            .into_iter()
            .map(|(limit, period)| Group { limit, period: seconds(period), files: 0 })
            .collect();
        let state = State::new(watches, groups);
        Ok(Tailer {
            config,
            notify: state.watches.as_ref().map(Watches::raw),
            state: Mutex::new(state),
            pace: Mutex::new(Pace { given: Instant::now() - LINGER, stopping: None }),
            wake: Wake::new().map_err(|why| os_error(&why))?,
            stop: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    /// Whether inotify is at work.
    #[getter]
    fn notified(&self) -> bool {
        self.notify.is_some()
    }

    /// `open(path, tag, group=None) -> (number, inode, size)`: opens a file, which is read from `begin` on.
    #[pyo3(signature = (path, tag, group = None))]
    fn open(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        tag: &str,
        group: Option<usize>,
    ) -> PyResult<(Id, u64, u64)> {
        let path = c_path(path)?;
        py.detach(|| {
            let number = lock(&self.state).expect(&path);
            match self.open_file(&path) {
                Ok((fd, status)) => {
                    let file = File::new(path.clone(), origin(tag, &path), fd, status.inode, group);
                    lock(&self.state).insert(number, file);
                    Ok((number, status.inode, status.size))
                }
                Err(why) => {
                    lock(&self.state).forget_path(number, &path);
                    Err(why)
                }
            }
        })
        .map_err(|why| os_error(&why))
    }

    /// `begin(number, position, slot=None) -> bool`: reads from there on. `slot`: where the entry's position
    /// stands in the position file. False: inotify does not watch the file.
    #[pyo3(signature = (number, position, slot = None))]
    fn begin(&self, py: Python<'_>, number: Id, position: u64, slot: Option<u64>) -> PyResult<bool> {
        py.detach(|| {
            let mut state = lock(&self.state);
            if let Some(file) = state.files.get_mut(&number) {
                file.begin(position);
            }
            let assigned = slot.map_or(Ok(()), |slot| state.assign(number, slot));
            let watched = state.watch(number);
            state.enqueue(number);
            state.look_at(number, self.config.rotate_wait); // whatever happened to its path meanwhile
            self.wake.wake();
            assigned.map(|()| watched)
        })
        .map_err(|why| os_error(&why))
    }

    /// `cancel(number)`: forgets a file that was opened and not begun.
    fn cancel(&self, py: Python<'_>, number: Id) {
        py.detach(|| lock(&self.state).cancel(number));
    }

    /// `retire(number, heir=None, unwatch=False, wait=None)`: reads it to its end for `wait` seconds more (None:
    /// rotate_wait), then closes it. Its entry goes to `heir` when all is safe, or is marked as unwatched.
    #[pyo3(signature = (number, heir = None, unwatch = false, wait = None))]
    fn retire(
        &self,
        py: Python<'_>,
        number: Id,
        heir: Option<Id>,
        unwatch: bool,
        wait: Option<f64>,
    ) -> PyResult<()> {
        py.detach(|| {
            let mut state = lock(&self.state);
            if let Some(file) = state.files.get_mut(&number) {
                file.heir = heir;
                file.unwatch = unwatch;
            }
            let now = self.config.limits.open_on_every_update;
            let wait = wait.map_or(self.config.rotate_wait, seconds);
            state.retire(number, if now { Duration::ZERO } else { wait });
            self.wake.wake();
        });
        Ok(())
    }

    /// `inherit(number, heir)`: a retired file's entry goes to `heir` after all.
    fn inherit(&self, py: Python<'_>, number: Id, heir: Id) -> PyResult<bool> {
        py.detach(|| {
            let mut state = lock(&self.state);
            let Some(file) = state.files.get_mut(&number) else { return Ok(false) };
            file.heir = Some(heir);
            file.unwatch = false;
            state.bequeath(number).map(|()| true)
        })
        .map_err(|why| os_error(&why))
    }

    /// `detach(number)`: its path is another file's; it is read by its descriptor.
    fn detach(&self, py: Python<'_>, number: Id) {
        py.detach(|| lock(&self.state).detach(number));
    }

    /// `moved(number, path, tag) -> bool`: it has this path (again), and is not closed if it was about to be.
    /// False: it is closed.
    fn moved(&self, py: Python<'_>, number: Id, path: Vec<u8>, tag: &str) -> PyResult<bool> {
        let path = c_path(path)?;
        Ok(py.detach(|| {
            let mut state = lock(&self.state);
            if state.files.get(&number).is_none_or(|file| file.closed) {
                return false;
            }
            state.unwatch(number);
            if let Some(file) = state.files.get_mut(&number) {
                file.origin = origin(tag, &path);
                file.path = path;
                file.detached = false;
                file.unwatch = false;
                (file.missing, file.reported, file.retire) = (None, None, None);
            }
            state.watch(number);
            state.enqueue(number);
            self.wake.wake();
            true
        }))
    }

    /// `relocate(descriptor, slots)`: the position file is another one, with the entries of these files.
    fn relocate(&self, py: Python<'_>, descriptor: RawFd, slots: Vec<(Id, u64)>) -> PyResult<()> {
        py.detach(|| {
            // SAFETY: Python's file object is open during the call.
            let positions = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
            let mut state = lock(&self.state);
            state.positions = Some(fs::File::from(positions));
            for (number, slot) in slots {
                if let Some(file) = state.files.get_mut(&number) {
                    file.slot = Some(slot);
                }
            }
            Ok(())
        })
        .map_err(|why: io::Error| os_error(&why))
    }

    /// `slots() -> [(number, slot), ...]`: who has an entry of the position file.
    fn slots(&self, py: Python<'_>) -> Vec<(Id, u64)> {
        py.detach(|| {
            let state = lock(&self.state);
            state.files.iter().filter_map(|(id, file)| Some((*id, file.slot?))).collect()
        })
    }

    /// `look(most)`: compares up to so many files with what the system says, and those inotify cannot watch.
    fn look(&self, py: Python<'_>, most: usize) {
        py.detach(|| {
            let mut state = lock(&self.state);
            state.look(most, self.config.rotate_wait);
            if state.busy() {
                self.wake.wake();
            }
        });
    }

    /// `changes() -> [(number, inode | None), ...]`: files whose path is another file's now (its inode), and
    /// files that are closed and forgotten (None).
    fn changes(&self, py: Python<'_>) -> Vec<(Id, Option<u64>)> {
        let changes = py.detach(|| std::mem::take(&mut lock(&self.state).changes));
        changes
            .into_iter()
            .map(|change| match change {
                Change::Rotated(number, inode) => (number, Some(inode)),
                Change::Closed(number) => (number, None),
            })
            .collect()
    }

    /// `departed() -> [(owner, number, inode, path), ...]`: open files, not begun, that had the path of `owner`
    /// and were renamed, in the order in which that happened.
    fn departed(&self, py: Python<'_>) -> Vec<(Id, Id, u64, Vec<u8>)> {
        let departed = py.detach(|| {
            let mut state = lock(&self.state);
            state.notified(self.config.rotate_wait);
            if state.busy() {
                self.wake.wake();
            }
            let departed = std::mem::take(&mut state.departed);
            let waits = |file: &Departed| state.files.get(&file.number).is_some_and(|file| !file.begun);
            departed.into_iter().filter(waits).collect::<Vec<_>>()
        });
        departed
            .into_iter()
            .map(|Departed { owner, number, inode, path }| (owner, number, inode, path))
            .collect()
    }

    /// Whether `changes` or `departed` has something.
    #[getter]
    fn changed(&self, py: Python<'_>) -> bool {
        py.detach(|| lock(&self.state).tells())
    }

    /// `next(max_wait_ms) -> Intake | None`: what has come, waiting at most so long for it; sooner with None
    /// where `changed`.
    fn next(&self, py: Python<'_>, max_wait_ms: u64) -> PyResult<Option<Intake>> {
        let max_wait = Duration::from_millis(max_wait_ms);
        let taken = py.detach(|| self.wait_and_read(max_wait)).map_err(|why| os_error(&why))?;
        taken.map(|taken| Intake::new(py, taken, 0)).transpose()
    }

    /// What `next` gave last is safe.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| lock(&self.state).commit()).map_err(|why| os_error(&why))
    }

    /// From any thread: `next` reads on for a moment and then is `finished`.
    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Whether everything was given after a stop.
    #[getter]
    fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// (opened, closed, rotated, throttled, followed now, bytes that went unread).
    #[getter]
    fn counts(&self, py: Python<'_>) -> (u64, u64, u64, u64, usize, u64) {
        py.detach(|| {
            let state = lock(&self.state);
            let followed = state.files.values().filter(|file| file.retire.is_none()).count();
            let counts = state.counts;
            (counts.opened, counts.closed, counts.rotated, counts.throttled, followed, counts.unread)
        })
    }
}

impl Tailer {
    /// A file's descriptor, unless it is opened for each turn.
    fn open_file(&self, path: &CString) -> io::Result<(Option<OwnedFd>, Status)> {
        let (fd, status) = match file::open(path) {
            Ok(fd) => {
                let status = Status::of_open(&fd)?;
                let keeps = !self.config.limits.open_on_every_update && !file::is_scarce(&fd);
                (Some(fd).filter(|_| keeps), status)
            }
            // as above: it is opened for each turn then
            Err(why) if matches!(why.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                (None, Status::at(path)?)
            }
            Err(why) => return Err(why),
        };
        match status {
            Status { regular: true, .. } => Ok((fd, status)),
            Status { folder: true, .. } => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn wait_and_read(&self, max_wait: Duration) -> io::Result<Option<Taken>> {
        let mut pace = lock(&self.pace);
        if self.stop.load(Ordering::Acquire) {
            return self.read_the_rest(&mut pace);
        }
        let idle = lock(&self.state).idle_for(max_wait);
        if !idle.is_zero() && self.sleep(idle)? {
            // more is on its way: a batch is worth its overhead when it holds some events
            let since = pace.given.elapsed();
            if since < LINGER {
                self.pause(LINGER - since);
            }
        }
        if self.stop.load(Ordering::Acquire) {
            return self.read_the_rest(&mut pace);
        }
        let mut state = lock(&self.state);
        state.notified(self.config.rotate_wait);
        self.gather(&mut state);
        self.take(&mut state, &mut pace)
    }

    fn gather(&self, state: &mut State) {
        if self.config.recipe.parser.needs_python() {
            Python::attach(|_| state.gather(&self.config));
        } else {
            state.gather(&self.config);
        }
    }

    fn take(&self, state: &mut State, pace: &mut Pace) -> io::Result<Option<Taken>> {
        if state.basket.is_empty() {
            // nothing has to be emitted for it
            return state.commit().map(|()| None);
        }
        pace.given = Instant::now();
        Ok(Some(state.basket.take()))
    }

    fn read_the_rest(&self, pace: &mut Pace) -> io::Result<Option<Taken>> {
        let mut state = lock(&self.state);
        let until = *pace.stopping.get_or_insert_with(|| {
            state.notified(self.config.rotate_wait);
            state.enqueue_all();
            Instant::now() + STOP_WAIT
        });
        if Instant::now() < until {
            self.gather(&mut state);
        }
        if !state.busy() || Instant::now() >= until {
            // parts of cut lines are read again by the next start, if it knows where
            if matches!(self.config.join, Join::Multiline(_)) || state.positions.is_none() {
                if self.config.recipe.parser.needs_python() {
                    Python::attach(|_| state.flush_all(&self.config));
                } else {
                    state.flush_all(&self.config);
                }
            }
            self.finished.store(true, Ordering::Release);
        }
        self.take(&mut state, pace)
    }

    /// Waits for inotify or a wake; whether one of them came.
    fn sleep(&self, most: Duration) -> io::Result<bool> {
        let mut polls = [self.wake.raw(), self.notify.unwrap_or(-1)].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let limit = timespec(most);
        // SAFETY: two pollfds, a valid timespec, no signal mask.
        let got = unsafe { libc::ppoll(polls.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) };
        if got < 0 {
            let why = io::Error::last_os_error();
            return if why.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(why) };
        }
        if polls[0].revents != 0 && !self.stop.load(Ordering::Acquire) {
            self.wake.calm();
        }
        Ok(polls[1].revents != 0)
    }

    /// Lets events gather; only a stop ends it early.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() || self.stop.load(Ordering::Acquire) {
                return;
            }
            self.wake.sleep(rest);
            if !self.stop.load(Ordering::Acquire) {
                self.wake.calm();
            }
        }
    }
}

type Scanned<'py> = (Vec<(Bound<'py, PyBytes>, u64)>, Vec<Bound<'py, PyBytes>>);

/// `scan_files(patterns, excluded, since=None) -> (files, unreadable)`: see `glob::scan`.
#[pyfunction]
#[pyo3(signature = (patterns, excluded, since = None))]
#[allow(clippy::needless_pass_by_value)]
pub fn scan_files(
    py: Python<'_>,
    patterns: Vec<(Vec<u8>, bool)>,
    excluded: Vec<(Vec<u8>, bool)>,
    since: Option<i64>,
) -> Scanned<'_> {
    let Found { targets, unreadable } = py.detach(|| scan(&patterns, &excluded, since));
    let targets = targets.into_iter().map(|target| (PyBytes::new(py, &target.path), target.inode)).collect();
    (targets, unreadable.iter().map(|path| PyBytes::new(py, path)).collect())
}

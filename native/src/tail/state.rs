//! All files of an input: which is read when, and what has happened to their paths.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::ffi::CStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::departed::{self, Opened};
use super::file::{BLOCK, File, Group, Limits, Status, Turn, is_scarce};
use super::fill::{Basket, Filling, Recipe};
use super::join::{Join, Joining};
use super::watch::{Id, Seen, Watches};
use crate::sockaddr::now_ns;

/// How long parts of cut lines wait for the others where nothing else is asked for.
const PARTS_PATIENCE: Duration = Duration::from_secs(5);

/// What Python is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The path is another file's now, with this inode.
    Rotated(Id, u64),
    /// The file is closed, its events are safe, and it is forgotten.
    Closed(Id),
}

/// A file that is open and not begun: it had the path of `owner` and was renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Who was followed under the path.
    pub owner: Id,
    /// The file's number.
    pub number: Id,
    /// Its inode.
    pub inode: u64,
    /// Its path now.
    pub path: Vec<u8>,
}

/// What an input wants.
pub struct Config {
    /// Texts to events.
    pub recipe: Recipe,
    /// Files to lines.
    pub limits: Limits,
    /// Lines to texts.
    pub join: Join,
    /// When texts whose end does not come are given up.
    pub flush_interval: Option<Duration>,
    /// How long a file is read that has lost its path.
    pub rotate_wait: Duration,
}

impl Config {
    fn patience(&self) -> Option<Duration> {
        match self.join {
            Join::Lines => None,
            Join::Multiline(_) => self.flush_interval,
            Join::Parts(_) => Some(self.flush_interval.unwrap_or(PARTS_PATIENCE)),
        }
    }
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Files opened.
    pub opened: u64,
    /// Files closed.
    pub closed: u64,
    /// Paths that became another file's, and files that were emptied.
    pub rotated: u64,
    /// How often a limit stopped reading.
    pub throttled: u64,
    /// Bytes that went before they were read, as far as they were seen.
    pub unread: u64,
}

/// The state behind the lock.
#[derive(Default)]
pub struct State {
    /// By number.
    pub files: BTreeMap<Id, File>,
    /// Limits on several files.
    pub groups: Vec<Group>,
    /// Counters.
    pub counts: Counts,
    /// inotify, where it is used and there is.
    pub watches: Option<Watches>,
    /// What happened since Python asked.
    pub changes: Vec<Change>,
    /// Files that were renamed before they were begun, since Python asked.
    pub departed: Vec<Departed>,
    /// The position file.
    pub positions: Option<fs::File>,
    /// What has been read.
    pub basket: Basket,
    /// What is safe as soon as the last batch is.
    pub staged: HashMap<Id, u64>,
    /// Inodes of files that were closed while departed ones waited to be opened: these may be among them.
    past: HashSet<u64>,
    last: Id,
    queue: VecDeque<Id>,
    due: BinaryHeap<Reverse<(Instant, Id)>>,
    buffer: Vec<u8>,
    cursor: Id,
}

impl State {
    /// No files yet.
    #[must_use]
    pub fn new(watches: Option<Watches>, groups: Vec<Group>) -> Self {
        State { watches, groups, ..State::default() }
    }

    /// A number for a file that is not open yet, so that nothing that happens to its path from now on is missed.
    pub fn expect(&mut self, path: &CStr) -> Id {
        self.last += 1;
        if let Some(watches) = &mut self.watches {
            // without it a new file under the path is found by the next look
            let _ = watches.name(self.last, path.to_bytes());
        }
        self.last
    }

    /// Undoes [`State::expect`].
    pub fn forget_path(&mut self, id: Id, path: &CStr) {
        if let Some(watches) = &mut self.watches {
            watches.forget_name(id, path.to_bytes());
        }
    }

    /// Takes a file in.
    pub fn insert(&mut self, id: Id, file: File) {
        self.counts.opened += u64::from(file.fd.is_some());
        if let Some(group) = file.group.and_then(|index| self.groups.get_mut(index)) {
            group.files += 1;
        }
        self.files.insert(id, file);
    }

    /// Forgets a file that was not begun.
    pub fn cancel(&mut self, id: Id) {
        let Some(file) = self.files.remove(&id) else { return };
        self.forget_path(id, &file.path);
        self.counts.closed += u64::from(file.fd.is_some());
        self.leave_group(file.group);
    }

    /// One file less in a group.
    pub fn leave_group(&mut self, group: Option<usize>) {
        if let Some(group) = group.and_then(|index| self.groups.get_mut(index)) {
            group.files -= 1;
        }
    }

    /// Puts a file into the queue.
    pub fn enqueue(&mut self, id: Id) {
        if let Some(file) = self.files.get_mut(&id)
            && file.begun
            && !file.queued
            && !file.closed
        {
            file.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Puts all files into the queue.
    pub fn enqueue_all(&mut self) {
        for id in self.files.keys().copied().collect::<Vec<_>>() {
            self.enqueue(id);
        }
    }

    /// Whether there is something to read or to tell.
    #[must_use]
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || self.tells()
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn tells(&self) -> bool {
        !self.changes.is_empty() || !self.departed.is_empty()
    }

    /// How long nothing has to be done, at most `most`.
    #[must_use]
    pub fn idle_for(&self, most: Duration) -> Duration {
        if self.busy() {
            return Duration::ZERO;
        }
        let due = self.due.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        due.map_or(most, |due| due.min(most))
    }

    /// Has a file watched, where inotify does that. False: it has to be looked at from time to time.
    pub fn watch(&mut self, id: Id) -> bool {
        let (Some(watches), Some(file)) = (&mut self.watches, self.files.get_mut(&id)) else { return false };
        let path = file.path.as_bytes();
        if file.watch.is_none() {
            let fd = file.fd.as_ref().map(AsRawFd::as_raw_fd);
            file.watch = watches.file(id, fd, path).ok();
        }
        if !file.detached {
            let _ = watches.name(id, path); // as in `expect`
        }
        file.watch.is_some()
    }

    /// Undoes [`State::watch`].
    pub fn unwatch(&mut self, id: Id) {
        let (Some(watches), Some(file)) = (&mut self.watches, self.files.get_mut(&id)) else { return };
        if let Some(number) = file.watch.take() {
            watches.forget_file(id, number);
        }
        watches.forget_name(id, file.path.as_bytes());
    }

    /// No longer looks for a file by its path.
    pub fn detach(&mut self, id: Id) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.detached = true;
        let path = file.path.clone();
        self.forget_path(id, &path);
    }

    /// Reads a file for `wait` more, and to its end, and then closes it.
    pub fn retire(&mut self, id: Id, wait: Duration) {
        self.detach(id);
        let at = Instant::now() + wait;
        if let Some(file) = self.files.get_mut(&id) {
            file.retire = Some(at);
            self.due.push(Reverse((at, id)));
        }
        self.enqueue(id);
    }

    /// Takes what inotify says.
    pub fn notified(&mut self, rotate_wait: Duration) {
        let Some(mut watches) = self.watches.take() else { return };
        let (mut moved, mut departed, mut overflow) = (Vec::new(), Vec::new(), false);
        let opened = departed::read(&mut watches, |seen| match seen {
            Seen::Changed(id) => self.enqueue(id),
            Seen::Moved(id) => moved.push(id),
            Seen::Overflow => overflow = true,
        });
        for file in opened {
            let owners = || watches.owners(&file.from).filter_map(|id| Some((id, self.files.get(&id)?)));
            let owner = owners().find(|(_, owner)| owner.begun).or_else(|| owners().next());
            if let Some((owner, _)) = owner {
                departed.push((owner, file));
            }
        }
        let all = !watches.departures.wait();
        self.watches = Some(watches);
        for (owner, file) in departed {
            self.adopt(owner, file);
        }
        if all {
            self.past.clear();
        }
        if overflow {
            moved = self.files.keys().copied().collect();
        }
        for id in moved {
            self.look_at(id, rotate_wait);
        }
    }

    /// Takes in what has had the path of `owner`. A file that is known and not open can be read on.
    fn adopt(&mut self, owner: Id, Opened { path, fd, .. }: Opened) {
        let (Some(before), Ok(status)) = (self.files.get(&owner), Status::of_open(&fd)) else { return };
        let (before, origin, group) = (before.path.clone(), before.origin.clone(), before.group);
        let known = self.files.iter_mut().find(|(_, file)| file.inode == status.inode && !file.closed);
        let number = match known {
            Some((id, known)) => {
                let (id, begun) = (*id, known.begun);
                if known.fd.is_none() {
                    known.fd = Some(fd);
                    self.counts.opened += 1;
                    self.enqueue(id);
                }
                if begun {
                    return;
                }
                id
            }
            None if status.regular && !self.past.contains(&status.inode) => {
                let id = self.expect(&before);
                self.insert(id, File::new(before, origin, Some(fd), status.inode, group));
                id
            }
            None => return,
        };
        self.departed.push(Departed { owner, number, inode: status.inode, path });
    }

    /// Looks at `most` files, those after the last time's, and at all that inotify does not watch.
    pub fn look(&mut self, most: usize, rotate_wait: Duration) {
        let mut ids: Vec<Id> = self.files.range(self.cursor..).take(most).map(|(id, _)| *id).collect();
        let rest = most - ids.len();
        ids.extend(self.files.range(..self.cursor).take(rest).map(|(id, _)| *id));
        self.cursor = ids.last().map_or(0, |last| last + 1);
        if ids.len() < self.files.len() {
            ids.extend(self.files.iter().filter(|(_, file)| file.watch.is_none()).map(|(id, _)| *id));
        }
        for id in ids {
            self.look_at(id, rotate_wait);
        }
    }

    /// Compares what is known of a file with what the system says.
    pub fn look_at(&mut self, id: Id, rotate_wait: Duration) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.closed || !file.begun {
            return;
        }
        if file.detached {
            let status = file.fd.as_ref().map(Status::of_open);
            if let Some(Ok(status)) = status
                && file.compare(status.size)
            {
                self.enqueue(id);
            }
            return;
        }
        match Status::at(&file.path) {
            Ok(status) if status.inode == file.inode => {
                file.missing = None;
                file.reported = None;
                let asleep = file.fd.is_none();
                if file.compare(status.size) || asleep {
                    self.enqueue(id);
                }
            }
            Ok(status) => {
                if file.reported != Some(status.inode) {
                    file.reported = Some(status.inode);
                    self.counts.rotated += 1;
                    self.changes.push(Change::Rotated(id, status.inode));
                }
            }
            Err(_) => {
                let now = Instant::now();
                let since = *file.missing.get_or_insert(now);
                if file.fd.is_none() {
                    return;
                }
                if file.is_done() && now >= since + rotate_wait {
                    self.put_to_sleep(id);
                } else {
                    self.enqueue(id);
                }
            }
        }
    }

    /// Closes a file that has no path any more, so that its room on the disk becomes free. It may come back.
    fn put_to_sleep(&mut self, id: Id) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.fd = None;
        self.counts.closed += 1;
        if let (Some(watches), Some(number)) = (&mut self.watches, file.watch.take()) {
            watches.forget_file(id, number);
        }
    }

    /// Reads files in turn until a batch is full or nothing is left to read.
    pub fn gather(&mut self, config: &Config) {
        let now = Instant::now();
        while let Some(Reverse((at, id))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            if let Some(file) = self.files.get_mut(&id) {
                file.flush_planned = false;
            }
            self.enqueue(id);
        }
        if self.queue.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BLOCK, 0);
        let mut basket = std::mem::take(&mut self.basket);
        let mut filling = Filling::new(&config.recipe, &mut basket, now_ns());
        let mut joining = Joining { join: &config.join, matcher: config.join.matcher(), now };
        while !filling.is_full() {
            let Some(id) = self.queue.pop_front() else { break };
            self.turn(id, config, &mut buffer, &mut joining, &mut filling);
        }
        drop(filling);
        self.basket = basket;
        self.buffer = buffer;
    }

    /// Gives up waiting for the rest of texts.
    pub fn flush_all(&mut self, config: &Config) {
        let mut basket = std::mem::take(&mut self.basket);
        let mut filling = Filling::new(&config.recipe, &mut basket, now_ns());
        for (id, file) in &mut self.files {
            if file.held_since().is_some() {
                filling.turn_to(&file.origin);
                file.flush(None, &mut filling);
                self.staged.insert(*id, file.safe());
            }
        }
        drop(filling);
        self.basket = basket;
    }

    fn turn(
        &mut self,
        id: Id,
        config: &Config,
        buffer: &mut [u8],
        joining: &mut Joining<'_>,
        filling: &mut Filling<'_>,
    ) {
        let now = joining.now;
        let Some(file) = self.files.get_mut(&id) else { return };
        file.queued = false;
        if file.closed {
            return;
        }
        filling.turn_to(&file.origin);
        let mut ended = false;
        if file.paused.is_none_or(|until| now >= until) {
            file.paused = None;
            let (was_open, truncations) = (file.fd.is_some(), file.truncations);
            let group = file.group.and_then(|index| self.groups.get(index));
            let outcome = file.turn(&config.limits, group, buffer, joining, filling);
            self.counts.opened += u64::from(!was_open && file.fd.is_some());
            self.counts.rotated += file.truncations - truncations;
            match outcome {
                Ok(Turn::More) => {
                    file.queued = true;
                    self.queue.push_back(id);
                }
                Ok(Turn::Throttled(until)) => {
                    self.counts.throttled += 1;
                    file.paused = until;
                    match until {
                        Some(until) => self.due.push(Reverse((until, id))),
                        None => ended = true,
                    }
                }
                Ok(Turn::End) => ended = true,
                Err(why) => {
                    filling
                        .notice("read_error", format!("{}: {why}", file.path.to_string_lossy()).as_bytes());
                    ended = true;
                }
            }
            let keeps = !config.limits.open_on_every_update && !file.fd.as_ref().is_some_and(is_scarce);
            if ended && !keeps && file.fd.take().is_some() {
                self.counts.closed += 1;
            }
        }
        if let Some(patience) = config.patience()
            && file.held_since().is_some()
        {
            file.flush(now.checked_sub(patience), filling);
            if let Some(since) = file.held_since()
                && !file.flush_planned
            {
                file.flush_planned = true;
                self.due.push(Reverse((since + patience, id)));
            }
        }
        if ended && file.retire.is_some_and(|at| now >= at) {
            self.counts.closed += u64::from(file.fd.is_some());
            file.finish(filling);
            if self.watches.as_ref().is_some_and(|watches| watches.departures.wait()) {
                self.past.insert(file.inode);
            }
        }
        self.counts.unread += std::mem::take(&mut file.unread);
        let (closed, waking) = (file.closed, file.watch.is_none() && file.fd.is_some());
        self.staged.insert(id, file.safe());
        if closed {
            self.unwatch(id);
        } else if waking && !config.limits.open_on_every_update && self.watches.is_some() {
            self.watch(id); // it was asleep
        }
    }
}

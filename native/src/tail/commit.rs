//! What is safe: the position file's entries, and who has which.
//!
//! An entry is `PATH\tPOSITION\tINODE\n`, both numbers as 16 hexadecimal digits (Fluentd's format). A slot is
//! where in the file an entry's position starts. After a rotation the path's entry stays with the old file
//! until all of that is safe; then its heir gets it.

use std::io;
use std::os::unix::fs::FileExt;

use super::state::{Change, State};
use super::watch::Id;

/// What Fluentd writes as the position of a file that is no longer followed.
const UNWATCHED: u64 = u64::MAX;

impl State {
    /// The batch that was taken last is safe.
    ///
    /// # Errors
    /// The position file cannot be written.
    pub fn commit(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for (id, position) in std::mem::take(&mut self.staged) {
            let Some(file) = self.files.get_mut(&id) else { continue };
            let changed = file.committed != position;
            file.committed = position;
            if changed && let (Some(slot), Some(positions)) = (file.slot, &self.positions) {
                let written = positions.write_all_at(format!("{position:016x}").as_bytes(), slot);
                outcome = outcome.and(written);
            }
            if file.closed {
                outcome = outcome.and(self.forget(id));
            } else {
                outcome = outcome.and(self.bequeath(id));
            }
        }
        outcome
    }

    /// Gives a file its entry.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn assign(&mut self, id: Id, slot: u64) -> io::Result<()> {
        let (Some(file), Some(positions)) = (self.files.get_mut(&id), &self.positions) else { return Ok(()) };
        file.slot = Some(slot);
        let entry = format!("{:016x}\t{:016x}", file.committed, file.inode);
        positions.write_all_at(entry.as_bytes(), slot)
    }

    /// Hands entries on from files that are done with.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn bequeath(&mut self, mut id: Id) -> io::Result<()> {
        while let Some(file) = self.files.get_mut(&id)
            && (file.is_safe() || file.closed)
            && let (Some(slot), Some(heir)) = (file.slot, file.heir)
        {
            file.slot = None;
            file.heir = None;
            self.assign(heir, slot)?;
            id = heir;
        }
        Ok(())
    }

    fn forget(&mut self, id: Id) -> io::Result<()> {
        let mut outcome = self.bequeath(id);
        let Some(file) = self.files.remove(&id) else { return outcome };
        if file.unwatch
            && let (Some(slot), Some(positions)) = (file.slot, &self.positions)
        {
            outcome = outcome.and(positions.write_all_at(format!("{UNWATCHED:016x}").as_bytes(), slot));
        }
        // where it never got the entry, whoever would have passed it on passes it to the next one
        for other in self.files.values_mut().filter(|other| other.heir == Some(id)) {
            other.heir = file.heir;
            other.unwatch = file.unwatch;
        }
        self.leave_group(file.group);
        self.changes.push(Change::Closed(id));
        outcome
    }
}

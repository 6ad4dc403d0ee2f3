//! The memory that one process may keep beyond the batches at hand: buffers in memory, unfinished messages of
//! connections, multi-line assembly, chunks that are read from disk. Whoever keeps something borrows it here.
//!
//! Half of the limit is guaranteed, in equal parts, to those who have borrowed less than theirs; the rest is for
//! whoever comes first. So one buffer that grows for hours never takes what another input needs to go on. Nothing
//! is enforced here: a borrower asks whether it is [`Loan::full`] before it takes more, so the limit is soft by a
//! batch for each. Bookings are per batch or per read, never per event.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pyo3::prelude::*;

use crate::intake::lock;

/// What is lent, and to whom.
#[derive(Default)]
pub struct Budget {
    /// Bytes; 0: no limit.
    limit: AtomicUsize,
    used: AtomicI64,
    /// Part of `used`: messages whose end has not come yet.
    unfinished: AtomicI64,
    loans: Mutex<Vec<Weak<Loan>>>,
}

/// What one borrower has.
pub struct Loan {
    name: String,
    unfinished: bool,
    used: AtomicI64,
    budget: Arc<Budget>,
}

fn bytes(counter: &AtomicI64) -> usize {
    usize::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0)
}

impl Budget {
    /// With a limit in bytes; 0: none.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Budget { limit: AtomicUsize::new(limit), ..Budget::default() }
    }

    /// A new borrower; what it has is given back when it is dropped.
    #[must_use]
    pub fn borrow(self: &Arc<Self>, name: String, unfinished: bool) -> Arc<Loan> {
        let loan = Arc::new(Loan { name, unfinished, used: AtomicI64::new(0), budget: Arc::clone(self) });
        let mut loans = lock(&self.loans);
        loans.retain(|each| each.strong_count() > 0);
        loans.push(Arc::downgrade(&loan));
        loan
    }

    fn all(&self) -> Vec<Arc<Loan>> {
        lock(&self.loans).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Loan {
    /// Takes so many bytes more, or gives them back.
    pub fn add(&self, delta: i64) {
        self.used.fetch_add(delta, Ordering::Relaxed);
        self.budget.used.fetch_add(delta, Ordering::Relaxed);
        if self.unfinished {
            self.budget.unfinished.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// Whether nothing more should be taken: the guaranteed part is used up, and nothing else is left.
    #[must_use]
    pub fn full(&self) -> bool {
        let limit = self.budget.limit.load(Ordering::Relaxed);
        let used = bytes(&self.budget.used);
        if limit == 0 || used < limit / 2 {
            return false;
        }
        let loans = self.budget.all();
        let part = limit / 2 / loans.len().max(1);
        let own = bytes(&self.used);
        if own < part {
            return false;
        }
        // this one is above its part and adds nothing
        let promised: usize = loans.iter().map(|loan| part.saturating_sub(bytes(&loan.used))).sum();
        used + promised >= limit
    }

    /// Whether unfinished messages have half of everything: then some of them must go, or all would wait for
    /// each other.
    #[must_use]
    pub fn choked(&self) -> bool {
        let limit = self.budget.limit.load(Ordering::Relaxed);
        limit > 0 && bytes(&self.budget.unfinished) > limit / 2
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.add(-self.used.load(Ordering::Relaxed));
    }
}

/// The unfinished messages of a server's connections.
pub struct Unfinished {
    total: usize,
    most: usize,
    loan: Option<Arc<Loan>>,
}

impl Unfinished {
    /// At most so many bytes, whatever the budget says.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Unfinished { total: 0, most, loan: None }
    }

    /// Borrows from here on.
    pub fn lend(&mut self, loan: Arc<Loan>) {
        loan.add(self.total as i64);
        self.loan = Some(loan);
    }

    /// A connection had `before` bytes and has `after`; whether that is more than there is room for.
    pub fn change(&mut self, before: usize, after: usize) -> bool {
        if before == after {
            return false;
        }
        self.total = (self.total + after).saturating_sub(before);
        if let Some(loan) = &self.loan {
            loan.add(after as i64 - before as i64);
        }
        after > before && (self.total > self.most || self.loan.as_ref().is_some_and(|loan| loan.choked()))
    }
}

/// `MemoryBudget(limit_bytes=0)`: see the module; 0: no limit.
#[pyclass(frozen, module = "forwarder._native")]
pub struct MemoryBudget {
    inner: Arc<Budget>,
}

#[pymethods]
impl MemoryBudget {
    #[new]
    #[pyo3(signature = (limit_bytes = 0))]
    fn py_new(limit_bytes: usize) -> Self {
        MemoryBudget { inner: Arc::new(Budget::new(limit_bytes)) }
    }

    /// The limit; 0: none.
    #[getter]
    fn limit_bytes(&self) -> usize {
        self.inner.limit.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_limit_bytes(&self, limit_bytes: usize) {
        self.inner.limit.store(limit_bytes, Ordering::Relaxed);
    }

    /// What all borrowers have.
    #[getter]
    fn used_bytes(&self) -> usize {
        bytes(&self.inner.used)
    }

    /// A new borrower. `unfinished`: of messages whose end has not come yet.
    #[pyo3(signature = (name, *, unfinished = false))]
    fn borrow(&self, name: String, unfinished: bool) -> MemoryLoan {
        MemoryLoan { inner: self.inner.borrow(name, unfinished) }
    }

    /// `[(name, bytes), ...]` of all borrowers.
    fn loans(&self) -> Vec<(String, usize)> {
        self.inner.all().iter().map(|loan| (loan.name.clone(), bytes(&loan.used))).collect()
    }
}

/// What one borrower has; made by `MemoryBudget.borrow`. Given back when nobody holds it any more.
#[pyclass(frozen, module = "forwarder._native")]
pub struct MemoryLoan {
    /// For native borrowers.
    pub inner: Arc<Loan>,
}

#[pymethods]
impl MemoryLoan {
    /// Takes so many bytes more, or (negative) gives them back.
    fn add(&self, delta_bytes: i64) {
        self.inner.add(delta_bytes);
    }

    /// Has so many bytes from here on.
    fn set(&self, used_bytes: i64) {
        let before = self.inner.used.load(Ordering::Relaxed);
        self.inner.add(used_bytes - before);
    }

    /// What the borrower has.
    #[getter]
    fn used_bytes(&self) -> usize {
        bytes(&self.inner.used)
    }

    /// Whether nothing more should be taken.
    #[getter]
    fn full(&self) -> bool {
        self.inner.full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_borrower_leaves_the_others_their_part() {
        let budget = Arc::new(Budget::new(1000));
        let [a, b] = ["a", "b"].map(|name| budget.borrow(name.into(), false));
        a.add(749);
        assert!(!a.full());
        a.add(1);
        assert!(a.full(), "the last quarter is b's");
        assert!(!b.full());
        b.add(249);
        assert!(!b.full());
        b.add(1);
        assert!(b.full());
        a.add(-400);
        assert!(!b.full());
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let budget = Arc::new(Budget::new(1000));
        let a = budget.borrow("a".into(), true);
        a.add(1000);
        assert!(a.full() && a.choked());
        drop(a);
        assert_eq!((bytes(&budget.used), bytes(&budget.unfinished)), (0, 0));
        let b = budget.borrow("b".into(), false);
        b.add(999);
        assert!(!b.full(), "alone it may have all");
        assert_eq!(budget.all().len(), 1);
    }

    #[test]
    fn without_a_limit_nothing_is_full() {
        let budget = Arc::new(Budget::default());
        let loan = budget.borrow("a".into(), true);
        loan.add(i64::from(i32::MAX));
        assert!(!loan.full() && !loan.choked());
    }

    #[test]
    fn unfinished_messages_have_a_limit_of_their_own() {
        let budget = Arc::new(Budget::new(1000));
        let mut held = Unfinished::new(600);
        assert!(!held.change(0, 300));
        held.lend(budget.borrow("a".into(), true));
        assert!(!held.change(300, 500));
        assert!(held.change(500, 501), "half of the budget");
        assert!(!held.change(501, 10));
        assert_eq!(bytes(&budget.used), 10);
        assert!(!Unfinished::new(600).change(0, 600));
        assert!(Unfinished::new(600).change(0, 601));
    }
}

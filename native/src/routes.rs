//! Which way each tag goes, remembered, and batches split accordingly: no Python per tag once it is known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::event::{Batch, EventBatch};

/// Spreads addresses, which are multiples of 8 or 16.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[derive(Default)]
struct Known {
    routes: HashMap<Arc<str>, u32>,
    /// The same by the address of the tag above, which stays where it is: inputs that make their tags once are
    /// looked up without reading them.
    addresses: HashMap<usize, u32, BuildHasherDefault<AddressHasher>>,
}

impl Known {
    fn get(&self, tag: &Arc<str>) -> Option<u32> {
        self.addresses.get(&address(tag)).or_else(|| self.routes.get(tag)).copied()
    }

    fn insert(&mut self, tag: &Arc<str>, route: u32, limit: usize) {
        if self.routes.len() >= limit {
            self.routes.clear();
            self.addresses.clear();
        }
        if self.routes.insert(Arc::clone(tag), route).is_none() {
            self.addresses.insert(address(tag), route);
        }
    }
}

fn address(tag: &Arc<str>) -> usize {
    Arc::as_ptr(tag).cast::<u8>() as usize
}

/// Tag -> number of its destination, as the router has decided; bounded, as tags may come from outside.
#[pyclass(frozen, module = "forwarder._native")]
pub struct TagRoutes {
    known: Mutex<Known>,
    limit: usize,
}

impl TagRoutes {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The events of each destination in `routes` (one per tag of the batch), in order of first appearance.
fn split(batch: &Batch, routes: &[u32]) -> Vec<(u32, Batch)> {
    let mut parts: Vec<(u32, Batch)> = Vec::new();
    let mut slots = Vec::with_capacity(routes.len());
    for to in routes {
        let slot = parts.iter().position(|(known, _)| known == to).unwrap_or_else(|| {
            parts.push((*to, Batch { tags: batch.tags.clone(), ..Batch::default() }));
            parts.len() - 1
        });
        slots.push(slot);
    }
    for (run, bytes) in batch.iter_runs() {
        let part = &mut parts[slots[run.tag as usize]].1;
        part.data.extend_from_slice(bytes);
        part.count += run.count as usize;
        part.runs.push(run);
    }
    parts.into_iter().map(|(to, part)| (to, part.without_unused_tags())).collect()
}

#[pymethods]
impl TagRoutes {
    /// `TagRoutes(limit)`: forgets everything when it knows `limit` tags.
    #[new]
    fn new(limit: usize) -> Self {
        TagRoutes { known: Mutex::default(), limit }
    }

    fn __len__(&self) -> usize {
        self.with(|known| known.routes.len())
    }

    /// `split(batch, resolve) -> [(destination, batch), ...]`. `resolve(tag) -> int` is asked for tags that
    /// are not known. A batch with one destination is passed on as it is.
    fn split<'py>(
        &self,
        py: Python<'py>,
        batch: &Bound<'py, EventBatch>,
        resolve: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let inner = &batch.get().batch;
        let found: Vec<Option<u32>> =
            self.with(|known| inner.tags.iter().map(|tag| known.get(tag)).collect());
        let mut routes = Vec::with_capacity(found.len());
        for (tag, route) in inner.tags.iter().zip(found) {
            routes.push(match route {
                Some(route) => route,
                None => {
                    let route = resolve.call1((&**tag,))?.extract()?;
                    self.with(|known| known.insert(tag, route, self.limit));
                    route
                }
            });
        }
        let list = PyList::empty(py);
        match routes.first() {
            None => {}
            Some(first) if routes.iter().all(|route| route == first) => list.append((*first, batch))?,
            Some(_) => {
                for (to, part) in py.detach(|| split(inner, &routes)) {
                    list.append((to, Py::new(py, EventBatch::from(part))?))?;
                }
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_wherever_it_stands() {
        let mut known = Known::default();
        let tag: Arc<str> = "a".into();
        known.insert(&tag, 7, 2);
        // by another thread, which did not know it either: the first one is kept
        let same: Arc<str> = "a".into();
        known.insert(&same, 7, 2);
        drop(same);
        assert_eq!(
            (known.get(&tag), known.get(&"a".into()), known.get(&"b".into())),
            (Some(7), Some(7), None)
        );
        assert_eq!((known.routes.len(), known.addresses.len()), (1, 1));
        known.insert(&"b".into(), 8, 2);
        known.insert(&"c".into(), 9, 2);
        assert_eq!((known.get(&tag), known.get(&"c".into())), (None, Some(9)));
        assert_eq!(known.addresses.len(), 1);
    }

    #[test]
    fn parts_keep_the_order_and_their_own_tags() {
        let mut batch = Batch { tags: vec!["a".into(), "b".into(), "c".into()], ..Batch::default() };
        for (tag, byte) in [(0, b'1'), (1, b'2'), (0, b'3'), (2, b'4')] {
            batch.data.push(byte);
            batch.book(tag, 1);
        }
        let parts = split(&batch, &[7, 3, 7]);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].0, &parts[0].1.data[..], parts[0].1.count), (7, &b"134"[..], 3));
        assert_eq!(parts[0].1.tags, [Arc::from("a"), Arc::from("c")]);
        assert_eq!((parts[1].0, &parts[1].1.data[..]), (3, &b"2"[..]));
        assert_eq!(parts[1].1.tags, [Arc::from("b")]);
    }
}

//! Which way each tag goes, remembered, and batches split accordingly: no Python per tag once it is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::event::{Batch, EventBatch};

/// Tag -> number of its destination, as the router has decided; bounded, as tags may come from outside.
#[pyclass(frozen, module = "forwarder._native")]
pub struct TagRoutes {
    known: Mutex<HashMap<Arc<str>, u32>>,
    limit: usize,
}

impl TagRoutes {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Arc<str>, u32>) -> T) -> T {
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
        self.with(|known| known.len())
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
            self.with(|known| inner.tags.iter().map(|tag| known.get(tag).copied()).collect());
        let mut routes = Vec::with_capacity(found.len());
        for (tag, route) in inner.tags.iter().zip(found) {
            routes.push(match route {
                Some(route) => route,
                None => {
                    let route = resolve.call1((&**tag,))?.extract()?;
                    self.with(|known| {
                        if known.len() >= self.limit {
                            known.clear();
                        }
                        known.insert(Arc::clone(tag), route);
                    });
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

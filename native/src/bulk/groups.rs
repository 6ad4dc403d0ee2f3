//! Entries of a chunk by what templates give for them: parameters of `elasticsearch_dynamic` that are not the index.

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Source;
use super::expression::{Scope, Template};
use crate::event::EventStream;
use crate::msgpack::Entries;

/// `BulkGroups(templates, delimiter)`: for any number of threads.
#[pyclass(frozen, module = "forwarder._native")]
pub struct BulkGroups {
    templates: Vec<Template>,
}

/// Some entries, one behind the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    data: Vec<u8>,
    count: usize,
}

/// The groups with their texts, and what belongs to none.
type Divided<T> = (Vec<(Vec<String>, T)>, T);

/// The groups with their texts, in the order of their first events, and the entries for which a template gives nothing.
fn divide(templates: &[Template], blocks: &[&[u8]], tag: Option<&str>) -> Result<Divided<Group>, String> {
    let mut clocks = templates.iter().map(Template::clocks).collect::<Result<Vec<_>, _>>()?;
    let mut groups: Vec<(Vec<String>, Group)> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut failed = Group::default();
    let mut key = Vec::new();
    for entry in blocks.iter().flat_map(|block| Entries::new(block).map_while(Result::ok)) {
        let scope = Scope { tag, time_ns: entry.time_ns, body: entry.body, pairs: entry.pairs };
        key.clear();
        let mut ends = Vec::with_capacity(templates.len());
        let whole = templates.iter().zip(&mut clocks).all(|(template, clocks)| {
            let written = template.write(&scope, clocks, &mut key);
            key.push(0);
            ends.push(key.len());
            written
        });
        let group = if !whole {
            &mut failed
        } else if let Some(place) = places.get(&key) {
            &mut groups[*place].1
        } else {
            let mut start = 0;
            let texts = ends.iter().map(|end| {
                let text = String::from_utf8_lossy(&key[start..end - 1]).into_owned();
                start = *end;
                text
            });
            groups.push((texts.collect(), Group::default()));
            places.insert(key.clone(), groups.len() - 1);
            let last = groups.len() - 1;
            &mut groups[last].1
        };
        group.data.extend_from_slice(entry.bytes);
        group.count += 1;
    }
    Ok((groups, failed))
}

fn stream(py: Python<'_>, group: &Group) -> PyResult<Py<EventStream>> {
    Py::new(py, EventStream { data: PyBytes::new(py, &group.data).unbind(), count: group.count })
}

#[pymethods]
impl BulkGroups {
    #[new]
    fn new(templates: Vec<String>, delimiter: &str) -> PyResult<Self> {
        let templates = templates.iter().map(|text| Template::new(text, delimiter));
        let templates = templates.collect::<Result<_, _>>().map_err(PyValueError::new_err)?;
        Ok(BulkGroups { templates })
    }

    /// `divide(data, tag) -> (groups, failed)`
    fn divide(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        tag: Option<&str>,
    ) -> PyResult<Divided<Py<EventStream>>> {
        let source = Source::of(data)?;
        let blocks = source.slices(py);
        let (groups, failed) =
            py.detach(|| divide(&self.templates, &blocks, tag)).map_err(PyValueError::new_err)?;
        let groups = groups.into_iter().map(|(texts, group)| Ok((texts, stream(py, &group)?)));
        Ok((groups.collect::<PyResult<_>>()?, stream(py, &failed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json_in, msgpack};

    #[test]
    fn events_are_divided() {
        let mut data = Vec::new();
        let mut bounds = vec![0];
        for record in [r#"{"h":"a","k":"x"}"#, r#"{"h":"b"}"#, r#"{"k":"x"}"#, r#"{"h":"a","k":"x"}"#] {
            msgpack::write_entry_start(&mut data, 1_700_000_000_000_000_000);
            json_in::transcode(record.as_bytes(), &mut data).unwrap();
            bounds.push(data.len());
        }
        let templates = ["${record['h']}", "${record['k'].to_s}-${tag}"];
        let templates: Vec<_> = templates.iter().map(|text| Template::new(text, ".").unwrap()).collect();
        let (groups, failed) =
            divide(&templates, &[&data[..bounds[2]], &data[bounds[2]..]], Some("t")).unwrap();
        let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        let entry = |number: usize| &data[bounds[number]..bounds[number + 1]];
        assert_eq!(
            groups,
            [
                (texts(["a", "x-t"]), Group { data: [entry(0), entry(3)].concat(), count: 2 }),
                (texts(["b", "-t"]), Group { data: entry(1).to_vec(), count: 1 }),
            ]
        );
        assert_eq!(failed, Group { data: entry(2).to_vec(), count: 1 });
    }
}

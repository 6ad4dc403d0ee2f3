//! Whole-second times: what a peer from before `EventTime` understands.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::event::EventBatch;
use crate::msgpack::{self, Malformed};

/// All entries of `data` with integer seconds as time. A fraction is cut off; integer times stay.
///
/// # Errors
/// [`Malformed`] for what is no event stream.
pub fn rewrite(data: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(data.len());
    let mut pos = 0;
    while pos < data.len() {
        let entry = msgpack::read_entry(data, &mut pos)?;
        out.push(0x92);
        msgpack::write_int(&mut out, entry.time_ns.div_euclid(1_000_000_000));
        // the record's header stands between the time and its first pair
        msgpack::write_map_header(&mut out, entry.pairs);
        out.extend_from_slice(entry.body);
    }
    Ok(out)
}

/// `integer_times(batch) -> bytes`: the batch's entries with whole seconds as times.
#[pyfunction]
pub fn integer_times<'py>(py: Python<'py>, batch: &EventBatch) -> PyResult<Bound<'py, PyBytes>> {
    let data = py.detach(|| rewrite(&batch.batch.data));
    let data = data.map_err(|why| PyValueError::new_err(why.to_string()))?;
    Ok(PyBytes::new(py, &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_integers_and_records_stay() {
        let mut data = Vec::new();
        msgpack::write_entry_start(&mut data, 1_700_000_000_999_999_999);
        msgpack::write_map_header(&mut data, 1);
        msgpack::write_str(&mut data, b"k");
        msgpack::write_bin(&mut data, &[0xff]);
        data.extend_from_slice(&[0x92, 0x05, 0x80]);
        let out = rewrite(&data).unwrap();
        assert_eq!(out, b"\x92\xce\x65\x53\xf1\x00\x81\xa1k\xc4\x01\xff\x92\x05\x80");
        assert_eq!(rewrite(b"\x92\x05"), Err(Malformed::Truncated));
        assert_eq!(rewrite(b""), Ok(Vec::new()));
    }
}

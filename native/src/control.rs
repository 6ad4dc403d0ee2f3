//! Single MessagePack values between Python and a peer: the handshake and the acks of the forward protocol.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes};

use crate::msgpack::{Malformed, skip_value};
use crate::python::{python_to_value, value_to_python};

/// `msgpack_pack(value) -> bytes`.
#[pyfunction]
pub fn msgpack_pack<'py>(py: Python<'py>, value: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::new();
    python_to_value(&mut out, value, 1)?;
    Ok(PyBytes::new(py, &out))
}

/// `msgpack_unpack(data) -> (value, size) | None`: the first value and how many bytes it has; None where
/// its end has not come yet.
#[pyfunction]
pub fn msgpack_unpack<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, usize)>> {
    let mut size = 0;
    // looked over first: a length that lies must not make us build its beginning again and again
    match skip_value(data, &mut size) {
        Ok(()) => {}
        Err(Malformed::Truncated) => return Ok(None),
        Err(why) => return Err(PyValueError::new_err(why.to_string())),
    }
    Ok(Some((value_to_python(py, data, &mut 0, 1)?, size)))
}

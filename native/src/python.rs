//! Between MessagePack bytes and Python objects, for the places where Python code asks for a record.
//!
//! `str` <-> valid UTF-8, `bytes` <-> bin (a `str` in the stream that is not UTF-8 comes out as `bytes`
//! too), int, float, bool, None, dict, list/tuple; `EventTime` inside a record comes out as float
//! seconds, another ext value as `bytes`.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::msgpack::{self, Entry, MAX_DEPTH, Token};

/// `(time_ns, record)` of one entry.
///
/// # Errors
/// `ValueError` for malformed bytes (the entry was checked, so only for too deep nesting).
pub fn entry_to_python<'py>(py: Python<'py>, entry: &Entry<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let record = pairs_to_python(py, entry.body, entry.pairs)?;
    (entry.time_ns, record).into_pyobject(py)
}

/// A dict of `pairs` key/value pairs.
///
/// # Errors
/// `ValueError` for malformed bytes.
pub fn pairs_to_python<'py>(py: Python<'py>, body: &[u8], pairs: usize) -> PyResult<Bound<'py, PyDict>> {
    let mut pos = 0;
    map_to_python(py, body, &mut pos, pairs, 1)
}

fn malformed(why: msgpack::Malformed) -> PyErr {
    PyValueError::new_err(why.to_string())
}

fn text_to_python<'py>(py: Python<'py>, raw: &[u8]) -> Bound<'py, PyAny> {
    match simdutf8::basic::from_utf8(raw) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, raw).into_any(),
    }
}

fn map_to_python<'py>(
    py: Python<'py>,
    data: &[u8],
    pos: &mut usize,
    pairs: usize,
    depth: u32,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for _ in 0..pairs {
        let key = value_to_python(py, data, pos, depth)?;
        let value = value_to_python(py, data, pos, depth)?;
        match dict.set_item(&key, &value) {
            Ok(()) => {}
            // an array or map as key: legal MessagePack, not hashable here
            Err(_) => dict.set_item(key.repr()?, value)?,
        }
    }
    Ok(dict)
}

/// One value of any kind; moves `pos` behind it.
///
/// # Errors
/// `ValueError` for malformed bytes.
pub fn value_to_python<'py>(
    py: Python<'py>,
    data: &[u8],
    pos: &mut usize,
    depth: u32,
) -> PyResult<Bound<'py, PyAny>> {
    if depth > MAX_DEPTH {
        return Err(malformed(msgpack::Malformed::TooDeep));
    }
    Ok(match msgpack::read_token(data, pos).map_err(malformed)? {
        Token::Nil => py.None().into_bound(py),
        Token::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Token::Uint(value) => value.into_pyobject(py)?.into_any(),
        Token::Int(value) => value.into_pyobject(py)?.into_any(),
        Token::Float(value) => PyFloat::new(py, value).into_any(),
        Token::Str(raw) => text_to_python(py, raw),
        Token::Ext(0, raw) if raw.len() == 8 => {
            let seconds = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
            let nanos = u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]);
            PyFloat::new(py, f64::from(seconds) + f64::from(nanos) / 1e9).into_any()
        }
        Token::Bin(raw) | Token::Ext(_, raw) => PyBytes::new(py, raw).into_any(),
        Token::Array(len) => {
            let list = PyList::empty(py);
            for _ in 0..len {
                list.append(value_to_python(py, data, pos, depth + 1)?)?;
            }
            list.into_any()
        }
        Token::Map(len) => map_to_python(py, data, pos, len, depth + 1)?.into_any(),
    })
}

/// Appends `[time, record]`.
///
/// # Errors
/// `TypeError` for a record that is no dict or a value that MessagePack has no form for;
/// `OverflowError` for an integer beyond 64 bits; `ValueError` for too deep nesting.
pub fn python_to_entry(out: &mut Vec<u8>, time_ns: i64, record: &Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(record) = record.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!("a record is a dict, not {}", record.get_type().name()?)));
    };
    msgpack::write_entry_start(out, time_ns);
    python_to_map(out, record, 1)
}

fn python_to_map(out: &mut Vec<u8>, dict: &Bound<'_, PyDict>, depth: u32) -> PyResult<()> {
    msgpack::write_map_header(out, dict.len());
    for (key, value) in dict {
        python_to_value(out, &key, depth)?;
        python_to_value(out, &value, depth)?;
    }
    Ok(())
}

/// Appends any value.
///
/// # Errors
/// As [`python_to_entry`].
pub fn python_to_value(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: u32) -> PyResult<()> {
    if depth > MAX_DEPTH {
        return Err(malformed(msgpack::Malformed::TooDeep));
    }
    if value.is_none() {
        msgpack::write_nil(out);
    } else if let Ok(text) = value.cast::<PyString>() {
        match text.to_str() {
            Ok(text) => msgpack::write_str(out, text.as_bytes()),
            // lone surrogates: keep the bytes that "surrogatepass" gives
            Err(_) => {
                let raw = value.call_method1("encode", ("utf-8", "surrogatepass"))?;
                msgpack::write_bin(out, raw.cast::<PyBytes>()?.as_bytes());
            }
        }
    } else if let Ok(flag) = value.cast::<PyBool>() {
        msgpack::write_bool(out, flag.is_true());
    } else if value.is_instance_of::<PyInt>() {
        if let Ok(number) = value.extract::<i64>() {
            msgpack::write_int(out, number);
        } else if let Ok(number) = value.extract::<u64>() {
            msgpack::write_uint(out, number);
        } else {
            return Err(PyOverflowError::new_err(format!(
                "{value} does not fit the 64 bits of a MessagePack integer"
            )));
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        msgpack::write_float(out, number.value());
    } else if let Ok(raw) = value.cast::<PyBytes>() {
        msgpack::write_bin(out, raw.as_bytes());
    } else if let Ok(dict) = value.cast::<PyDict>() {
        python_to_map(out, dict, depth + 1)?;
    } else if let Ok(list) = value.cast::<PyList>() {
        msgpack::write_array_header(out, list.len());
        for item in list {
            python_to_value(out, &item, depth + 1)?;
        }
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        msgpack::write_array_header(out, tuple.len());
        for item in tuple {
            python_to_value(out, &item, depth + 1)?;
        }
    } else {
        return Err(PyTypeError::new_err(format!("a record cannot hold {}", value.get_type().name()?)));
    }
    Ok(())
}

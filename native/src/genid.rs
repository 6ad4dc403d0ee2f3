//! The filter elasticsearch_genid: a field with an id for the document, random or a digest of the event.

use md5::Md5;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::accessor::Accessor;
use crate::event::{Batch, EventBatch, Run};
use crate::formatters::read_event;
use crate::inject::write_with_fields;
use crate::msgpack::{self, Malformed, Token, read_token};
use crate::ruby_inspect::write_to_s;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[derive(Clone, Copy)]
enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, seed: &[u8]) -> Vec<u8> {
        match self {
            Hash::Md5 => Md5::digest(seed).to_vec(),
            Hash::Sha1 => Sha1::digest(seed).to_vec(),
            Hash::Sha256 => Sha256::digest(seed).to_vec(),
            Hash::Sha512 => Sha512::digest(seed).to_vec(),
        }
    }
}

enum Seed {
    Random,
    /// Every field.
    Record,
    /// These fields.
    Fields(Vec<Accessor>),
}

/// Adds an id to every record.
#[pyclass(frozen, module = "forwarder._native")]
pub struct GenId {
    name: String,
    seed: Seed,
    with_tag: bool,
    with_time: bool,
    separator: String,
    hash: Hash,
}

/// Why a batch got no ids.
#[derive(Debug)]
pub enum Failure {
    /// It is no event stream.
    Malformed(Malformed),
    /// The system gives no random bytes.
    Random(getrandom::Error),
}

impl From<Malformed> for Failure {
    fn from(why: Malformed) -> Self {
        Failure::Malformed(why)
    }
}

impl GenId {
    /// The batch with ids.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn apply(&self, batch: &Batch) -> Result<Batch, Failure> {
        let mut data = Vec::with_capacity(batch.data.len() + batch.count * (self.name.len() + 60));
        let mut runs = Vec::with_capacity(batch.runs.len());
        let names = [self.name.as_bytes()];
        let mut values = [Vec::new()];
        let mut seed = Vec::new();
        for (run, bytes) in batch.iter_runs() {
            let start = data.len();
            let mut pos = 0;
            while pos < bytes.len() {
                let head = pos;
                let event = read_event(bytes, pos)?;
                seed.clear();
                if let Seed::Random = self.seed {
                    write_uuid(&mut seed)?;
                } else {
                    if self.with_tag {
                        seed.extend_from_slice(batch.tags[run.tag as usize].as_bytes());
                        seed.extend_from_slice(self.separator.as_bytes());
                    }
                    if self.with_time {
                        let seconds = event.time_ns.div_euclid(1_000_000_000);
                        seed.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
                        seed.extend_from_slice(self.separator.as_bytes());
                    }
                    self.write_fields(&event.data[event.pos..], event.pairs, &mut seed)?;
                    seed = self.hash.digest(&seed);
                }
                values[0].clear();
                msgpack::write_str(&mut values[0], &base64(&seed));
                pos = write_with_fields(&mut data, head, &event, &names, &values)?;
            }
            runs.push(Run { len: data.len() - start, ..run });
        }
        Ok(Batch { tags: batch.tags.clone(), runs, data, count: batch.count })
    }

    fn write_fields(&self, body: &[u8], pairs: usize, seed: &mut Vec<u8>) -> Result<(), Malformed> {
        match &self.seed {
            Seed::Random => {}
            Seed::Record => {
                let mut pos = 0;
                for _ in 0..pairs * 2 {
                    seed.push(b'|');
                    write_to_s(seed, body, &mut pos)?;
                }
            }
            Seed::Fields(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        seed.extend_from_slice(self.separator.as_bytes());
                    }
                    if let Some(value) = field.get(body, pairs) {
                        self.write_joined(value, &mut 0, seed)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// As Ruby's `join`, which goes into arrays.
    fn write_joined(&self, value: &[u8], pos: &mut usize, seed: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = *pos;
        let Token::Array(len) = read_token(value, pos)? else {
            *pos = start;
            return write_to_s(seed, value, pos);
        };
        for index in 0..len {
            if index > 0 {
                seed.extend_from_slice(self.separator.as_bytes());
            }
            // one level: a deeper array is printed as it is, so that depth costs no stack
            write_to_s(seed, value, pos)?;
        }
        Ok(())
    }
}

fn write_uuid(out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(Failure::Random)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
        out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(if place <= group.len() {
                BASE64[(word >> (18 - 6 * place) & 63) as usize]
            } else {
                b'='
            });
        }
    }
    out
}

#[pymethods]
impl GenId {
    /// `GenId(name, keys, entire, with_tag, with_time, separator, hash)`; `keys` None and not `entire`: random.
    #[new]
    fn new(
        name: String,
        keys: Option<Vec<String>>,
        entire: bool,
        with_tag: bool,
        with_time: bool,
        separator: String,
        hash: &str,
    ) -> PyResult<Self> {
        let seed = match keys {
            _ if entire => Seed::Record,
            None => Seed::Random,
            Some(keys) => {
                let plain = |key: &String| {
                    Accessor::from_steps(vec![crate::accessor::Step::Key(key.as_bytes().to_vec())])
                };
                Seed::Fields(keys.iter().map(plain).collect())
            }
        };
        let hash = match hash {
            "md5" => Hash::Md5,
            "sha1" => Hash::Sha1,
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            other => return Err(PyValueError::new_err(format!("no such hash: {other}"))),
        };
        Ok(GenId { name, seed, with_tag, with_time, separator, hash })
    }

    /// The batch with ids. Raises `ValueError`, `OSError`.
    #[pyo3(name = "apply")]
    fn apply_python(&self, py: Python<'_>, batch: &EventBatch) -> PyResult<EventBatch> {
        match py.detach(|| self.apply(&batch.batch)) {
            Ok(out) => Ok(out.into()),
            Err(Failure::Malformed(why)) => Err(PyValueError::new_err(why.to_string())),
            Err(Failure::Random(why)) => Err(PyOSError::new_err(why.to_string())),
        }
    }
}

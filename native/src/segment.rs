//! Segment files of the file buffer: their format, and the scan that reads them after a crash.
//!
//! # Format (little endian)
//! A segment is a header of 32 bytes and records, one after the other, without padding:
//!
//! | bytes | segment header |
//! |---|---|
//! | 8 | `FWDSEG\x01\n`: magic and version |
//! | 8 | salt, random; also in the file's name, so that a rotten header costs nothing |
//! | 8 | number of the segment |
//! | 4 | CRC32C of the 24 bytes before |
//! | 4 | zero |
//!
//! | bytes | record |
//! |---|---|
//! | 4 | mark `FWRC` |
//! | 4 | CRC32C of salt, the rest of the head, and the metadata |
//! | 4, 4 | length of the metadata, length of the data |
//! | 4 | CRC32C of salt and data |
//! | 4, 4 | events in the data; number of the record within its chunk, from 0 |
//! | 1, 3 | codec of the data; zero |
//! | 16 | id of the chunk |
//! | 8 | when the chunk was created: nanoseconds since the epoch |
//! | n | metadata of the chunk (its key), the same in all of its records |
//! | n | data |
//!
//! A segment may be written over an old one that is not needed any more, which is longer at first. Then an end
//! mark follows the records: a head without metadata and data, of codec 255. What is behind it is the old one's.
//! The checksums of that have another salt. Where name and header do not agree, the header's salt counts: a power
//! loss may undo the renaming.
//!
//! # Invariants
//! - A record stands for itself: id, key, time and place in the chunk are in it. No other record and no
//!   journal is needed to deliver it.
//! - A record is known by (chunk id, number): a copy in another segment is the same record.
//! - Two checksums: rotten data do not hide where the next record starts, nor how many events are lost.
//! - Checksums are salted: whoever writes a "record" into a log message cannot have it taken for one.
//! - Every byte behind the segment header belongs to exactly one record, bad range or end of the scan.

use std::io;

/// Size of the header of a segment.
pub const SEGMENT_HEADER: usize = 32;
/// Size of the head of a record, without metadata.
pub const RECORD_HEADER: usize = 56;
const MAGIC: [u8; 8] = *b"FWDSEG\x01\n";
const MARK: [u8; 4] = *b"FWRC";
/// The codec of an end mark.
const END: u8 = 255;
/// Longest metadata that is believed.
const META_MAX: usize = 16 << 20;
const WINDOW: usize = 256 << 10;
/// Larger steps than this are jumped over rather than read, where the data are not verified.
const JUMP: u64 = 16 << 10;

/// What the head of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Length of the metadata in bytes.
    pub meta_len: u32,
    /// Length of the data in bytes.
    pub data_len: u32,
    /// Checksum of the data.
    pub data_crc: u32,
    /// Number of events in the data.
    pub events: u32,
    /// Number of the record within its chunk.
    pub seq: u32,
    /// How the data are compressed; no meaning here.
    pub codec: u8,
    /// Id of the chunk.
    pub id: [u8; 16],
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
}

impl Head {
    /// Size of the whole record in bytes.
    #[must_use]
    pub fn record_len(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.meta_len) + u64::from(self.data_len)
    }

    fn is_end(&self) -> bool {
        self.codec == END && self.meta_len == 0 && self.data_len == 0
    }
}

/// The mark behind the last record.
#[must_use]
pub fn end_mark(salt: u64) -> Vec<u8> {
    let data_crc = checksum(salt, &[]);
    let head = Head {
        meta_len: 0,
        data_len: 0,
        data_crc,
        events: 0,
        seq: 0,
        codec: END,
        id: [0; 16],
        created_ns: 0,
    };
    let mut mark = Vec::with_capacity(RECORD_HEADER);
    write_head(&mut mark, salt, &head, &[]);
    mark
}

/// The header of a segment.
#[must_use]
pub fn segment_header(number: u64, salt: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&salt.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The salt in the header of a segment; None: the header is rotten.
#[must_use]
pub fn header_salt(header: &[u8; SEGMENT_HEADER]) -> Option<u64> {
    let mut salt = [0; 8];
    salt.copy_from_slice(&header[8..16]);
    (header[..8] == MAGIC && crc32c::crc32c(&header[..24]) == u32_at(header, 24))
        .then_some(u64::from_le_bytes(salt))
}

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u64, salt: u64) -> String {
    format!("segment-{number:010}-{salt:016x}.seg")
}

/// Number and salt from a file's name; None: no segment.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let (number, salt) = name.strip_prefix("segment-")?.strip_suffix(".seg")?.split_once('-')?;
    if salt.len() != 16 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, u64::from_str_radix(salt, 16).ok()?))
}

/// Salted checksum.
#[must_use]
pub fn checksum(salt: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), data)
}

/// Appends head and metadata of a record; the data follow them in the file.
pub fn write_head(out: &mut Vec<u8>, salt: u64, head: &Head, meta: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 4]);
    for number in [head.meta_len, head.data_len, head.data_crc, head.events, head.seq] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[head.codec, 0, 0, 0]);
    out.extend_from_slice(&head.id);
    out.extend_from_slice(&head.created_ns.to_le_bytes());
    out.extend_from_slice(meta);
    let crc = checksum(salt, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Why bytes are not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// They may be the start of one.
    TooShort,
    /// They are not.
    Wrong,
}

/// Reads a head; `bytes` start with it and hold its metadata too.
///
/// # Errors
/// [`NoHead`].
pub fn read_head(salt: u64, bytes: &[u8]) -> Result<Head, NoHead> {
    if bytes.len() < RECORD_HEADER {
        return Err(NoHead::TooShort);
    }
    let meta_len = u32_at(bytes, 8) as usize;
    if bytes[..4] != MARK || meta_len > META_MAX {
        return Err(NoHead::Wrong);
    }
    let Some(checked) = bytes.get(8..RECORD_HEADER + meta_len) else { return Err(NoHead::TooShort) };
    if checksum(salt, checked) != u32_at(bytes, 4) {
        return Err(NoHead::Wrong);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[32..48]);
    let mut created = [0; 8];
    created.copy_from_slice(&bytes[48..56]);
    Ok(Head {
        meta_len: meta_len as u32,
        data_len: u32_at(bytes, 12),
        data_crc: u32_at(bytes, 16),
        events: u32_at(bytes, 20),
        seq: u32_at(bytes, 24),
        codec: bytes[28],
        id,
        created_ns: i64::from_le_bytes(created),
    })
}

/// What a scan reads from: a file, or bytes in tests.
pub trait Source {
    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// Of the system.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for std::fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Why bytes are no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The file ends inside the record, or behind no record.
    Torn,
    /// A checksum does not match.
    Corrupt,
    /// The system cannot read it.
    Unreadable,
}

impl Why {
    /// As it stands in logs.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Why::Torn => "torn",
            Why::Corrupt => "corrupt",
            Why::Unreadable => "unreadable",
        }
    }
}

/// One finding of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A sound record; `offset` is that of its head.
    Record {
        /// Of the head, from the start of the file.
        offset: u64,
        /// What it says.
        head: Head,
        /// The chunk's metadata.
        meta: Vec<u8>,
    },
    /// Bytes that are no record.
    Bad {
        /// From the start of the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// The head, where that is sound and only the data are not.
        head: Option<Head>,
        /// The reason.
        why: Why,
    },
    /// An end mark, and what an older segment has left behind it.
    End {
        /// From the start of the file.
        offset: u64,
        /// How many bytes, the mark included.
        len: u64,
    },
}

impl Item {
    /// How many bytes of the file it is.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Item::Record { head, .. } => head.record_len(),
            Item::Bad { len, .. } | Item::End { len, .. } => *len,
        }
    }
}

/// A part of the source in memory.
struct Window<'a, S: Source + ?Sized> {
    source: &'a S,
    size: u64,
    buf: Vec<u8>,
    start: u64,
}

impl<S: Source + ?Sized> Window<'_, S> {
    /// Up to `want` bytes from `offset`: fewer only at the end of the source.
    fn get(&mut self, offset: u64, want: usize, ahead: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let end = offset + want as u64;
        if offset < self.start || end > self.start + self.buf.len() as u64 {
            let room = want.max(ahead).min(usize::try_from(self.size - offset).unwrap_or(usize::MAX));
            self.buf.resize(room, 0);
            self.start = offset;
            let mut filled = 0;
            while filled < room {
                match self.source.read_at(&mut self.buf[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.buf.truncate(filled);
                        if filled >= want {
                            break;
                        }
                        return Err(error);
                    }
                }
            }
            self.buf.truncate(filled);
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buf[from..(from + want).min(self.buf.len())])
    }

    fn head(&mut self, salt: u64, offset: u64, ahead: usize) -> io::Result<Result<(Head, Vec<u8>), NoHead>> {
        let mut bytes = self.get(offset, RECORD_HEADER, ahead)?;
        if bytes.len() == RECORD_HEADER && bytes[..4] == MARK {
            let meta_len = u32_at(bytes, 8) as usize;
            if meta_len <= META_MAX {
                bytes = self.get(offset, RECORD_HEADER + meta_len, ahead)?;
            }
        }
        Ok(read_head(salt, bytes)
            .map(|head| (head, bytes[RECORD_HEADER..RECORD_HEADER + head.meta_len as usize].to_vec())))
    }

    fn data_is_sound(&mut self, salt: u64, mut offset: u64, head: &Head) -> io::Result<bool> {
        let mut left = head.data_len as usize;
        let mut crc = checksum(salt, &[]);
        while left > 0 {
            let part = self.get(offset, left.min(WINDOW), WINDOW)?;
            if part.is_empty() {
                return Ok(false);
            }
            crc = crc32c::crc32c_append(crc, part);
            offset += part.len() as u64;
            left -= part.len();
        }
        Ok(crc == head.data_crc)
    }

    /// The next offset from `offset` on at which a sound head starts: of a record or, where `ends`, an end mark.
    fn resync(&mut self, salt: u64, mut offset: u64, ends: bool) -> io::Result<Option<u64>> {
        while offset + RECORD_HEADER as u64 <= self.size {
            let part = self.get(offset, WINDOW, WINDOW)?;
            match memchr::memmem::find(part, &MARK) {
                Some(at) => {
                    let found = offset + at as u64;
                    if self.head(salt, found, WINDOW)?.is_ok_and(|(head, _)| ends || !head.is_end()) {
                        return Ok(Some(found));
                    }
                    offset = found + 1;
                }
                None if part.len() < MARK.len() => return Ok(None),
                // the mark may lie across the edge of the window
                None => offset += (part.len() - (MARK.len() - 1)) as u64,
            }
        }
        Ok(None)
    }
}

/// Reads a segment of `size` bytes record by record, and finds its way behind what is rotten.
///
/// `verify`: reads the data and compares their checksums; otherwise only the heads, which is fast however
/// large the data are: rotten data are found when they are read then. The data of the last record before an end
/// or a bad range are always compared: an append that was cut short may have begun there.
pub fn scan<S: Source + ?Sized>(source: &S, size: u64, salt: u64, verify: bool, mut found: impl FnMut(Item)) {
    let mut window = Window { source, size, buf: Vec::new(), start: 0 };
    let mut offset = (SEGMENT_HEADER as u64).min(size);
    let mut ahead = if verify { WINDOW } else { 4096 };
    let mut unverified = None;
    while offset < size {
        let outcome = step(&mut window, salt, offset, verify, ahead);
        let item =
            outcome.unwrap_or(Item::Bad { offset, len: size - offset, head: None, why: Why::Unreadable });
        offset += item.size();
        if let Some(before) = unverified.take() {
            let last = !matches!(item, Item::Record { .. });
            found(if last { verified(&mut window, salt, before) } else { before });
        }
        match item {
            Item::Record { ref head, .. } if !verify => {
                ahead = if head.record_len() > JUMP { 4096 } else { WINDOW };
                unverified = Some(item);
            }
            _ => found(item),
        }
    }
    if let Some(item) = unverified {
        found(item);
    }
}

/// The record, or what it turns out to be.
fn verified<S: Source + ?Sized>(window: &mut Window<'_, S>, salt: u64, item: Item) -> Item {
    let Item::Record { offset, head, .. } = item else { return item };
    let len = head.record_len();
    let why = match window.data_is_sound(salt, offset + len - u64::from(head.data_len), &head) {
        Ok(true) => return item,
        Ok(false) => Why::Corrupt,
        Err(_) => Why::Unreadable,
    };
    Item::Bad { offset, len, head: Some(head), why }
}

fn step<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    salt: u64,
    offset: u64,
    verify: bool,
    ahead: usize,
) -> io::Result<Item> {
    let size = window.size;
    let bad = |len, head, why| Item::Bad { offset, len, head, why };
    match window.head(salt, offset, ahead)? {
        Ok((head, _)) if head.is_end() => {
            Ok(match window.resync(salt, offset + RECORD_HEADER as u64, false)? {
                // after a power loss the younger part of the file may be there, and the older not
                Some(next) => bad(next - offset, None, Why::Torn),
                None => Item::End { offset, len: size - offset },
            })
        }
        Ok((head, meta)) => {
            let len = head.record_len();
            let data = offset + len - u64::from(head.data_len);
            Ok(if len > size - offset {
                bad(size - offset, Some(head), Why::Torn)
            } else if verify && !window.data_is_sound(salt, data, &head)? {
                bad(len, Some(head), Why::Corrupt)
            } else {
                Item::Record { offset, head, meta }
            })
        }
        Err(_) => Ok(match window.resync(salt, offset + 1, true)? {
            Some(next) => bad(next - offset, None, Why::Corrupt),
            None => bad(size - offset, None, Why::Torn),
        }),
    }
}

#[cfg(test)]
mod tests;

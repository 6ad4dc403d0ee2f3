//! Whether bytes may hold a field of a certain name, found without walking the records.

use memchr::memmem::Finder;

/// The names of fields that need a closer look at an event.
#[derive(Default)]
pub struct Keys {
    finders: Vec<Finder<'static>>,
}

impl Keys {
    /// Adds a name.
    pub fn add(&mut self, key: &[u8]) {
        if !self.finders.iter().any(|finder| finder.needle() == key) {
            self.finders.push(Finder::new(key).into_owned());
        }
    }

    /// False only where none of the names is a key in `data`, whichever form of MessagePack the key has. A
    /// value may be taken for a key.
    #[inline]
    pub fn may_be_in(&self, data: &[u8]) -> bool {
        self.finders.iter().any(|finder| found(finder, data))
    }
}

fn found(finder: &Finder<'_>, data: &[u8]) -> bool {
    let len = finder.needle().len();
    // every form of a string ends its head with the length's lowest byte, but for the shortest one
    let heads = [len as u8, if len < 32 { 0xa0 | len as u8 } else { len as u8 }];
    let mut from = 0;
    while let Some(at) = finder.find(&data[from..]).map(|at| at + from) {
        if at > 0 && heads.contains(&data[at - 1]) {
            return true;
        }
        from = at + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack;

    #[test]
    fn every_form_of_a_key_is_seen() {
        for len in [0, 1, 3, 31, 32, 255, 256, 70_000] {
            let name = vec![b'k'; len];
            let mut keys = Keys::default();
            keys.add(&name);
            let short = (len < 32).then(|| vec![0xa0 | len as u8]);
            let one = (len < 256).then(|| vec![0xd9, len as u8]);
            let two = (len < 65_536).then(|| [&[0xda][..], &(len as u16).to_be_bytes()].concat());
            let four = Some([&[0xdb][..], &(len as u32).to_be_bytes()].concat());
            for head in [short, one, two, four].into_iter().flatten() {
                let data = [b"\x92\x01\x81", head.as_slice(), &name, b"\x01"].concat();
                assert!(keys.may_be_in(&data), "{len} {head:?}");
            }
        }
    }

    #[test]
    fn a_word_within_a_text_is_no_key() {
        let mut keys = Keys::default();
        keys.add(b"tag");
        keys.add(b"@timestamp");
        let mut data = Vec::new();
        msgpack::write_str(&mut data, b"the stage of tags and @timestamp");
        assert!(!keys.may_be_in(&data));
        assert!(!Keys::default().may_be_in(&data));
        msgpack::write_str(&mut data, b"tag");
        assert!(keys.may_be_in(&data));
    }
}

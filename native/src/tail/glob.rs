//! Which files a pattern names: Ruby's `Dir.glob`, with what the system says of each file.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::file::Status;

/// Alternatives that braces may give.
const MAX_ALTERNATIVES: usize = 4096;
/// Folders below each other that `**` follows.
const MAX_DEPTH: usize = 128;

/// A pattern of one part of a path.
#[derive(Debug, Clone)]
enum Part {
    Literal(Vec<u8>),
    /// `**`: any folders, or none.
    Folders,
    Pattern(Vec<u8>),
}

/// Patterns for paths; `{a,b}` gives several.
pub struct Glob {
    alternatives: Vec<(bool, Vec<Part>)>,
}

impl Glob {
    /// Any text is a pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let mut texts = Vec::new();
        braces(pattern, &mut texts);
        let alternatives = texts
            .iter()
            .map(|text| {
                let parts = text.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
                (text.first() == Some(&b'/'), parts.map(part).collect())
            })
            .collect();
        Glob { alternatives }
    }

    /// Whether `path`, as `find` would give it, fits.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let absolute = path.first() == Some(&b'/');
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        self.alternatives.iter().any(|(from_root, pattern)| *from_root == absolute && fits(pattern, &parts))
    }

    /// All paths that there are, in order.
    pub fn find(&self, mut give: impl FnMut(Vec<u8>)) {
        for (absolute, parts) in &self.alternatives {
            let start = if *absolute { b"/".to_vec() } else { Vec::new() };
            walk(start, parts, 0, &mut give);
        }
    }
}

fn part(text: &[u8]) -> Part {
    if text == b"**" {
        return Part::Folders;
    }
    if text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')) {
        return Part::Pattern(text.to_vec());
    }
    Part::Literal(text.to_vec())
}

/// Takes the first braces apart, and so on.
fn braces(pattern: &[u8], out: &mut Vec<Vec<u8>>) {
    let mut depth = 0;
    let (mut open, mut commas) = (None, Vec::new());
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'{' => {
                if depth == 0 {
                    (open, commas) = (Some(at), Vec::new());
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(at),
            b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0
                    && let Some(open) = open
                {
                    let mut from = open + 1;
                    for end in commas.iter().copied().chain([at]) {
                        if out.len() >= MAX_ALTERNATIVES {
                            return;
                        }
                        let one = [&pattern[..open], &pattern[from..end], &pattern[at + 1..]].concat();
                        braces(&one, out);
                        from = end + 1;
                    }
                    return;
                }
            }
            _ => {}
        }
        at += 1;
    }
    out.push(pattern.to_vec());
}

fn fits(pattern: &[Part], path: &[&[u8]]) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) => true,
        (Some(Part::Folders), _) if pattern.len() > 1 => {
            fits(&pattern[1..], path)
                || path.first().is_some_and(|name| !name.starts_with(b".") && fits(pattern, &path[1..]))
        }
        (Some(part), Some(name)) => {
            let this = match part {
                Part::Literal(text) => text == name,
                Part::Pattern(text) => name_fits(text, name),
                Part::Folders => name_fits(b"*", name),
            };
            this && fits(&pattern[1..], &path[1..])
        }
        _ => false,
    }
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() && !folder.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(if path.is_empty() { b"." } else { path }))
}

/// Names in a folder with whether they are folders themselves (not by a link), in order.
fn names(folder: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let Ok(entries) = fs::read_dir(as_path(folder)) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (entry.file_name().into_vec(), folder)
        })
        .collect();
    names.sort_unstable();
    names
}

fn walk(folder: Vec<u8>, parts: &[Part], depth: usize, give: &mut impl FnMut(Vec<u8>)) {
    let Some((part, rest)) = parts.split_first() else { return };
    match part {
        Part::Literal(name) => {
            let path = joined(&folder, name);
            if !rest.is_empty() {
                walk(path, rest, depth, give);
            } else if as_path(&path).symlink_metadata().is_ok() {
                give(path);
            }
        }
        Part::Folders if !rest.is_empty() => {
            walk(folder.clone(), rest, depth, give);
            if depth < MAX_DEPTH {
                for (name, is_folder) in names(&folder) {
                    if is_folder && !name.starts_with(b".") {
                        walk(joined(&folder, &name), parts, depth + 1, give);
                    }
                }
            }
        }
        Part::Folders | Part::Pattern(_) => {
            let pattern: &[u8] = if let Part::Pattern(text) = part { text } else { b"*" };
            for (name, _) in names(&folder) {
                if name_fits(pattern, &name) {
                    let path = joined(&folder, &name);
                    if rest.is_empty() {
                        give(path);
                    } else {
                        walk(path, rest, depth, give);
                    }
                }
            }
        }
    }
}

/// Whether a name fits `*`, `?`, `[a-z]`, `[^a-z]` and `\x`; names with a dot first only fit a dot.
fn name_fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") && !pattern.starts_with(b"\\.") {
        return false;
    }
    // where to go on after the last star, should what follows not fit
    let (mut at, mut pos, mut star) = (0, 0, None);
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, pos));
            continue;
        }
        if pos == name.len() && at == pattern.len() {
            return true;
        }
        if pos < name.len()
            && let Some((after, width)) = one_fits(pattern, at, &name[pos..])
        {
            (at, pos) = (after, pos + width);
            continue;
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (at, pos) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether the character at the start of `name` fits; what follows in the pattern, and its bytes.
fn one_fits(pattern: &[u8], at: usize, name: &[u8]) -> Option<(usize, usize)> {
    match pattern.get(at)? {
        b'?' => Some((at + 1, width(name))),
        b'[' => {
            let close = at + 2 + pattern.get(at + 2..)?.iter().position(|byte| *byte == b']')?;
            let mut set = &pattern[at + 1..close];
            let negated = matches!(set.first(), Some(b'^' | b'!'));
            if negated {
                set = &set[1..];
            }
            let (mut found, mut index) = (false, 0);
            while index < set.len() {
                if set.get(index + 1) == Some(&b'-') && index + 2 < set.len() {
                    found |= (set[index]..=set[index + 2]).contains(&name[0]);
                    index += 3;
                } else {
                    found |= set[index] == name[0];
                    index += 1;
                }
            }
            (found != negated).then(|| (close + 1, if negated { width(name) } else { 1 }))
        }
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == name[0]).then_some((at + 2, 1)),
        byte => (*byte == name[0]).then_some((at + 1, 1)),
    }
}

/// Bytes of the character at the start of `name`.
fn width(name: &[u8]) -> usize {
    1 + name[1..].iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count()
}

/// A file that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the pattern gives it.
    pub path: Vec<u8>,
    /// Of the file behind links.
    pub inode: u64,
}

/// What [`scan`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that can be read.
    pub targets: Vec<Target>,
    /// Files that cannot.
    pub unreadable: Vec<Vec<u8>>,
}

fn readable(path: &CString) -> bool {
    // SAFETY: a C string.
    let outcome = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::R_OK, libc::AT_EACCESS) };
    outcome == 0
}

/// The files of all `patterns` (text, whether it is a glob) without those of `excluded`. Of globs only files
/// that can be read and were changed since `since` (seconds since the epoch); others as they stand.
#[must_use]
pub fn scan(patterns: &[(Vec<u8>, bool)], excluded: &[(Vec<u8>, bool)], since: Option<i64>) -> Found {
    // SAFETY: no arguments.
    let may_all = unsafe { libc::geteuid() } == 0;
    let globs: Vec<Glob> =
        excluded.iter().filter(|(_, glob)| *glob).map(|(text, _)| Glob::new(text)).collect();
    let fixed: HashSet<&[u8]> =
        excluded.iter().filter(|(_, glob)| !glob).map(|(text, _)| text.as_slice()).collect();
    let (mut found, mut seen) = (Found::default(), HashSet::new());
    let mut take = |path: Vec<u8>, by_glob: bool| {
        if fixed.contains(path.as_slice()) || globs.iter().any(|glob| glob.matches(&path)) {
            return;
        }
        let Ok(name) = CString::new(path.as_slice()) else { return };
        let Ok(status) = Status::at(&name) else { return };
        if by_glob {
            if status.folder || since.is_some_and(|since| status.changed < since) {
                return;
            }
            if !may_all && !readable(&name) {
                found.unreadable.push(path);
                return;
            }
        }
        if seen.insert(path.clone()) {
            found.targets.push(Target { path, inode: status.inode });
        }
    };
    for (text, by_glob) in patterns {
        if *by_glob {
            Glob::new(text).find(|path| take(path, true));
        } else {
            take(text.clone(), false);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_ruby_matches_them() {
        for (pattern, name, wanted) in [
            ("*", "a.log", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("[0-1][2-4].log", "13.log", true),
            ("[0-1][2-4].log", "15.log", false),
            ("[^0-1]x", "2x", true),
            ("[^0-1]x", "0x", false),
            ("[]]", "]", true),
            ("[a", "[a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("**", "abc", true),
            ("", "", true),
        ] {
            assert_eq!(name_fits(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn paths() {
        for (pattern, path, wanted) in [
            ("/a/*.log", "/a/b.log", true),
            ("/a/*.log", "/a/b/c.log", false),
            ("/a/**/*.log", "/a/c.log", true),
            ("/a/**/*.log", "/a/b/d/c.log", true),
            ("/a/**/*.log", "/a/.b/c.log", false),
            ("/a/{b,c{d,e}}.log", "/a/ce.log", true),
            ("/a/{b,c}.log", "/a/d.log", false),
            ("a/*.log", "/a/b.log", false),
            ("/a/b", "/a/b", true),
        ] {
            assert_eq!(Glob::new(pattern.as_bytes()).matches(path.as_bytes()), wanted, "{pattern} {path}");
        }
    }

    #[test]
    fn braces_stay_within_bounds() {
        let mut out = Vec::new();
        braces("{a,b}".repeat(20).as_bytes(), &mut out);
        assert_eq!(out.len(), MAX_ALTERNATIVES);
        let mut out = Vec::new();
        braces(b"a{b,c", &mut out);
        assert_eq!(out, [b"a{b,c"]);
    }

    #[test]
    fn files_are_found() {
        let folder = std::env::temp_dir().join(format!("glob-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).unwrap();
        for name in ["b.log", "a.log", "c.txt", "sub/d.log"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        let base = folder.to_str().unwrap();
        let shown = |patterns: &[&str], excluded: &[&str]| {
            let pairs = |list: &[&str]| {
                list.iter()
                    .map(|text| (format!("{base}/{text}").into_bytes(), text.contains('*')))
                    .collect::<Vec<_>>()
            };
            let found = scan(&pairs(patterns), &pairs(excluded), None);
            let strip = |target: Target| String::from_utf8(target.path).unwrap()[base.len() + 1..].to_owned();
            found.targets.into_iter().map(strip).collect::<Vec<_>>()
        };
        assert_eq!(shown(&["*.log"], &[]), ["a.log", "b.log"]);
        assert_eq!(shown(&["**/*.log"], &["b*"]), ["a.log", "sub/d.log"]);
        assert_eq!(shown(&["*", "c.txt", "missing"], &["a.log"]), ["b.log", "c.txt"]);
        fs::remove_dir_all(folder).unwrap();
    }
}

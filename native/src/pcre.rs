//! A safe, small wrapper around PCRE2 with JIT, made for untrusted texts.
//!
//! Two programs stand behind one [`Regexp`]: one over bytes, for texts that are pure ASCII or not valid
//! UTF-8, and one in UTF mode, compiled when the first text needs it. No match runs away: steps are
//! limited for each start position, and for long texts or heavy patterns start positions are tried in
//! portions with a look at the clock between them.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pcre2_sys as sys;

use crate::first_path::{Path, Walk};
use crate::parser::Mismatch;

/// Steps per start position that every text gets at once, besides [`STEPS_PER_BYTE`].
const STEPS: u32 = 10_000;
const STEPS_PER_BYTE: u32 = 4;
/// Steps per start position of the second, watched attempt.
const STEPS_WATCHED: u32 = 1_000_000;
/// Longer texts are watched from the start.
const UNWATCHED_BYTES: usize = 2048;
/// Start positions before the first look at the clock; doubled from look to look.
const PORTION: usize = 32;
/// When a watched attempt is given up, where nothing else is asked for; [`STEPS_WATCHED`] are for this time.
const TIME_LIMIT: Duration = Duration::from_millis(100);
const HEAP_LIMIT_KIB: u32 = 20_000;
const JIT_STACK: (usize, usize) = (32 << 10, 1 << 20);

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// PCRE2's words.
    pub message: String,
    /// Byte offset in the pattern as given to PCRE2.
    pub offset: usize,
}

/// One compiled pattern.
struct Code {
    code: ptr::NonNull<sys::pcre2_code_8>,
    jit: bool,
}

// SAFETY: a compiled pattern is read-only after `pcre2_compile` and `pcre2_jit_compile`; PCRE2's manual
// ("pcre2api", MULTITHREADING) allows its use from several threads at once.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: made by pcre2_compile_8, freed once.
        unsafe { sys::pcre2_code_free_8(self.code.as_ptr()) }
    }
}

impl Code {
    fn new(pattern: &[u8], options: u32) -> Result<Self, CompileError> {
        let mut number = 0;
        let mut offset = 0;
        // SAFETY: the context is made and freed here, and null-checked; pointer and length of the
        // pattern belong together; the out parameters are valid.
        let code = unsafe {
            let context = sys::pcre2_compile_context_create_8(ptr::null_mut());
            if context.is_null() {
                return Err(CompileError { message: "out of memory".to_owned(), offset: 0 });
            }
            sys::pcre2_set_newline_8(context, sys::PCRE2_NEWLINE_LF);
            let code = sys::pcre2_compile_8(
                pattern.as_ptr(),
                pattern.len(),
                options | sys::PCRE2_USE_OFFSET_LIMIT,
                &raw mut number,
                &raw mut offset,
                context,
            );
            sys::pcre2_compile_context_free_8(context);
            code
        };
        let Some(code) = ptr::NonNull::new(code) else {
            return Err(CompileError { message: error_message(number), offset });
        };
        // SAFETY: `code` was just compiled and is not shared yet.
        let jit = unsafe { sys::pcre2_jit_compile_8(code.as_ptr(), sys::PCRE2_JIT_COMPLETE) } == 0;
        Ok(Code { code, jit })
    }
}

fn error_message(number: i32) -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer and its length belong together; PCRE2 ends the text with a zero byte.
    let len = unsafe { sys::pcre2_get_error_message_8(number, buffer.as_mut_ptr(), buffer.len()) };
    String::from_utf8_lossy(&buffer[..usize::try_from(len).unwrap_or(0)]).into_owned()
}

/// A pattern in PCRE2's syntax, in both modes.
pub struct Regexp {
    bytes: Code,
    utf: OnceLock<Option<Code>>,
    utf_pattern: Option<Vec<u8>>,
    options: u32,
    captures: usize,
    time_limit: Duration,
    /// Tried before the program.
    path: Option<Path>,
}

impl Regexp {
    /// Compiles `bytes`; `utf` (None: the byte program serves all texts) is compiled on first use.
    /// `caseless` and `dotall` as PCRE2 means them; anchors always stand at lines.
    ///
    /// # Errors
    /// PCRE2's complaint about `bytes`.
    pub fn new(
        bytes: &[u8],
        utf: Option<Vec<u8>>,
        caseless: bool,
        dotall: bool,
    ) -> Result<Self, CompileError> {
        let mut options = sys::PCRE2_MULTILINE | sys::PCRE2_DUPNAMES;
        if caseless {
            options |= sys::PCRE2_CASELESS;
        }
        if dotall {
            options |= sys::PCRE2_DOTALL;
        }
        let code = Code::new(bytes, options | sys::PCRE2_NEVER_UTF)?;
        let mut captures = 0u32;
        // SAFETY: CAPTURECOUNT writes one u32.
        unsafe {
            sys::pcre2_pattern_info_8(
                code.code.as_ptr(),
                sys::PCRE2_INFO_CAPTURECOUNT,
                (&raw mut captures).cast::<c_void>(),
            );
        }
        Ok(Regexp {
            bytes: code,
            utf: OnceLock::new(),
            utf_pattern: utf,
            options,
            captures: captures as usize,
            time_limit: TIME_LIMIT,
            path: None,
        })
    }

    /// Gives the pattern's first path, which is tried before the program. One of another pattern is not taken.
    pub fn set_path(&mut self, path: Option<Path>) {
        self.path = path.filter(|path| path.captures() == self.captures);
    }

    /// Sets how long one search may take, instead of a tenth of a second: the clock is looked at between
    /// start positions, and the steps of one start position are limited in proportion.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.time_limit = limit;
    }

    fn watched_steps(&self) -> u32 {
        let steps = f64::from(STEPS_WATCHED) * self.time_limit.div_duration_f64(TIME_LIMIT);
        (steps as u32).max(STEPS) // saturates
    }

    fn code(&self, utf: bool) -> &Code {
        if !utf {
            return &self.bytes;
        }
        let compiled = self.utf.get_or_init(|| {
            let options = self.options | sys::PCRE2_UTF | sys::PCRE2_UCP;
            self.utf_pattern.as_deref().and_then(|pattern| Code::new(pattern, options).ok())
        });
        compiled.as_ref().unwrap_or(&self.bytes)
    }

    /// Working memory for one caller.
    #[must_use]
    pub fn matcher(&self) -> Matcher {
        Matcher::new(self.captures)
    }
}

/// What a text is made of, which decides the program that runs and whether captures need a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Bytes below 128 only.
    Ascii,
    /// Valid UTF-8 with more than ASCII in it.
    Utf8,
    /// Not UTF-8.
    Bytes,
}

impl Script {
    /// Of a text.
    #[must_use]
    #[inline]
    pub fn of(text: &[u8]) -> Self {
        if text.is_ascii() {
            Script::Ascii
        } else if simdutf8::basic::from_utf8(text).is_ok() {
            Script::Utf8
        } else {
            Script::Bytes
        }
    }

    /// Whether every capture of a match is valid UTF-8.
    #[must_use]
    #[inline]
    pub fn is_text(self) -> bool {
        self != Script::Bytes
    }
}

/// One caller's match data, context and JIT stack.
pub struct Matcher {
    data: *mut sys::pcre2_match_data_8,
    context: *mut sys::pcre2_match_context_8,
    stack: *mut sys::pcre2_jit_stack_8,
    ovector: *mut usize,
    groups: usize,
}

// SAFETY: owned memory without thread affinity, used through `&mut self` only.
unsafe impl Send for Matcher {}

impl Drop for Matcher {
    fn drop(&mut self) {
        // SAFETY: each was made by its create function or is null, which these accept; freed once.
        unsafe {
            sys::pcre2_match_data_free_8(self.data);
            sys::pcre2_match_context_free_8(self.context);
            sys::pcre2_jit_stack_free_8(self.stack);
        }
    }
}

impl Matcher {
    /// For patterns with up to so many captures.
    #[must_use]
    pub fn new(captures: usize) -> Self {
        // SAFETY: null general contexts mean malloc; a null result is dealt with in `run`.
        unsafe {
            let data = sys::pcre2_match_data_create_8(captures as u32 + 1, ptr::null_mut());
            let context = sys::pcre2_match_context_create_8(ptr::null_mut());
            let mut ovector = ptr::null_mut();
            if !context.is_null() {
                sys::pcre2_set_heap_limit_8(context, HEAP_LIMIT_KIB);
            }
            if !data.is_null() {
                ovector = sys::pcre2_get_ovector_pointer_8(data);
            }
            Matcher { data, context, stack: ptr::null_mut(), ovector, groups: captures + 1 }
        }
    }

    /// Searches `text`. Captures are then in [`Matcher::capture`].
    ///
    /// # Errors
    /// `MatchLimit` where the search was given up.
    #[inline]
    pub fn search(&mut self, regexp: &Regexp, text: &[u8], script: Script) -> Result<bool, Mismatch> {
        if let Some(path) = &regexp.path
            && !(script == Script::Utf8 && path.counts_bytes())
            && let Some(groups) = self.groups_mut()
        {
            match path.walk(text, groups) {
                Walk::Match => return Ok(true),
                Walk::No => return Ok(false),
                Walk::Unknown => {}
            }
        }
        self.search_from(regexp, text, script, 0)
    }

    /// The same from byte `from` on, where a character starts; look-behind sees what stands before it.
    ///
    /// # Errors
    /// As [`Matcher::search`].
    #[inline]
    pub fn search_from(
        &mut self,
        regexp: &Regexp,
        text: &[u8],
        script: Script,
        from: usize,
    ) -> Result<bool, Mismatch> {
        let code = regexp.code(script == Script::Utf8);
        if text.len() <= UNWATCHED_BYTES {
            let rc = self.run(code, text, from, None, STEPS + STEPS_PER_BYTE * text.len() as u32);
            if rc > 0 {
                return Ok(true);
            }
            if rc == sys::PCRE2_ERROR_NOMATCH {
                return Ok(false);
            }
        }
        self.search_watched(code, text, script, regexp, from)
    }

    /// Groups of the pattern, the whole match included.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    #[cold]
    fn search_watched(
        &mut self,
        code: &Code,
        text: &[u8],
        script: Script,
        regexp: &Regexp,
        mut from: usize,
    ) -> Result<bool, Mismatch> {
        let start = Instant::now();
        let mut portion = PORTION;
        loop {
            let mut last = from.saturating_add(portion) - 1;
            portion = portion.saturating_mul(2);
            if last >= text.len() {
                last = text.len();
            }
            let per_byte = STEPS_PER_BYTE.saturating_mul(u32::try_from(text.len()).unwrap_or(u32::MAX));
            let steps = regexp.watched_steps().max(per_byte);
            let rc = self.run(code, text, from, Some(last), steps);
            if rc > 0 {
                return Ok(true);
            }
            if rc != sys::PCRE2_ERROR_NOMATCH {
                return Err(Mismatch::MatchLimit);
            }
            from = last + 1;
            // in UTF mode a search starts at a character
            while script == Script::Utf8 && text.get(from).is_some_and(|byte| byte & 0xc0 == 0x80) {
                from += 1;
            }
            if from > text.len() {
                return Ok(false);
            }
            if start.elapsed() > regexp.time_limit {
                return Err(Mismatch::MatchLimit);
            }
        }
    }

    #[inline]
    fn run(&mut self, code: &Code, text: &[u8], from: usize, last: Option<usize>, steps: u32) -> i32 {
        if self.data.is_null() || self.context.is_null() {
            return sys::PCRE2_ERROR_NOMEMORY;
        }
        // SAFETY: data and context are live and only ours; the subject's pointer and length belong together
        // and `from` is within it; JIT code exists where `jit` says so; in UTF mode the caller has validated
        // the subject and `from` is at a character.
        let rc = unsafe {
            sys::pcre2_set_match_limit_8(self.context, steps);
            sys::pcre2_set_offset_limit_8(self.context, last.unwrap_or(usize::MAX));
            let run = if code.jit { sys::pcre2_jit_match_8 } else { sys::pcre2_match_8 };
            run(
                code.code.as_ptr(),
                text.as_ptr(),
                text.len(),
                from,
                sys::PCRE2_NO_UTF_CHECK * u32::from(!code.jit),
                self.data,
                self.context,
            )
        };
        if rc == sys::PCRE2_ERROR_JIT_STACKLIMIT && self.grow_stack() {
            return self.run(code, text, from, last, steps);
        }
        rc
    }

    /// Gives JIT code more than the 32 KiB of machine stack that it has by itself. False: it has it already.
    #[cold]
    fn grow_stack(&mut self) -> bool {
        if !self.stack.is_null() {
            return false;
        }
        // SAFETY: the context is live (checked by `run`); the stack is freed after it, in `drop`.
        unsafe {
            self.stack = sys::pcre2_jit_stack_create_8(JIT_STACK.0, JIT_STACK.1, ptr::null_mut());
            if self.stack.is_null() {
                return false;
            }
            sys::pcre2_jit_stack_assign_8(self.context, None, self.stack.cast());
        }
        true
    }

    /// Two words for the whole match and each group.
    fn groups_mut(&mut self) -> Option<&mut [usize]> {
        if self.ovector.is_null() {
            return None;
        }
        // SAFETY: the ovector has two words for each of `groups` groups, lives as long as `data` and is only ours.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ovector, 2 * self.groups) })
    }

    /// Where group `index` of the last match stands; None where it took no part.
    #[must_use]
    pub fn span(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.groups || self.ovector.is_null() {
            return None;
        }
        // SAFETY: as in `capture`.
        let (start, end) = unsafe { (*self.ovector.add(2 * index), *self.ovector.add(2 * index + 1)) };
        (start != usize::MAX).then_some((start, end.max(start)))
    }

    /// Group `index` of the last match in `text`; None where it took no part.
    #[must_use]
    #[inline]
    pub fn capture<'a>(&self, text: &'a [u8], index: usize) -> Option<&'a [u8]> {
        if index >= self.groups || self.ovector.is_null() {
            return None;
        }
        // SAFETY: the ovector has two words for each of `groups` groups and lives as long as `data`.
        let (start, end) = unsafe { (*self.ovector.add(2 * index), *self.ovector.add(2 * index + 1)) };
        text.get(start..end) // unset is usize::MAX, which no range contains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regexp(pattern: &str) -> Regexp {
        Regexp::new(pattern.as_bytes(), Some(pattern.as_bytes().to_vec()), false, false).unwrap()
    }

    fn search(pattern: &str, text: &[u8]) -> Result<Option<Vec<u8>>, Mismatch> {
        let regexp = regexp(pattern);
        let mut matcher = regexp.matcher();
        let found = matcher.search(&regexp, text, Script::of(text))?;
        Ok(found.then(|| matcher.capture(text, 0).unwrap_or_default().to_vec()))
    }

    #[test]
    fn the_script_chooses_the_program() {
        assert_eq!(search("a.b", "xa€b".as_bytes()).unwrap().unwrap(), "a€b".as_bytes());
        assert_eq!(search("a.b", b"xa\xffb").unwrap().unwrap(), b"a\xffb");
        assert_eq!(search("^.$", "€".as_bytes()).unwrap().unwrap(), "€".as_bytes());
        assert_eq!(search("nothing", b"").unwrap(), None);
    }

    #[test]
    fn hostile_patterns_end() {
        for text in [vec![b'a'; 30], vec![b'a'; 3000], vec![b'a'; 60_000]] {
            let text = [&text[..], b"!"].concat();
            for pattern in ["(a+)+$", "^(a|aa)+$", "(?:a*)*b", "(.*)(.*)(.*)(.*)(.*)[^a!]x"] {
                // found nothing or gave up, but in time
                assert_ne!(search(pattern, &text), Ok(Some(vec![])));
            }
        }
        assert_eq!(search("^(a|aa)+$", &[&[b'a'; 64][..], b"!"].concat()), Err(Mismatch::MatchLimit));
    }

    #[test]
    fn a_longer_time_limit_allows_more_steps() {
        let mut regexp = regexp("^(a|aa)+$");
        let text = [&[b'a'; 34][..], b"!"].concat();
        let mut matcher = regexp.matcher();
        assert_eq!(matcher.search(&regexp, &text, Script::Ascii), Err(Mismatch::MatchLimit));
        regexp.set_time_limit(Duration::from_secs(100));
        assert_eq!(matcher.search(&regexp, &text, Script::Ascii), Ok(false));
        regexp.set_time_limit(Duration::ZERO);
        assert_eq!(matcher.search(&regexp, &text, Script::Ascii), Err(Mismatch::MatchLimit));
        assert_eq!(matcher.search(&regexp, b"aaa", Script::Ascii), Ok(true));
    }

    #[test]
    fn long_texts_are_searched_to_their_end() {
        for fill in ["x", "é"] {
            let text = [fill.repeat(40_000).as_bytes(), b"needle"].concat();
            assert_eq!(search("need.e", &text).unwrap().unwrap(), b"needle");
            assert_eq!(search("needle!", &text).unwrap(), None);
            assert_eq!(search("e$", &text).unwrap().unwrap(), b"e");
        }
    }

    #[test]
    fn deep_matches_get_a_larger_stack() {
        let text = [&b"(".repeat(1500)[..], &b")".repeat(1500)[..]].concat();
        assert_eq!(search(r"^(\((?1)*\))$", &text).unwrap().unwrap().len(), 3000);
        let deeper = [&b"(".repeat(900_000)[..], &b")".repeat(900_000)[..]].concat();
        assert_eq!(search(r"^(\((?1)*\))$", &deeper), Err(Mismatch::MatchLimit));
    }

    #[test]
    fn what_does_not_compile_says_where() {
        let error = Regexp::new(b"a(b", None, false, false).err().unwrap();
        assert_eq!(error.offset, 3);
        assert!(error.message.contains("parenthesis"));
    }
}

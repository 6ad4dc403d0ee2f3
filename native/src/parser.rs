//! What every compiled parser is to the kernels that call it.
//!
//! A [`Parser`] is immutable and shared; a [`Session`] is one caller's working memory over it (match
//! data, caches), opened once per batch or once per receiving thread. A session writes the fields of
//! each event as MessagePack key/value pairs into [`Events`]; the caller puts time and map header around
//! them, so that inputs and filters can add fields of their own without moving bytes twice.

/// Why a text gave no event. The reason is a ledger reason: short, fixed, no data in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The text is not what the parser takes ("pattern not matched").
    NoMatch,
    /// The pattern exceeded its match limit and was stopped.
    MatchLimit,
    /// A time field that does not fit its format.
    InvalidTime,
    /// Text that matches but breaks a limit (nesting, size).
    Limit,
    /// Text that breaks the rules of its format: a quote that is not closed.
    Malformed,
    /// A parser written in Python raised an exception.
    Failed,
}

impl Mismatch {
    /// The ledger's word for it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Mismatch::NoMatch => "unmatched",
            Mismatch::MatchLimit => "match_limit",
            Mismatch::InvalidTime => "invalid_time",
            Mismatch::Limit => "limit",
            Mismatch::Malformed => "malformed",
            Mismatch::Failed => "parser_error",
        }
    }
}

/// One parsed event within [`Events`].
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Nanoseconds since the epoch, where the text had a time.
    pub time_ns: Option<i64>,
    /// Number of pairs.
    pub pairs: u32,
    /// Where the pairs start in `Events::fields`.
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// syslog priority, where the parser itself took it off the line (`with_priority`).
    pub priority: Option<u32>,
}

/// The events that one text gave; reused from text to text.
#[derive(Debug, Default)]
pub struct Events {
    /// MessagePack key/value pairs of all items, one after the other.
    pub fields: Vec<u8>,
    /// The events, in order.
    pub items: Vec<Item>,
    /// Parts of the text that gave no event though the text as a whole matched: the elements of a JSON
    /// array that are no objects, or whose time does not fit. The caller books them as lost.
    pub unmatched: u32,
}

impl Events {
    /// Forgets the last text's events; keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.items.clear();
        self.unmatched = 0;
    }

    /// Ends an event whose pairs were appended to `fields` from `start` on.
    pub fn push(&mut self, start: usize, pairs: u32, time_ns: Option<i64>) {
        let end = self.fields.len();
        self.items.push(Item { time_ns, pairs, start, end, priority: None });
    }
}

/// Formats that cut long lines into parts, which inputs that read lines put together again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Kubernetes' container runtime interface.
    Cri,
    /// Docker's json-file driver.
    Docker,
}

/// What a parser makes of a value that is no text, in a filter over records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherValues {
    /// It fails on it.
    Failed,
    /// It is not what the parser takes.
    Unmatched,
    /// It goes into the field of this name (as MessagePack) as it is.
    Field(Vec<u8>),
}

/// A compiled parser: options and programs, no mutable state.
pub trait Parser: Send + Sync {
    /// Opens working memory for one caller.
    fn session(&self) -> Box<dyn Session + '_>;

    /// Whether an event without a time gets the present one (`estimate_current_event`, default true).
    fn estimate_current_event(&self) -> bool {
        true
    }

    /// Every key that it may write, where that is known beforehand: callers then need not look for keys that
    /// meet those of their own.
    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        None
    }

    /// Whether its lines may be parts of longer ones.
    fn partial(&self) -> Option<Partial> {
        None
    }

    /// What becomes of a value that is no text: a number, an array, a map.
    fn other_values(&self) -> OtherValues {
        OtherValues::Failed
    }

    /// Whether `parse` runs Python code: a caller with many texts then holds the interpreter throughout.
    fn needs_python(&self) -> bool {
        false
    }
}

/// One caller's use of a [`Parser`].
pub trait Session {
    /// Parses `text` and appends its events to `out`, which the caller has cleared. On `Err` whatever
    /// was appended is void. `Ok` with no items means: nothing, and that is no failure.
    ///
    /// # Errors
    /// The reason why the text gave no event.
    fn parse(&mut self, text: &[u8], out: &mut Events) -> Result<(), Mismatch>;
}

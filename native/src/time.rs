//! Event times: parsing them from text by format, zone and fallbacks, and writing them out.
//! (Contract first; the body is written next.)

/// What `time_type`, `time_format`, `time_format_fallbacks`, `timezone`, `utc` and `localtime` say.
#[derive(Debug, Clone, Default)]
pub struct TimeSpec {
    /// "string" | "unixtime" | "float" | "mixed".
    pub kind: String,
    /// strptime format; None: guess as Ruby's Time.parse does (RFC 3339, RFC 2822, common forms).
    pub format: Option<String>,
    /// Tried in order after `format` ("mixed").
    pub fallbacks: Vec<String>,
    /// "+09:00", "UTC", "America/New_York"; None: the machine's zone.
    pub zone: Option<String>,
}

/// A compiled [`TimeSpec`].
pub struct TimeParser {}

impl TimeParser {
    /// Compiles.
    ///
    /// # Errors
    /// A message that names the directive or zone that is not known.
    pub fn new(_spec: &TimeSpec) -> Result<Self, String> {
        todo!()
    }

    /// Nanoseconds since the epoch; None where `text` does not fit.
    #[must_use]
    pub fn parse(&self, _text: &[u8]) -> Option<i64> {
        todo!()
    }

    /// For a time that is a number already (JSON): None where the kind does not take numbers.
    #[must_use]
    pub fn from_number(&self, _seconds: f64) -> Option<i64> {
        todo!()
    }
}

/// A compiled strftime format with its zone, for output; caches what does not change within a second.
pub struct TimeFormatter {}

impl TimeFormatter {
    /// Compiles. `format` None: ISO 8601 (`2023-11-14T22:13:20+00:00`).
    ///
    /// # Errors
    /// A message that names the unknown directive or zone.
    pub fn new(_format: Option<&str>, _zone: Option<&str>) -> Result<Self, String> {
        todo!()
    }

    /// Appends the formatted time.
    pub fn write(&mut self, _out: &mut Vec<u8>, _time_ns: i64) {
        todo!()
    }
}

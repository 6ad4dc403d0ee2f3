//! Event times: parsing them from text by format, zone and fallbacks, and writing them out.
//!
//! A [`TimeParser`] is immutable and shared; what one caller remembers from text to text (the last
//! texts, zone offsets, the present year) is in its [`TimeCache`].

mod calendar;
mod guess;
mod iso;
mod resolve;
mod strftime;
mod strptime;
mod zone;

pub use resolve::TimeCache;
pub use strftime::TimeFormatter;
pub use zone::Zone;

use resolve::Resolver;
use strptime::Program;

/// What `time_type`, `time_format`, `time_format_fallbacks`, `timezone`, `utc` and `localtime` say.
#[derive(Debug, Clone, Default)]
pub struct TimeSpec {
    /// "string" | "unixtime" | "float" | "mixed"; empty counts as "string".
    pub kind: String,
    /// strptime format; None: guess as Ruby's Time.parse does (RFC 3339, RFC 2822, common forms).
    pub format: Option<String>,
    /// Tried in order after `format` ("mixed").
    pub fallbacks: Vec<String>,
    /// "+09:00", "UTC", "America/New_York"; None: the machine's zone.
    pub zone: Option<String>,
}

/// How one text form of a time is read.
enum Way {
    /// By strptime directives.
    Format(Program),
    /// `%iso8601`.
    Iso,
    /// No format: the common forms.
    Guess,
    /// Whole seconds.
    Unixtime,
    /// Seconds with a fraction.
    Float,
}

/// A compiled [`TimeSpec`].
pub struct TimeParser {
    ways: Vec<Way>,
    resolver: Resolver,
    /// One way only, so that a number need not look like one (Ruby's `to_i` on any text).
    mixed: bool,
}

impl TimeParser {
    /// Compiles.
    ///
    /// # Errors
    /// A message that names the directive or zone that is not known.
    pub fn new(spec: &TimeSpec) -> Result<Self, String> {
        let resolver = Resolver::new(spec.zone.as_deref())?;
        let mixed = spec.kind == "mixed";
        let ways = match spec.kind.as_str() {
            "" | "string" => match &spec.format {
                Some(format) => vec![Way::text(format, spec.zone.as_deref())?],
                None if spec.zone.is_some() => {
                    return Err("timezone, utc or localtime false need a time_format".to_owned());
                }
                None => vec![Way::Guess],
            },
            "unixtime" => vec![Way::Unixtime],
            "float" => vec![Way::Float],
            "mixed" => {
                let formats: Vec<&String> = spec.format.iter().chain(&spec.fallbacks).collect();
                if formats.is_empty() {
                    return Err("time_type mixed needs time_format or time_format_fallbacks".to_owned());
                }
                formats
                    .into_iter()
                    .map(|format| match format.as_str() {
                        // Fluentd reads both as a float here, unlike with `time_type unixtime`
                        "unixtime" | "float" => Ok(Way::Float),
                        _ => Way::text(format, spec.zone.as_deref()),
                    })
                    .collect::<Result<_, _>>()?
            }
            other => {
                return Err(format!(
                    "unknown time_type \"{other}\": expected string, unixtime, float or mixed"
                ));
            }
        };
        Ok(TimeParser { ways, resolver, mixed })
    }

    /// For texts that carry their own zone mostly: by `format`, or (None) by the common forms. A text without a
    /// zone is UTC, but for a format that Ruby's strptime gem reads, which takes the machine's.
    ///
    /// # Errors
    /// As [`TimeParser::new`].
    pub fn for_records(format: Option<&str>) -> Result<Self, String> {
        let (way, local) = match format {
            Some(format) => {
                let program = Program::new(format)?;
                let local = program.is_gem();
                (Way::Format(program), local)
            }
            None => (Way::Guess, false),
        };
        let zone = Zone::new(if local { None } else { Some("UTC") })?;
        Ok(TimeParser { ways: vec![way], resolver: Resolver::only(zone), mixed: false })
    }

    /// For texts in the common forms. `zone`: where a text names none; None: the machine's.
    ///
    /// # Errors
    /// Names the zone that is not known.
    pub fn common_forms(zone: Option<&str>) -> Result<Self, String> {
        Ok(TimeParser { ways: vec![Way::Guess], resolver: Resolver::only(Zone::new(zone)?), mixed: false })
    }

    /// As [`TimeParser::parse`] without its memory for equal texts, with the offset that the text has or got:
    /// (nanoseconds since the epoch, seconds east of UTC).
    #[must_use]
    pub fn parse_with_offset(&self, text: &[u8], cache: &mut TimeCache) -> Option<(i64, i32)> {
        self.ways.iter().find_map(|way| {
            let fields = match way {
                Way::Format(program) => program.run(text)?,
                Way::Iso => iso::parse(text)?,
                Way::Guess => guess::parse(text)?,
                Way::Unixtime | Way::Float => return None,
            };
            let time_ns = self.resolver.resolve(&fields, cache)?;
            let offset = fields.zone.flatten().unwrap_or_else(|| self.resolver.offset_at(time_ns));
            Some((time_ns, offset))
        })
    }

    /// Nanoseconds since the epoch; None where `text` does not fit. A text without a year gets the
    /// present one, as in Fluentd. `cache` must not be shared between parsers.
    #[must_use]
    #[inline]
    pub fn parse(&self, text: &[u8], cache: &mut TimeCache) -> Option<i64> {
        match cache.recall(text) {
            Some(known) => Some(known),
            None => self.parse_anew(text, cache),
        }
    }

    fn parse_anew(&self, text: &[u8], cache: &mut TimeCache) -> Option<i64> {
        for way in &self.ways {
            let fields = match way {
                Way::Format(program) => program.run(text),
                Way::Iso => iso::parse(text),
                Way::Guess => guess::parse(text),
                Way::Unixtime | Way::Float => {
                    if self.mixed && !looks_numeric(text) {
                        continue;
                    }
                    return if matches!(way, Way::Unixtime) {
                        Some(text_to_integer(text).saturating_mul(1_000_000_000))
                    } else {
                        Some(seconds_with_fraction(text))
                    };
                }
            };
            let Some(fields) = fields else { continue };
            if let Some(time) = self.resolver.resolve(&fields, cache) {
                // a clock time alone is another time tomorrow
                if fields.has_date() {
                    cache.remember(text, time);
                }
                return Some(time);
            }
        }
        None
    }

    /// For a time that is an integer already: None where the kind does not take numbers.
    #[must_use]
    pub fn from_integer(&self, seconds: i64) -> Option<i64> {
        let numeric = self.ways.iter().any(|way| matches!(way, Way::Unixtime | Way::Float));
        numeric.then(|| seconds.saturating_mul(1_000_000_000))
    }

    /// For a time that is a float already: None where the kind does not take numbers.
    #[must_use]
    pub fn from_number(&self, seconds: f64) -> Option<i64> {
        if !seconds.is_finite() {
            return None;
        }
        match self.ways.iter().find(|way| matches!(way, Way::Unixtime | Way::Float))? {
            Way::Unixtime => Some((seconds.trunc() as i64).saturating_mul(1_000_000_000)),
            // up to six decimals, nearly all there are: below 2^32 no other such number is the same float
            _ if (0.0..4e9).contains(&seconds) && (seconds * 1e6).round() / 1e6 == seconds => {
                Some((seconds * 1e6).round() as i64 * 1000)
            }
            // by its shortest decimal form, so that 1700000000.1 gives .1 and not .099999905
            _ => Some(seconds_with_fraction(format!("{seconds}").as_bytes())),
        }
    }
}

impl Way {
    fn text(format: &str, zone: Option<&str>) -> Result<Way, String> {
        if format == "%iso8601" {
            return Ok(Way::Iso);
        }
        let program = Program::new(format)?;
        Ok(Way::Format(if zone.is_some() { program.in_zone(format) } else { program }))
    }
}

/// What Ruby's `Time.at` has of a float: its exact value, cut off at nanoseconds.
#[must_use]
pub fn exact_nanos(seconds: f64) -> Option<i64> {
    if !seconds.is_finite() || seconds.abs() >= 9.2e9 {
        return None;
    }
    let whole = seconds.floor();
    // below 1, so 64 binary places hold all that a nanosecond can see
    let fraction = ((seconds - whole) * 18_446_744_073_709_551_616.0) as u128;
    let nanos = ((fraction * 1_000_000_000) >> 64) as i64;
    (whole as i64).checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Ruby's `String#to_i`: white space, a sign, digits with single underscores between them; else 0.
/// Saturates.
#[must_use]
pub fn text_to_integer(text: &[u8]) -> i64 {
    let digits = text.trim_ascii_start();
    let (negative, digits) = match digits.first() {
        Some(b'-') => (true, &digits[1..]),
        Some(b'+') => (false, &digits[1..]),
        _ => (false, digits),
    };
    let mut value = 0i64;
    let mut after_digit = false;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                value = value.saturating_mul(10).saturating_sub(i64::from(byte - b'0'));
                after_digit = true;
            }
            b'_' if after_digit => after_digit = false,
            _ => break,
        }
    }
    if negative { value } else { value.checked_neg().unwrap_or(i64::MAX) }
}

/// `time_type float`: seconds, a dot, the digits of a fraction, of which Fluentd takes up to ten.
fn seconds_with_fraction(text: &[u8]) -> i64 {
    let mut parts = text.split(|byte| *byte == b'.');
    let seconds = text_to_integer(parts.next().unwrap_or_default());
    let fraction = parts.next().unwrap_or_default();
    let mut digits = [b'0'; 10];
    let len = fraction.len().min(digits.len());
    digits[..len].copy_from_slice(&fraction[..len]);
    seconds.saturating_mul(1_000_000_000).saturating_add(text_to_integer(&digits[..len.max(9)]))
}

/// Whether Ruby's `Float(text)` would take it (time_type mixed tries numbers only then).
fn looks_numeric(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    std::str::from_utf8(text).is_ok_and(|text| {
        text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE_".contains(&byte))
            && text.bytes().next_back().is_some_and(|last| last.is_ascii_digit())
            && !text.contains("__")
            && text.starts_with(|first: char| first != '_')
            && text.replace('_', "").parse::<f64>().is_ok()
    })
}

#[cfg(test)]
mod tests;

//! From parsed date and time parts to nanoseconds since the epoch, and the caches on the way.

use super::calendar::{civil_from_days, days_from_civil};
use super::zone::Zone;

/// What a text said; what it left open is None (or the sentinel).
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields {
    pub year: Option<i32>,
    /// 1 to 12; 0: not given.
    pub month: u8,
    /// 1 to 31; 0: not given.
    pub day: u8,
    /// 1 to 366; 0: not given.
    pub day_of_year: u16,
    pub hour: Option<u8>,
    pub minute: Option<u8>,
    pub second: Option<u8>,
    pub nanos: u32,
    pub pm: Option<bool>,
    /// Seconds east of UTC.
    pub offset: Option<i32>,
    /// Nanoseconds since the epoch, given as such.
    pub epoch_ns: Option<i64>,
}

impl Fields {
    /// Whether the same text is the same time on another day.
    pub fn has_date(&self) -> bool {
        self.year.is_some() || self.month > 0 || self.day_of_year > 0 || self.epoch_ns.is_some()
    }
}

const TEXT_MAX: usize = 40;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    len: u8,
    text: [u8; TEXT_MAX],
    time_ns: i64,
}

const NOTHING: Remembered = Remembered { len: u8::MAX, text: [0; TEXT_MAX], time_ns: 0 };

/// One caller's memory over one [`super::TimeParser`]: the last two texts, a few zone offsets, and the
/// bounds of the present year.
#[derive(Debug, Clone)]
pub struct TimeCache {
    recent: [Remembered; 2],
    next: usize,
    /// (quarter hour of wall-clock time, offset in it)
    offsets: [(i64, i32); 4],
    /// The present year in the parser's zone and its bounds in seconds since the epoch.
    year: i32,
    year_start: i64,
    year_end: i64,
}

impl Default for TimeCache {
    fn default() -> Self {
        TimeCache {
            recent: [NOTHING; 2],
            next: 0,
            offsets: [(i64::MIN, 0); 4],
            year: 0,
            year_start: 0,
            year_end: 0,
        }
    }
}

impl TimeCache {
    /// The time of a text that was parsed a moment ago. Of a text without a year the present year is not
    /// checked again: only two texts are kept, so that a year cannot pass over one.
    #[inline]
    pub(super) fn recall(&self, text: &[u8]) -> Option<i64> {
        let len = text.len();
        self.recent
            .iter()
            .find(|known| usize::from(known.len) == len && known.text.get(..len) == Some(text))
            .map(|known| known.time_ns)
    }

    #[inline]
    pub(super) fn remember(&mut self, text: &[u8], time_ns: i64) {
        let len = text.len();
        if len <= TEXT_MAX {
            let slot = &mut self.recent[self.next];
            self.next ^= 1;
            slot.len = len as u8;
            slot.text[..len].copy_from_slice(text);
            slot.time_ns = time_ns;
        }
    }
}

/// Seconds since the epoch by the coarse clock: a fraction of the cost, right to a few milliseconds.
#[inline]
fn now_seconds() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill; the clock id exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    now.tv_sec
}

/// Puts [`Fields`] together in a zone.
pub struct Resolver {
    zone: Zone,
}

impl Resolver {
    pub fn new(zone: Zone) -> Self {
        Resolver { zone }
    }

    /// Seconds east of UTC in this zone at an instant in nanoseconds since the epoch.
    pub fn offset_at(&self, time_ns: i64) -> i32 {
        self.zone.at(time_ns.div_euclid(1_000_000_000)).0
    }

    /// Nanoseconds since the epoch. Parts that the text left open above the first one given come from
    /// the present time, those below are the smallest (as Ruby's Time.strptime does it).
    #[inline]
    pub fn resolve(&self, fields: &Fields, cache: &mut TimeCache) -> Option<i64> {
        if let Some(epoch_ns) = fields.epoch_ns {
            return epoch_ns.checked_add(i64::from(fields.nanos));
        }
        let days = match (fields.year, fields.month, fields.day) {
            (Some(year), 0, _) if fields.day_of_year > 0 => {
                let first = days_from_civil(year, 1, 1);
                let last = days_from_civil(year, 12, 31) - first + 1;
                (i64::from(fields.day_of_year) <= last)
                    .then_some(first + i64::from(fields.day_of_year) - 1)?
            }
            (Some(year), month, day) => days_from_civil(year, month.max(1), i32::from(day.max(1))),
            (None, month @ 1.., day) => {
                days_from_civil(self.present_year(cache), month, i32::from(day.max(1)))
            }
            (None, 0, day) => self.days_without_month(fields, day, cache)?,
        };
        let mut hour = i64::from(fields.hour.unwrap_or(0));
        if let Some(pm) = fields.pm {
            hour = hour % 12 + if pm { 12 } else { 0 };
        }
        let clock =
            hour * 3600 + i64::from(fields.minute.unwrap_or(0)) * 60 + i64::from(fields.second.unwrap_or(0));
        let wall = days * 86_400 + clock;
        let offset = match fields.offset {
            Some(offset) => offset,
            None => self.offset_for_local(wall, cache),
        };
        (wall - i64::from(offset)).checked_mul(1_000_000_000)?.checked_add(i64::from(fields.nanos))
    }

    #[cold]
    fn days_without_month(&self, fields: &Fields, day: u8, cache: &mut TimeCache) -> Option<i64> {
        if fields.day_of_year > 0 {
            return Some(days_from_civil(self.present_year(cache), 1, 1) + i64::from(fields.day_of_year) - 1);
        }
        if day == 0 && fields.hour.is_none() && fields.minute.is_none() && fields.second.is_none() {
            return None; // no time information
        }
        let now = now_seconds();
        let offset = fields.offset.unwrap_or_else(|| self.zone.at(now).0);
        let today = (now + i64::from(offset)).div_euclid(86_400);
        if day == 0 {
            return Some(today);
        }
        let (year, month, _) = civil_from_days(today);
        Some(days_from_civil(year as i32, month, i32::from(day)))
    }

    #[inline]
    fn present_year(&self, cache: &mut TimeCache) -> i32 {
        let now = now_seconds();
        if now < cache.year_start || now >= cache.year_end {
            self.find_year(now, cache);
        }
        cache.year
    }

    #[cold]
    fn find_year(&self, now: i64, cache: &mut TimeCache) {
        let local = now + i64::from(self.zone.at(now).0);
        let year = civil_from_days(local.div_euclid(86_400)).0 as i32;
        let bound = |year| {
            let wall = days_from_civil(year, 1, 1) * 86_400;
            wall - i64::from(self.zone.offset_for_local(wall))
        };
        (cache.year, cache.year_start, cache.year_end) = (year, bound(year), bound(year + 1));
    }

    #[inline]
    fn offset_for_local(&self, wall: i64, cache: &mut TimeCache) -> i32 {
        if let Zone::Fixed(offset) = self.zone {
            return offset;
        }
        let quarter = wall.div_euclid(900);
        let slot = &mut cache.offsets[(quarter & 3) as usize];
        if slot.0 == quarter {
            return slot.1;
        }
        let offset = self.zone.offset_for_local(wall);
        // Cached only where the whole quarter of an hour has it.
        let ends = [quarter * 900, quarter * 900 + 899];
        if ends.iter().all(|end| self.zone.offset_for_local(*end) == offset) {
            *slot = (quarter, offset);
        }
        offset
    }
}

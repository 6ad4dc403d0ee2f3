//! From parsed date and time parts to nanoseconds since the epoch, and the caches on the way.

use super::calendar::{civil_from_days, days_from_civil};
use super::strptime::within_a_day;
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
    pub nanos: Option<i64>,
    pub pm: Option<bool>,
    /// The first two digits of the year.
    pub century: Option<i32>,
    /// A zone that was read: seconds east of UTC; Some(None): one that Ruby does not know, so that the time is
    /// the machine's.
    pub zone: Option<Option<i32>>,
    /// Nanoseconds since the epoch, given as such.
    pub epoch_ns: Option<i64>,
    /// Whether a text without any part of a time is the present one, and no error.
    pub present: bool,
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
    /// The machine's, where `zone` is another.
    machine: Option<Zone>,
}

impl Resolver {
    /// `name`: as [`Zone::new`] takes it.
    pub fn new(name: Option<&str>) -> Result<Self, String> {
        let machine = if name.is_some() { Some(Zone::new(None)?) } else { None };
        Ok(Resolver { zone: Zone::new(name)?, machine })
    }

    /// In `zone` whatever the machine's is.
    pub fn only(zone: Zone) -> Self {
        Resolver { zone, machine: None }
    }

    /// Seconds east of UTC in this zone at an instant in nanoseconds since the epoch.
    pub fn offset_at(&self, time_ns: i64) -> i32 {
        self.zone.at(time_ns.div_euclid(1_000_000_000)).0
    }

    /// Nanoseconds since the epoch. Parts that the text left open above the first one given come from
    /// the present time, those below are the smallest (as Ruby's Time.strptime does it).
    #[inline]
    pub fn resolve(&self, fields: &Fields, cache: &mut TimeCache) -> Option<i64> {
        if fields.epoch_ns.is_some() || fields.century.is_some() {
            return self.unusual(fields, cache);
        }
        let days = match (fields.year, fields.month, fields.day) {
            _ if fields.day_of_year > 0 => {
                let year = fields.year.unwrap_or_else(|| self.present_year(cache));
                let first = days_from_civil(year, 1, 1);
                let last = days_from_civil(year, 12, 31) - first + 1;
                (i64::from(fields.day_of_year) <= last)
                    .then_some(first + i64::from(fields.day_of_year) - 1)?
            }
            (Some(year), month, day) => days_from_civil(year, month.max(1), i32::from(day.max(1))),
            (None, month @ 1.., day) => {
                days_from_civil(self.present_year(cache), month, i32::from(day.max(1)))
            }
            (None, 0, day) => return self.without_month(fields, day, cache),
        };
        let mut hour = fields.hour.unwrap_or(0);
        if let Some(pm) = fields.pm
            && fields.hour.is_some()
        {
            hour = hour % 12 + if pm { 12 } else { 0 };
        }
        let clock = (hour, fields.minute.unwrap_or(0), fields.second.unwrap_or(0));
        self.put_together(fields, days, clock, cache)
    }

    #[inline]
    fn put_together(
        &self,
        fields: &Fields,
        days: i64,
        (hour, minute, second): (u8, u8, u8),
        cache: &mut TimeCache,
    ) -> Option<i64> {
        if hour == 24 && (minute > 0 || second > 0) && matches!(fields.zone, None | Some(None | Some(0))) {
            return None; // the end of the day is its last moment
        }
        let wall = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let offset = match fields.zone {
            Some(Some(offset)) => within_a_day(offset)?,
            Some(None) => match &self.machine {
                Some(machine) => machine.offset_for_local(wall),
                None => self.offset_for_local(wall, cache),
            },
            None => self.offset_for_local(wall, cache),
        };
        let whole = (wall - i64::from(offset)).saturating_mul(1_000_000_000);
        Some(whole.saturating_add(fields.nanos.unwrap_or(0)))
    }

    /// Seconds since the epoch: Fluentd takes them for local time where a zone is configured. A century: it is
    /// added to the year.
    #[cold]
    fn unusual(&self, fields: &Fields, cache: &mut TimeCache) -> Option<i64> {
        if let Some(epoch_ns) = fields.epoch_ns {
            let nanos = fields.nanos.unwrap_or(0);
            let time_ns = epoch_ns.saturating_add(if epoch_ns < 0 { -nanos } else { nanos });
            let moved = match &self.machine {
                Some(machine) if fields.zone.is_none() => {
                    let seconds = epoch_ns.div_euclid(1_000_000_000);
                    i64::from(machine.at(seconds).0) - i64::from(self.zone.at(seconds).0)
                }
                _ => 0,
            };
            return Some(time_ns.saturating_add(moved * 1_000_000_000));
        }
        let year = fields.year.map(|year| year.rem_euclid(100) + fields.century.unwrap_or(0) * 100);
        self.resolve(&Fields { year, century: None, ..*fields }, cache)
    }

    #[cold]
    fn without_month(&self, fields: &Fields, day: u8, cache: &mut TimeCache) -> Option<i64> {
        let now = now_seconds();
        let offset = fields.zone.flatten().unwrap_or_else(|| self.zone.at(now).0);
        let now = now + i64::from(offset);
        let (today, clock) = (now.div_euclid(86_400), now.rem_euclid(86_400));
        let mut clock = [(clock / 3600) as u8, (clock / 60 % 60) as u8, (clock % 60) as u8];
        let given = [fields.hour, fields.minute, fields.second];
        let first = match given.iter().position(Option::is_some) {
            _ if day > 0 => 0,
            Some(first) => first,
            None if fields.present || fields.nanos.is_some() => 3,
            None => return None, // no time information
        };
        for at in first..3 {
            clock[at] = given[at].unwrap_or(0);
        }
        if let (Some(pm), Some(hour)) = (fields.pm, fields.hour) {
            clock[0] = hour % 12 + if pm { 12 } else { 0 };
        }
        let days = if day == 0 {
            today
        } else {
            let (year, month, _) = civil_from_days(today);
            days_from_civil(year as i32, month, i32::from(day))
        };
        self.put_together(fields, days, (clock[0], clock[1], clock[2]), cache)
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

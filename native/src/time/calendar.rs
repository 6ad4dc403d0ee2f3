//! Civil dates and days since the epoch (proleptic Gregorian; the algorithms are Howard Hinnant's,
//! "chrono-Compatible Low-Level Date Algorithms").

/// Days since 1970-01-01 of a date. `day` may lie outside the month: 30 February is 1 or 2 March.
#[inline]
pub fn days_from_civil(year: i32, month: u8, day: i32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468 + i64::from(day) - 1
}

/// (year, month, day) of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u8;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// English month names; the first three letters are the short ones.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// English day names from Sunday.
pub const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The month (1 to 12) whose name `text` starts with, in any case, and how long the name is: the full
/// name where it stands there, else three letters.
#[inline]
pub fn month_by_name(text: &[u8]) -> Option<(u8, usize)> {
    let first = text.first_chunk::<3>()?;
    let key = u32::from_be_bytes([0, first[0] | 0x20, first[1] | 0x20, first[2] | 0x20]);
    const fn k(name: &[u8; 3]) -> u32 {
        u32::from_be_bytes([0, name[0], name[1], name[2]])
    }
    const KEYS: [u32; 12] = [
        k(b"jan"),
        k(b"feb"),
        k(b"mar"),
        k(b"apr"),
        k(b"may"),
        k(b"jun"),
        k(b"jul"),
        k(b"aug"),
        k(b"sep"),
        k(b"oct"),
        k(b"nov"),
        k(b"dec"),
    ];
    let index = KEYS.iter().position(|known| *known == key)?;
    let full = MONTHS[index].as_bytes();
    let long = text.len() >= full.len() && text[..full.len()].eq_ignore_ascii_case(full);
    Some((index as u8 + 1, if long { full.len() } else { 3 }))
}

/// How long the day name is that `text` starts with.
pub fn day_name(text: &[u8]) -> Option<usize> {
    DAYS.iter().find_map(|name| {
        let starts =
            |len: usize| text.len() >= len && text[..len].eq_ignore_ascii_case(&name.as_bytes()[..len]);
        if starts(name.len()) {
            Some(name.len())
        } else if starts(3) {
            Some(3)
        } else {
            None
        }
    })
}

//! Any format on any text: no crash, and a cache does not change the result.
#![no_main]

use forwarder_native::time::{TimeCache, TimeFormatter, TimeParser, TimeSpec};
use libfuzzer_sys::fuzz_target;

const FORMATS: &[&str] = &[
    "%b %d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y-%m-%dT%H:%M:%S.%N%z",
    "%iso8601",
    "%s",
    "%Q",
    "%j %y %I %p %A %B %e",
    "%Y-%m-%d %H:%M:%S %Z",
];
const ZONES: &[Option<&str>] = &[None, Some("+09:00"), Some("UTC"), Some("America/New_York")];

fn try_spec(spec: &TimeSpec, text: &[u8]) {
    let Ok(parser) = TimeParser::new(spec) else { return };
    let mut cache = TimeCache::default();
    let first = parser.parse(text, &mut cache);
    assert_eq!(parser.parse(text, &mut cache), first, "the cache changed the result");
    if let Some(time_ns) = first
        && let Ok(mut formatter) = TimeFormatter::new(spec.format.as_deref(), spec.zone.as_deref())
    {
        formatter.write(&mut Vec::new(), time_ns);
    }
}

fuzz_target!(|data: &[u8]| {
    let [which, zone, rest @ ..] = data else { return };
    let zone = ZONES[usize::from(*zone) % ZONES.len()].map(str::to_owned);
    let kind = ["", "unixtime", "float", "mixed"][usize::from(*which >> 6)].to_owned();
    let format = match usize::from(*which & 0x3f) % (FORMATS.len() + 2) {
        i if i < FORMATS.len() => Some(FORMATS[i].to_owned()),
        i if i == FORMATS.len() => None,
        _ => {
            // The format itself is fuzzed too: what stands before the first NUL.
            let cut = rest.iter().position(|b| *b == 0).unwrap_or(0);
            let Ok(format) = std::str::from_utf8(&rest[..cut]) else { return };
            return try_spec(
                &TimeSpec { kind, format: Some(format.to_owned()), fallbacks: vec![], zone },
                &rest[cut..],
            );
        }
    };
    let zone = if format.is_some() { zone } else { None };
    try_spec(&TimeSpec { kind, format, fallbacks: vec![], zone }, rest);
});

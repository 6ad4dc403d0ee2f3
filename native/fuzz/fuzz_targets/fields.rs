//! Any bytes for the parsers of fields that name themselves: logfmt, kv, CEF, MessagePack.
#![no_main]

use std::collections::HashMap;

use forwarder_native::cef::{CefOptions, CefParser, LogFormat};
use forwarder_native::delimited::key_values;
use forwarder_native::logfmt::LogfmtParser;
use forwarder_native::msgpack_parser::MsgpackParser;
use forwarder_native::options::ParseOptions;
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, text)) = data.split_first() else { return };
    let mut options = ParseOptions::default();
    if how & 4 != 0 {
        let types =
            [("a", "integer"), ("b", "float"), ("c", "bool"), ("d", "array:,"), ("cef_name", "string")];
        options.types =
            types.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<HashMap<_, _>>();
    }
    if how & 8 != 0 {
        options.time_key = Some("rt".to_owned());
        options.keep_time_key = how & 16 != 0;
    }
    options.null_empty_string = how & 32 != 0;
    match how & 3 {
        0 => check_parser(&LogfmtParser::new(&options).ok().expect("valid options"), text),
        1 => {
            let delimiter = ["/\\s+/", "|", "/[,;]\\s*/", "&&"][usize::from(how >> 6)];
            check_parser(&key_values(delimiter, "=", &options).ok().expect("valid options"), text);
        }
        2 => {
            let known = ["src", "msg", "rt"].map(|key| key.as_bytes().to_vec());
            let own = CefOptions {
                log_format: LogFormat::Auto,
                version: None,
                keys: (how & 64 != 0).then(|| known.into_iter().collect()),
                raw: how & 128 != 0,
            };
            check_parser(&CefParser::new(own, &options).ok().expect("valid options"), text);
        }
        _ => check_parser(&MsgpackParser::new(&options).ok().expect("valid options"), text),
    }
});

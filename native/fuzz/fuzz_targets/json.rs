//! Any bytes as JSON, with and without types and a time field.
#![no_main]

use std::collections::HashMap;

use forwarder_native::json_parser::JsonParser;
use forwarder_native::options::ParseOptions;
use forwarder_native::time::TimeSpec;
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, text)) = data.split_first() else { return };
    let mut options = ParseOptions::default();
    if how & 1 != 0 {
        let types = [("a", "integer"), ("b", "float"), ("c", "bool"), ("d", "array:,"), ("e", "string")];
        options.types =
            types.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<HashMap<_, _>>();
    }
    if how & 2 != 0 {
        options.time_key = Some("time".to_owned());
        options.time = TimeSpec { kind: "float".to_owned(), ..TimeSpec::default() };
        options.keep_time_key = how & 4 != 0;
    }
    options.null_empty_string = how & 8 != 0;
    check_parser(&JsonParser::new(&options).ok().expect("these options are valid"), text);
});

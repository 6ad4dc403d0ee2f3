//! Any bytes as a syslog message, in every format and both engines.
#![no_main]

use forwarder_native::options::ParseOptions;
use forwarder_native::syslog::{MessageFormat, SyslogOptions, SyslogParser};
use forwarder_native_fuzz::check_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, text)) = data.split_first() else { return };
    let options = SyslogOptions {
        message_format: match how & 3 {
            0 => MessageFormat::Rfc3164,
            1 => MessageFormat::Rfc5424,
            _ => MessageFormat::Auto,
        },
        with_priority: how & 4 != 0,
        time_format: None,
        rfc5424_time_format: "%Y-%m-%dT%H:%M:%S.%L%z".to_owned(),
        support_colonless_ident: how & 8 != 0,
        string_engine: how & 16 != 0,
        common: ParseOptions { keep_time_key: how & 32 != 0, ..ParseOptions::default() },
    };
    let parser = SyslogParser::new(options);
    check_parser(&parser.ok().expect("default formats compile"), text);
});

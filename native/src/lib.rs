//! `forwarder._native`: the kernels that touch every event. One kernel a file, no policy here.

pub mod accessor;
pub mod apache2;
pub mod archive;
pub mod body;
pub mod budget;
pub mod bulk;
pub mod bulk_response;
pub mod cef;
pub mod columns_out;
pub mod compiled;
pub mod containers;
pub mod control;
pub mod convert;
pub mod dedup;
pub mod delimited;
pub mod drops;
pub mod event;
pub mod expression;
pub mod extract;
pub mod fields;
pub mod first_path;
pub mod formatters;
pub mod forward;
pub mod framer;
pub mod genid;
pub mod grep;
pub mod grok;
pub mod ingest;
pub mod inject;
pub mod intake;
pub mod integer_time;
pub mod json_in;
pub mod json_out;
pub mod json_parser;
pub mod keep;
pub mod listener;
pub mod logfmt;
pub mod memory;
pub mod merge;
pub mod msgpack;
pub mod msgpack_parser;
pub mod multiline;
pub mod named;
pub mod none;
pub mod options;
pub mod parser;
pub mod parser_filter;
pub mod partition;
pub mod pcre;
pub mod python;
pub mod record_metric;
pub mod regexp;
pub mod routes;
pub mod ruby_inspect;
pub mod ruby_regexp;
pub mod sample;
pub mod sampling;
pub mod segment;
pub mod segments;
pub mod set_fields;
pub mod sockaddr;
pub mod stream;
pub mod syslog;
mod syslog_regexp;
mod syslog_string;
mod syslog_time;
pub mod tail;
pub mod throttle;
pub mod time;
pub mod transform;
pub mod udp;

use pyo3::prelude::*;

/// The extension module; every kernel registers its own classes and functions.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::apache2::apache2_parser;
    #[pymodule_export]
    use crate::archive::ArchiveReader;
    #[pymodule_export]
    use crate::body::{BodyReader, form_fields, inflate_bytes};
    #[pymodule_export]
    use crate::budget::{MemoryBudget, MemoryLoan};
    #[pymodule_export]
    use crate::bulk::{Bulk, BulkEncoder, BulkGroups, BulkRequests};
    #[pymodule_export]
    use crate::bulk_response::{BulkOutcome, parse_bulk_response};
    #[pymodule_export]
    use crate::cef::cef_parser;
    #[pymodule_export]
    use crate::columns_out::{csv_formatter, ltsv_formatter, msgpack_formatter, tsv_formatter};
    #[pymodule_export]
    use crate::compiled::{CompiledFormatter, CompiledParser};
    #[pymodule_export]
    use crate::containers::{cri_parser, docker_parser};
    #[pymodule_export]
    use crate::control::{msgpack_pack, msgpack_unpack};
    #[pymodule_export]
    use crate::dedup::Dedup;
    #[pymodule_export]
    use crate::delimited::{csv_parser, kv_parser, ltsv_parser, tsv_parser};
    #[pymodule_export]
    use crate::event::{EventBatch, EventIterator, EventStream};
    #[pymodule_export]
    use crate::formatters::{
        hash_formatter, json_formatter, lines_formatter, out_file_formatter, single_value_formatter,
        stdout_formatter,
    };
    #[pymodule_export]
    use crate::forward::python::{FedForward, ForwardFeeder, ForwardRules, ForwardServer};
    #[pymodule_export]
    use crate::genid::GenId;
    #[pymodule_export]
    use crate::grep::Grep;
    #[pymodule_export]
    use crate::grok::{grok_explain, grok_parser};
    #[pymodule_export]
    use crate::inject::Inject;
    #[pymodule_export]
    use crate::intake::{FedConnection, Ingestor, Intake, StreamFeeder, StreamFramer, python_parser};
    #[pymodule_export]
    use crate::integer_time::integer_times;
    #[pymodule_export]
    use crate::json_parser::json_parser;
    #[pymodule_export]
    use crate::logfmt::logfmt_parser;
    #[pymodule_export]
    use crate::memory::keep_memory;
    #[pymodule_export]
    use crate::msgpack_parser::msgpack_parser;
    #[pymodule_export]
    use crate::multiline::multiline_parser;
    #[pymodule_export]
    use crate::none::none_parser;
    #[pymodule_export]
    use crate::options::check_parse_options;
    #[pymodule_export]
    use crate::parser_filter::{ParserFilter, ParserFilterResult};
    #[pymodule_export]
    use crate::partition::Partitioner;
    #[pymodule_export]
    use crate::record_metric::RecordMetric;
    #[pymodule_export]
    use crate::regexp::{check_regexp, regexp_parser};
    #[pymodule_export]
    use crate::routes::TagRoutes;
    #[pymodule_export]
    use crate::sample::Sampler;
    #[pymodule_export]
    use crate::sampling::Sampling;
    #[pymodule_export]
    use crate::segments::{ChunkRecords, Segments, intact_entries};
    #[pymodule_export]
    use crate::set_fields::set_fields;
    #[pymodule_export]
    use crate::stream::{StreamServer, network_contains};
    #[pymodule_export]
    use crate::syslog::syslog_parser;
    #[pymodule_export]
    use crate::tail::{Tailer, scan_files};
    #[pymodule_export]
    use crate::throttle::{Throttle, ThrottleReport};
    #[pymodule_export]
    use crate::transform::RecordTransformer;
    #[pymodule_export]
    use crate::udp::UdpReceiver;
}

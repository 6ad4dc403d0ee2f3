"""The parameters of the elasticsearch output, by what they are about. Names and defaults are
fluent-plugin-elasticsearch's."""

from __future__ import annotations

from typing import Final

from forwarder.api import Section, array, boolean, duration, enum, hash_, integer, size, string

_VERSIONS: Final = ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3")


class Addresses:
    """Where the cluster is."""

    host = string("Host; also `host:port`, a URL, or several of them with commas; may hold placeholders.",
                  "localhost")  # fmt: skip
    port = integer("Port where the address names none.", 9200)
    hosts = string("Hosts or URLs separated by commas, instead of host; may hold placeholders.", None)
    path = string("Path before every request, for a cluster behind a proxy.", None)
    scheme = enum("Protocol where the address names none.", ("https", "http"), "http")
    cloud_id = string("Cloud ID of an Elastic Cloud deployment, instead of host.", None)
    cloud_auth = string("`user:password` for cloud_id.", None, secret=True)


class Credentials:
    """Who we are, and whom we trust."""

    user = string("User (basic authentication); `%{...}` is percent-encoded.", None)
    password = string("Password of user; `%{...}` is percent-encoded.", None, secret=True)
    api_key = string("API key as `id:key`, sent in base64.", None, secret=True)
    custom_headers = hash_("Headers to add to every request.", {}, secret=True)
    ssl_verify = boolean("Check the server's certificate and host name.", True)
    ca_file = string("Authorities that may have signed it (PEM); not set: the system's.", None)
    client_cert = string("Our certificate (PEM).", None)
    client_key = string("Its key (PEM); not set: it is in client_cert.", None)
    client_key_pass = string("Passphrase of the key.", None, secret=True)
    ssl_version = enum("Lowest TLS version, where ssl_min_version is not set.", _VERSIONS, "TLSv1_2")
    ssl_min_version = enum("Lowest TLS version.", _VERSIONS, None)
    ssl_max_version = enum("Highest TLS version.", _VERSIONS, None)


class Connections:
    """How requests are sent."""

    request_timeout = duration("How long to wait for a connection, and for an answer.", 5.0)
    resurrect_after = duration("Longest time for which a node that failed is left alone.", 60.0)
    reload_connections = boolean("No effect: the nodes are those that are configured.", True)
    reload_after = integer("No effect, as reload_connections.", -1)
    reload_on_failure = boolean("No effect, as reload_connections.", False)
    reconnect_on_error = boolean("No effect: a connection that fails is always closed.", False)
    sniffer_class_name = string(
        "Only `Fluent::Plugin::ElasticsearchSimpleSniffer`: the nodes are those that are configured.", None
    )
    selector_class_name = string(
        "Only `Fluent::Plugin::ElasticseatchFallbackSelector`: always the first node that works.", None
    )
    http_backend = enum("No effect: there is one HTTP client.", ("excon", "typhoeus"), "excon")
    http_backend_excon_nonblock = boolean("No effect: there is one HTTP client.", True)
    compression_level = enum(
        "Whether and how hard bodies are compressed (gzip).",
        ("no_compression", "best_speed", "best_compression", "default_compression"),
        "no_compression",
    )
    bulk_message_request_threshold = size("Largest body of a request in bytes; negative: one per chunk.", -1)
    content_type = enum(
        "No effect: newline-delimited JSON is sent as what it is.",
        ("application/json", "application/x-ndjson"),
        "application/json",
        deprecated="it has no effect",
    )
    with_transporter_log = boolean("Log every request.", False)


class Version:
    """Which server it is."""

    verify_es_version_at_startup = boolean("Ask the cluster for its version before the first request.", True)
    default_elasticsearch_version = integer("Major version where it is not asked or not told.", 5)
    max_retry_get_es_version = integer(
        "How often to ask again where nobody answers. Set: the start waits for it (2, 4, 8... 30 seconds "
        "between questions); not set: it does not, and chunks stay in the buffer meanwhile.",
        15,
    )
    fail_on_detecting_es_version_retry_exceed = boolean(
        "After so many questions the start fails (one that does not wait asks on with each chunk); false: "
        "the default version is assumed.",
        True,
    )
    validate_client_version = boolean("Refuse servers whose version this output is not made for.", False)
    prefer_oj_serializer = boolean("No effect: JSON is always written as Oj writes it.", False)


class Reaching(Addresses, Credentials, Connections, Version):
    """All that is about reaching the cluster."""


class Documents:
    """What is sent."""

    index_name = string("Index; may hold placeholders.", "fluentd")
    logstash_format = boolean("An index per day, `logstash-2023.11.14`, and the field `@timestamp`.", False)
    logstash_prefix = string("First part of such an index; may hold placeholders.", "logstash")
    logstash_prefix_separator = string("What stands behind it.", "-")
    logstash_dateformat = string("Its last part (strftime).", "%Y.%m.%d")
    utc_index = boolean("The day in UTC; false: in the machine's zone.", True)
    target_index_key = string("Field that names the index; `.` for nested ones. It is taken out.", None)
    include_index_in_url = boolean("The index in the path instead of in the body.", False)
    type_name = string("Mapping type, for servers before version 7; may hold placeholders.", "fluentd")
    suppress_type_name = boolean("Name no type to version 7.", False)
    target_type_key = string("Field that names the type. It is taken out; nothing more from version 7 on.",
                             None, deprecated="mapping types are gone since version 7")  # fmt: skip
    include_timestamp = boolean("Add the field `@timestamp`, as logstash_format does.", False)
    time_key = string("Field to take `@timestamp` from; not set: the event's time.", None)
    time_key_format = string("How that field is written (strptime).", None)
    time_key_exclude_timestamp = boolean("With time_key: add no `@timestamp`.", False)
    time_precision = integer("Digits behind the second in `@timestamp`.", 9)
    time_parse_error_tag = string(
        "Tag of events about fields that are no time.",
        "Fluent::ElasticsearchOutput::TimeParser.error",
    )
    include_tag_key = boolean("Add the tag as a field.", False)
    tag_key = string("Its name.", "tag")
    id_key = string("Field that holds the document's id.", None)
    deterministic_id = boolean(
        "Give every document an id that is the same when a chunk is sent again, so that nothing is doubled.",
        False,
    )
    parent_key = string("Field that holds the parent's id.", None)
    routing_key = string("Field that holds the routing value.", None)
    remove_keys = string("Fields to take out, separated by commas.", None)
    remove_keys_on_update = string("Fields that updates leave out, separated by commas.", "")
    remove_keys_on_update_key = string("Field that lists the fields that updates leave out.", None)
    flatten_hashes = boolean('Bring nested fields up: `{"a":{"b":1}}` to `{"a_b":1}`.', False)
    flatten_hashes_separator = string("What stands between the names then.", "_")
    write_operation = enum("What to do with a document.", ("index", "create", "update", "upsert"), "index")
    suppress_doc_wrap = boolean("Send the record itself as the body of an update.", False)
    pipeline = string("Ingest pipeline; may hold placeholders.", None)
    target_index_affinity = boolean(
        "Send updates to the index that has the document, which is searched for by its id: with "
        "logstash_format, id_key and an update or upsert.",
        False,
    )


class Failures:
    """What happens to documents that are not taken."""

    emit_error_for_missing_id = boolean(
        "Send events without an id that create, update and upsert need to @ERROR; false: only count them.",
        False,
    )
    unrecoverable_error_types = array(
        "Errors of the server after which a document is not tried again but goes to @ERROR.", [], of="string"
    )
    log_es_400_reason = boolean("No effect: the reason of a rejection is always logged.", False)
    retry_tag = string("No effect: what is tried again stays in its chunk.", None)
    ignore_exceptions = array(
        "Failures of a request after which its chunk is not tried again, by the names of Ruby's classes: "
        "`Elastic::Transport::Transport::Errors::ServiceUnavailable`, `Faraday::ConnectionFailed`, ...",
        [],
        of="string",
    )
    exception_backup = boolean(
        "Such chunks go to `<secondary>` or a backup file; false: their events are counted as `ignored`.",
        True,
    )


class Setup:
    """What is set up in the cluster."""

    template_name = string("Name of the index template in template_file; may hold placeholders.", None)
    template_file = string("File with it (JSON).", None)
    template_overwrite = boolean("Replace one that is there.", False)
    customize_template = hash_("Texts to replace in template_file; the new ones may hold placeholders.", None)
    templates = hash_("Names and files of several templates.", None)
    use_legacy_template = boolean("Whether they are legacy templates; false: composable ones.", True)
    max_retry_putting_template = integer("How often to try again to put a template.", 10)
    fail_on_putting_template_retry_exceed = boolean(
        "Send no documents then until it is there; false: go on without.", True
    )
    catch_transport_exception_on_retry = boolean(
        "No effect: every failure to reach the cluster is tried again.", True
    )
    truncate_caches_interval = duration("Look again so often whether templates are there.", None)
    index_prefix = string(
        "Old form of index_name.", "logstash", obsolete="use index_name, or logstash_prefix"
    )
    rollover_index = string("Write to an alias, whose first index is made: `true`.", "false")
    index_date_pattern = string("Date in the first index's name, in date math; empty: none.", "now/d")
    index_separator = string("What stands between the parts of that name.", "-")
    deflector_alias = string("The alias; not set: the index's name. May hold placeholders.", None)
    application_name = string("Part of the first index's name; may hold placeholders.", "default")
    enable_ilm = boolean("As rollover_index, with a lifecycle policy (OpenSearch: state management).", False)
    ilm_policy_id = string("Name of the policy; may hold placeholders.", "logstash-policy")
    ilm_policy = hash_("The policy; not set: a new index every 50 GB or 30 days.", {})
    ilm_policies = hash_("Policies by name, where ilm_policy_id has placeholders.", {})
    ilm_policy_overwrite = boolean("Replace a policy that is there.", False)
    given: frozenset[str]


class Metadata(Section):
    """`<metadata>`."""

    include_chunk_id = boolean("Add the chunk's id as a field.", False)
    chunk_id_key = string("Its name.", "chunk_id")

"""`<match> @type elasticsearch` or `opensearch`: documents by the bulk API of Elasticsearch and OpenSearch.

*Delivery*: at least once per document. What the cluster has taken is not sent again; what it rejects goes to
`@ERROR` with the reason; the rest is tried again, a few times at once and then by the buffer. A request that
is not answered in time may have been taken, and is sent again: `deterministic_id true` keeps that from
doubling documents. A memory buffer's chunks are lost with the process.

*Differs from Fluentd*: see docs/elasticsearch.md. The main points: only the documents that failed are sent
again, from the buffer rather than through the routes; a full queue (`es_rejected_execution_exception`) does
not end a chunk; the start does not wait for the cluster; the nodes are those of `hosts` (no sniffing).
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forwarder._native import BulkEncoder
from forwarder.api import (
    Chunk,
    ConfigError,
    ForwarderError,
    Output,
    UnrecoverableError,
    optional_section,
    placeholders,
)
from forwarder.plugins.outputs.elasticsearch import hosts, templates
from forwarder.plugins.outputs.elasticsearch.parameters import (
    Addresses,
    Connections,
    Credentials,
    Documents,
    Failures,
    Metadata,
    Setup,
    Version,
)

if TYPE_CHECKING:
    import ssl

    from forwarder.api.buffering import ChunkKeys
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster, Options
    from forwarder.plugins.outputs.elasticsearch.delivery import Rules

_LEVELS: Final = {"no_compression": None, "best_speed": 1, "best_compression": 9, "default_compression": 6}
_SNIFFER: Final = "Fluent::Plugin::ElasticsearchSimpleSniffer"
_SELECTOR: Final = "Fluent::Plugin::ElasticseatchFallbackSelector"
_NO_OWN_TYPES: Final = 7
_NO_TYPES: Final = 8
"""The versions from which on the only mapping type is `_doc`, and from which on there is none."""
_CLUSTERS: Final = 64


class ElasticsearchOutput(
    Addresses, Credentials, Connections, Version, Documents, Failures, Setup, Output
):  # fmt: skip
    """Documents in an Elasticsearch or OpenSearch cluster."""

    multi_workers_ready = True

    metadata = optional_section(Metadata, "What to add about the chunk.")

    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {
        "@type": "memory",
        "chunk_keys": ["tag"],
        "timekey_use_utc": True,
    }

    def configure(self) -> None:
        self._addresses = self.hosts or self.host
        self._check_chunk_keys()
        self._check_choices()
        self._user, self._password = self._credentials()
        self._moving = self.cloud_id is None and "${" in self._addresses
        if not self._moving:
            self._nodes(self._addresses)
        self._tls = self._tls_context()
        self._installer = templates.Installer(templates.configured(self), self, self.log)
        self._encoders: dict[int, BulkEncoder] = {}
        self._encoder(self.default_elasticsearch_version)
        self._clusters: dict[str, Cluster] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        if self.verify_es_version_at_startup and not self._moving:
            # early, so that a wrong address is in the log before the first chunk is due
            threading.Thread(target=self._look, name=f"{self.context.id}-version", daemon=True).start()

    def write(self, chunk: Chunk) -> None:
        from forwarder.plugins.outputs.elasticsearch.delivery import Delivery  # noqa: PLC0415 - see _cluster

        cluster = self._cluster(self.extract_placeholders(self._addresses, chunk) if self._moving else "")
        major = self._major(cluster)
        self._installer.install(cluster, lambda text: self._fill(text, chunk))
        dated = self.logstash_format
        requests = self._encoder(major).encode(
            chunk.blocks(),
            tag=chunk.key.tag,
            index=self._fill(self.logstash_prefix, chunk) + self.logstash_prefix_separator
            if dated
            else self._fill(self.index_name, chunk),
            date_format=self._fill(self.logstash_dateformat, chunk) if dated else "",
            type_name=self._fill(self.type_name, chunk) if major < _NO_OWN_TYPES else "_doc",
            pipeline=None if self.pipeline is None else self._fill(self.pipeline, chunk),
            chunk_id=chunk.id,
            limit_bytes=self._limit(cluster),
        )
        Delivery(self, self._rules(), cluster, chunk).run(requests)

    def close(self) -> None:
        for cluster in self._clusters.values():
            cluster.close()
        self._clusters.clear()

    # ------------------------------------------------------------ the cluster

    def _cluster(self, addresses: str) -> Cluster:
        """The connections to the cluster at these addresses; "": the only one."""
        # Here and not above: the HTTP client costs megabytes, and `forwarder check` can do without.
        from forwarder.plugins.outputs.elasticsearch.cluster import Cluster  # noqa: PLC0415

        with self._lock:
            cluster = self._clusters.get(addresses)
            if cluster is None:
                try:
                    nodes = self._nodes(addresses or self._addresses)
                except ConfigError as error:
                    raise UnrecoverableError(error.message, whole=True) from None
                if len(self._clusters) >= _CLUSTERS:
                    self._clusters.pop(next(iter(self._clusters))).close()
                cluster = self._clusters[addresses] = Cluster(nodes, self._options())
            return cluster

    def _options(self) -> Options:
        from forwarder.plugins.outputs.elasticsearch.cluster import Options  # noqa: PLC0415 - see _cluster

        headers = {name: str(value) for name, value in self.custom_headers.items()}
        if self.api_key is not None:
            headers["authorization"] = f"ApiKey {base64.b64encode(self.api_key.encode()).decode()}"
        return Options(
            self.request_timeout, self.resurrect_after, self.buffer.flush_thread_count + 1, headers,
            self._tls, first_alive=self.selector_class_name is not None,
            trace=self.log.info if self.with_transporter_log else None,
        )  # fmt: skip

    def search_cluster(self, timeout: float) -> Cluster:
        """As `forwarder.api.search.SearchOutput` says."""
        from forwarder.plugins.outputs.elasticsearch.cluster import Cluster  # noqa: PLC0415 - see _cluster

        if self._moving:
            raise ConfigError("the address holds placeholders: give another one", param="hosts")
        return Cluster(self._nodes(self._addresses), self._options()._replace(timeout=timeout))

    def _nodes(self, addresses: str) -> list[hosts.Node]:
        defaults = hosts.Defaults(self.scheme, self.port, self.path, self._user, self._password)
        name = "cloud_id" if self.cloud_id is not None else "hosts" if self.hosts is not None else "host"
        try:
            if self.cloud_id is not None:
                return [hosts.cloud(self.cloud_id, self._user, self._password)]
            return hosts.parse(addresses, defaults)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}", param=name) from None

    def _look(self) -> None:
        try:
            cluster = self._cluster("")
            self._major(cluster)
            if self._installer.fixed:
                self._installer.install(cluster, str)
        except Exception as error:
            self.log.warning("the cluster is not ready yet", error=error)

    def _major(self, cluster: Cluster) -> int:
        """The cluster's major version, asked for once. Raises what `Cluster.version` raises."""
        if not self.verify_es_version_at_startup:
            return self.default_elasticsearch_version
        with cluster.lock:
            if cluster.major is None:
                cluster.major = self._ask(cluster)
            return cluster.major

    def _ask(self, cluster: Cluster) -> int:
        default = self.default_elasticsearch_version
        try:
            found = cluster.version()
        except ForwarderError as error:
            cluster.failures += 1
            patient = cluster.failures <= self.max_retry_get_es_version
            if patient or self.fail_on_detecting_es_version_retry_exceed:
                raise
            self.log.warning("cannot find out the version: default_elasticsearch_version is assumed",
                             version=default, error=error)  # fmt: skip
            return default
        if found is None:
            self.log.warning("the cluster tells no version: default_elasticsearch_version is assumed",
                             version=default, cluster=cluster.name)  # fmt: skip
            return default
        self.log.info("connected", version=found[1], cluster=cluster.name)
        return found[0]

    def _limit(self, cluster: Cluster) -> int:
        limits = (self.bulk_message_request_threshold, cluster.limit_bytes)
        return min((limit for limit in limits if limit is not None and limit >= 0), default=-1)

    # ------------------------------------------------------------ documents

    def _encoder(self, major: int) -> BulkEncoder:
        """What makes bodies for a server of this version. Raises ConfigError."""
        encoder = self._encoders.get(major)
        if encoder is not None:
            return encoder
        try:
            encoder = BulkEncoder(self._encoding(major))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._encoders[major] = encoder
        return encoder

    def _encoding(self, major: int) -> dict[str, Any]:
        same = (
            "logstash_format", "utc_index", "include_timestamp", "time_precision", "time_key",
            "time_key_format", "time_key_exclude_timestamp", "id_key", "parent_key", "routing_key",
            "remove_keys_on_update_key", "suppress_doc_wrap", "include_index_in_url", "deterministic_id",
        )  # fmt: skip
        chunk_id = self.metadata is not None and self.metadata.include_chunk_id
        return {name: getattr(self, name) for name in same} | {
            "write_operation": self._operation(),
            "tag_key": self.tag_key if self.include_tag_key else None,
            "chunk_id_key": self.metadata.chunk_id_key if self.metadata is not None and chunk_id else None,
            "routing_name": "routing" if major >= _NO_OWN_TYPES else "_routing",
            "remove_keys": re.split(r"\s*,\s*", self.remove_keys) if self.remove_keys else None,
            "remove_keys_on_update": [key for key in self.remove_keys_on_update.split(",") if key],
            "flatten_hashes_separator": self.flatten_hashes_separator if self.flatten_hashes else None,
            "target_index_key": self.target_index_key.split(".") if self.target_index_key else None,
            "target_type_key": self.target_type_key.split(".") if self.target_type_key else None,
            "with_type": major < _NO_OWN_TYPES or (major < _NO_TYPES and not self.suppress_type_name),
        }

    def _operation(self) -> str:
        """With our own ids a document that is there already is the same one: it need not be written again."""
        return "create" if self.deterministic_id and self.id_key is None else self.write_operation

    def _fill(self, template: str, chunk: Chunk) -> str:
        return self.extract_placeholders(template, chunk)

    def _rules(self) -> Rules:
        from forwarder.plugins.outputs.elasticsearch.delivery import Rules  # noqa: PLC0415 - see _cluster

        return Rules(
            updates=self.write_operation in ("update", "upsert"),
            keeps_ids=self.deterministic_id,
            hopeless=frozenset(map(str, self.unrecoverable_error_types)),
            compression=_LEVELS[self.compression_level],
            silent=frozenset() if self.emit_error_for_missing_id else frozenset({"missing_id"}),
            time_error_tag=self.time_parse_error_tag,
        )

    # ------------------------------------------------------------ checks of the configuration

    def _check_chunk_keys(self) -> None:
        keys = self._keys()
        templates = (self._addresses, self.index_name, self.logstash_prefix, self.logstash_dateformat)
        if not keys.tag and "_index" not in keys.fields and not any(
            _varies(template, keys) for template in templates
        ):  # fmt: skip
            raise ConfigError("'tag' or '_index' in chunk_keys is required.", param="buffer")

    def _check_choices(self) -> None:
        known = {"sniffer_class_name": _SNIFFER, "selector_class_name": _SELECTOR}
        for name, value in known.items():
            if getattr(self, name) not in (None, value):
                raise ConfigError(f"{name} names a Ruby class: only {value} has a counterpart", param=name)
        if not self.catch_transport_exception_on_retry:
            raise ConfigError(
                "catch_transport_exception_on_retry false is not supported: what fails is tried again",
                param="catch_transport_exception_on_retry",
            )
        if self.max_retry_get_es_version < 0:
            raise ConfigError(
                "max_retry_get_es_version must not be negative", param="max_retry_get_es_version"
            )
        if self.deterministic_id and self.write_operation in ("update", "upsert"):
            raise ConfigError(
                "deterministic_id is for new documents, not for updates", param="deterministic_id"
            )

    def _credentials(self) -> tuple[str | None, str | None]:
        if self.cloud_id is not None and self.cloud_auth is None:
            raise ConfigError("cloud_auth must be present if cloud_id is present", param="cloud_id")
        if self.user is not None and self.password is None:
            raise ConfigError("password must be present if user is present", param="user")
        if self.cloud_auth is not None:
            user, _, password = self.cloud_auth.partition(":")
            return user, password
        return hosts.escaped(self.user), hosts.escaped(self.password)

    def _tls_context(self) -> ssl.SSLContext | None:
        if (self.ssl_min_version is None) != (self.ssl_max_version is None):
            raise ConfigError("ssl_min_version and ssl_max_version must be set together", param="ssl_version")
        if self.client_key is not None and self.client_cert is None:
            raise ConfigError("client_key needs client_cert", param="client_key")
        if not (self.scheme == "https" or "https://" in self._addresses or self.cloud_id is not None):
            return None
        from forwarder.api.tls_client import TlsOptions  # noqa: PLC0415 - only with TLS

        if not self.ssl_verify:
            self.log.warning("ssl_verify false: whoever answers gets the events and the credentials")
        return TlsOptions(
            lowest=self.ssl_min_version or self.ssl_version, highest=self.ssl_max_version,
            insecure=not self.ssl_verify,
            ca_paths=[self.ca_file] if self.ca_file is not None else [], ca_param="ca_file",
            system_authorities=self.ca_file is None,
            cert_path=self.client_cert, key_path=self.client_key, passphrase=self.client_key_pass,
            cert_param="client_cert",
        ).context()  # fmt: skip


def _varies(template: str, keys: ChunkKeys) -> bool:
    """Whether `template` has placeholders for all chunk keys of one kind."""
    seconds = placeholders.resolution(template)
    if keys.timekey is not None and seconds is not None and seconds <= keys.timekey:
        return True
    return bool(keys.fields) and set(placeholders.fields(template)) == set(keys.fields)

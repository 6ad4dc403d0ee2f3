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

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forwarder._native import BulkEncoder, BulkRequests
from forwarder.api import Chunk, ConfigError, Output, optional_section, placeholders
from forwarder.api.metrics import Family
from forwarder.plugins.outputs.elasticsearch import rollover, templates
from forwarder.plugins.outputs.elasticsearch.clusters import Clusters
from forwarder.plugins.outputs.elasticsearch.ignored import Ignored
from forwarder.plugins.outputs.elasticsearch.parameters import (
    Documents,
    Failures,
    Metadata,
    Reaching,
    Setup,
)

if TYPE_CHECKING:
    from forwarder.api.buffering import ChunkKeys
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster
    from forwarder.plugins.outputs.elasticsearch.delivery import Rules

_LEVELS: Final = {"no_compression": None, "best_speed": 1, "best_compression": 9, "default_compression": 6}
_SNIFFER: Final = "Fluent::Plugin::ElasticsearchSimpleSniffer"
_SELECTOR: Final = "Fluent::Plugin::ElasticseatchFallbackSelector"
_NO_OWN_TYPES: Final = 7
_NO_TYPES: Final = 8
"""The versions from which on the only mapping type is `_doc`, and from which on there is none."""
_PATIENCE: Final = 0.5
"""Share of `request_timeout` that the cluster may wait for its own parts."""


class ElasticsearchOutput(Reaching, Documents, Failures, Setup, Output):
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
        self._check_chunk_keys()
        self._check_choices()
        self._clusters = Clusters(self, self.buffer.flush_thread_count, self.log)
        try:
            self._ignored = Ignored(self.ignore_exceptions, backup=self.exception_backup)
        except ValueError as error:
            raise ConfigError(str(error), param="ignore_exceptions") from None
        rollover.check(self, self.log)
        named, others = templates.configured(self)
        self._rollover: rollover.Rollover | None = None
        if rollover.wanted(self):
            self._installer = templates.Installer(others, self, self.log)
            self._rollover = rollover.Rollover(named[0], self, self._installer)
        else:
            self._installer = templates.Installer([*named, *others], self, self.log)
        self._stays = self.target_index_affinity and self._check_affinity()
        self._encoders: dict[int, BulkEncoder] = {}
        self._check_encoding()

    def start(self) -> None:
        if not self.verify_es_version_at_startup or self._clusters.moving:
            return
        if "max_retry_get_es_version" in self.given:
            self._clusters.wait(self._set_up)
        else:
            look = partial(self._clusters.look, self._set_up)
            threading.Thread(target=look, name=f"{self.context.id}-version", daemon=True).start()

    def write(self, chunk: Chunk) -> None:
        # Here and not above: the HTTP client costs megabytes, and `forwarder check` can do without.
        from forwarder.plugins.outputs.elasticsearch.delivery import Delivery  # noqa: PLC0415

        cluster = self._clusters.at(self._address(chunk))
        major = self._clusters.major(cluster)
        if self._installer.due() and self._rollover is not None:
            self._rollover.forget()
        self._installer.install(cluster, lambda text: self._fill(text, chunk))
        # before anything is encoded: chunks that wait for their turn cost no memory
        with cluster.pressure.turn() as turn:
            requests = self._encode(cluster, major, chunk)
            if self._rollover is not None:
                self._roll(self._rollover, cluster, requests.indices, lambda text: self._fill(text, chunk))
            Delivery(self, self._rules(), cluster, chunk, turn).run(requests)

    def _encode(self, cluster: Cluster, major: int, chunk: Chunk) -> BulkRequests:
        dated = self.logstash_format
        return self._encoder(major).encode(
            chunk.blocks(),
            tag=chunk.key.tag,
            index=self._index(chunk),
            date_format=self._fill(self.logstash_dateformat, chunk) if dated else "",
            type_name=self._fill(self.type_name, chunk) if major < _NO_OWN_TYPES else "_doc",
            pipeline=None if self.pipeline is None else self._fill(self.pipeline, chunk),
            chunk_id=chunk.id,
            limit_bytes=self._limit(cluster),
            known=self._known(cluster, major, chunk) if self._stays else None,
        )

    def _known(self, cluster: Cluster, major: int, chunk: Chunk) -> dict[str, str]:
        """Where the documents are that a chunk updates."""
        from forwarder.plugins.outputs.elasticsearch import affinity  # noqa: PLC0415 - see write

        ids = self._encoder(major).ids(chunk.blocks())
        return affinity.indices(cluster, f"{self._index(chunk).lower()}*", ids)

    def measure(self) -> Iterable[Family]:
        """How hard the clusters push back."""
        return self._clusters.measure(self.context.id)

    def close(self) -> None:
        self._clusters.close()

    # ------------------------------------------------------------ the cluster

    def search_cluster(self, timeout: float) -> Cluster:
        """As `forwarder.api.search.SearchOutput` says."""
        return self._clusters.another(timeout)

    def _set_up(self) -> None:
        """Sees to what can be seen to before there is a chunk."""
        cluster = self._clusters.at("")
        self._clusters.major(cluster)
        if self._installer.fixed:
            self._installer.install(cluster, str)
        texts = (self.index_name, *(self._rollover.texts if self._rollover is not None else ()))
        if self._rollover is not None and not self.logstash_format and not any(map(_holds, texts)):
            self._roll(self._rollover, cluster, [self.index_name.lower()], str)

    def _roll(
        self, roll: rollover.Rollover, cluster: Cluster, indices: Sequence[str], fill: Callable[[str], str]
    ) -> None:
        """Sees to the aliases behind which the documents of a chunk go."""
        if roll.alias is not None:
            roll.prepare(cluster, fill(roll.alias), fill(self.index_name), fill, dated=False)
            return
        start = (fill(self.logstash_prefix) + self.logstash_prefix_separator).lower()
        for index in indices:
            if self.logstash_format and index.startswith(start):
                name = f"{fill(self.application_name)}{self.logstash_prefix_separator}".lower()
                roll.prepare(cluster, index, start + name + index[len(start) :], fill, dated=True)
            else:
                roll.prepare(cluster, index, index, fill, dated=False)

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

    def _check_encoding(self) -> None:
        """Raises ConfigError for what no body can be made with."""
        self._encoder(self.default_elasticsearch_version)

    def _operation(self) -> str:
        """With our own ids a document that is there already is the same one: it need not be written again."""
        return "create" if self.deterministic_id and self.id_key is None else self.write_operation

    def _address(self, chunk: Chunk) -> str:
        """Where the chunk goes; "": to the only cluster."""
        clusters = self._clusters
        return self.extract_placeholders(clusters.addresses, chunk) if clusters.moving else ""

    def _index(self, chunk: Chunk) -> str:
        """The index; with logstash_format what stands before its date."""
        if self.logstash_format:
            return self._fill(self.logstash_prefix, chunk) + self.logstash_prefix_separator
        return self._fill(self.index_name, chunk)

    def _fill(self, template: str, chunk: Chunk) -> str:
        return self.extract_placeholders(template, chunk)

    def _rules(self) -> Rules:
        from forwarder.plugins.outputs.elasticsearch.delivery import Rules  # noqa: PLC0415 - see write

        return Rules(
            updates=self.write_operation in ("update", "upsert"),
            keeps_ids=self.deterministic_id,
            hopeless=frozenset(map(str, self.unrecoverable_error_types)),
            compression=_LEVELS[self.compression_level],
            silent=frozenset() if self.emit_error_for_missing_id else frozenset({"missing_id"}),
            time_error_tag=self.time_parse_error_tag,
            patience_ms=max(1, int(self.request_timeout * 1000 * _PATIENCE)),
            ignored=self._ignored,
        )

    # ------------------------------------------------------------ checks of the configuration

    def _check_chunk_keys(self) -> None:
        keys = self._keys()
        templates = (self.hosts or self.host, self.index_name, self.logstash_prefix, self.logstash_dateformat)
        if not keys.tag and "_index" not in keys.fields and not any(
            _varies(template, keys) for template in templates
        ):  # fmt: skip
            raise ConfigError("'tag' or '_index' in chunk_keys is required.", param="buffer")

    def _check_affinity(self) -> bool:
        """Whether `target_index_affinity` can have its effect."""
        updates = self.write_operation in ("update", "upsert")
        works = self.logstash_format and self.id_key is not None and updates
        if not works:
            self.log.warning(
                "target_index_affinity has no effect without logstash_format, id_key and an update or upsert"
            )
        return works

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


def _holds(template: str) -> bool:
    """Whether `template` may hold placeholders."""
    return "${" in template or "%" in template


def _varies(template: str, keys: ChunkKeys) -> bool:
    """Whether `template` has placeholders for all chunk keys of one kind."""
    seconds = placeholders.resolution(template)
    if keys.timekey is not None and seconds is not None and seconds <= keys.timekey:
        return True
    return bool(keys.fields) and set(placeholders.fields(template)) == set(keys.fields)

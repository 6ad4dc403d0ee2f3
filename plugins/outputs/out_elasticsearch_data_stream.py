"""`<match> @type elasticsearch_data_stream`: documents in a data stream of Elasticsearch or OpenSearch.

*Delivery*: as `@type elasticsearch`. Every document has an id that is the same at each retry, so nothing is
doubled within one backing index; a request that is sent again after the stream has rolled over can double.

*Differs from Fluentd*: every document's result is looked at (Fluentd drops what is rejected); the start does
not wait; a server without lifecycle management gets no policy unless one is configured; OpenSearch gets ISM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from forwarder.api import Chunk, ConfigError, boolean, string
from forwarder.plugins.outputs.out_elasticsearch import ElasticsearchOutput

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

_FIRST = ("-", "_", "+", ".")
_FORBIDDEN = frozenset('\\/*?"<>| ,#:')
_LONGEST = 255
_REMEMBERED = 10_000


class ElasticsearchDataStreamOutput(ElasticsearchOutput):
    """Documents in a data stream, whose policy and template are made."""

    data_stream_name = string("The data stream; may hold placeholders.")
    data_stream_template_name = string("Its index template; not set: the name and `_template`.", None)
    data_stream_ilm_name = string("Its lifecycle policy; not set: the name and `_policy`.", None)
    data_stream_ilm_policy = string("The policy (JSON); not set: a new index every 50 GB or 30 days.", None)
    data_stream_ilm_policy_overwrite = boolean("Replace a policy that is there.", False)
    data_stream_template_use_index_patterns_wildcard = boolean(
        "The template is for all names that start with the name.", True
    )
    use_legacy_template = boolean("Whether templates of template_file are legacy ones.", False)

    # only new documents, into one index, which the path names
    _forced: ClassVar[Mapping[str, Any]] = {
        "write_operation": "create", "deterministic_id": True, "include_index_in_url": True,
        "include_timestamp": True, "suppress_type_name": True,
    }  # fmt: skip

    def configure(self) -> None:
        if self.write_operation in ("update", "upsert"):
            raise ConfigError("a data stream takes new documents only", param="write_operation")
        for name in (
            "logstash_format",
            "target_index_key",
            "target_type_key",
            "enable_ilm",
            "rollover_index",
        ):
            if getattr(self, name) not in (None, False, "false"):
                raise ConfigError(f"{name} does not go with data_stream_name", param=name)
        for name, value in self._forced.items():
            setattr(self, name, value)
        self.index_name = self.data_stream_name
        if self.data_stream_template_name is None:
            self.data_stream_template_name = f"{self.data_stream_name}_template"
        if self.data_stream_ilm_name is None:
            self.data_stream_ilm_name = f"{self.data_stream_name}_policy"
        if "${" not in self.data_stream_name and "%" not in self.data_stream_name:
            for name in ("data_stream_name", "data_stream_template_name", "data_stream_ilm_name"):
                _check(name, getattr(self, name))
        self._policy: Mapping[str, Any] | None = None
        if self.data_stream_ilm_policy is not None:
            try:
                self._policy = dict(json.loads(self.data_stream_ilm_policy))
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"data_stream_ilm_policy is no JSON object: {error}", param="data_stream_ilm_policy"
                ) from None
        self._streams: set[tuple[str, str]] = set()
        super().configure()

    def write(self, chunk: Chunk) -> None:
        cluster = self._clusters.at(self._address(chunk))
        self._clusters.major(cluster)
        self._prepare(cluster, chunk)
        super().write(chunk)

    def _prepare(self, cluster: Cluster, chunk: Chunk) -> None:
        name = self._fill(self.data_stream_name, chunk)
        if (cluster.name, name) in self._streams:
            return
        from forwarder.plugins.outputs.elasticsearch.data_streams import Setup, Stream  # noqa: PLC0415 - as there

        stream = Stream(
            name, self._fill(self.data_stream_template_name or "", chunk),
            self._fill(self.data_stream_ilm_name or "", chunk), self._policy,
            self.data_stream_ilm_policy_overwrite, self.data_stream_template_use_index_patterns_wildcard,
        )  # fmt: skip
        Setup(cluster, stream).run()
        if len(self._streams) >= _REMEMBERED:
            self._streams.clear()
        self._streams.add((cluster.name, name))

    def _encoding(self, major: int) -> dict[str, Any]:
        return super()._encoding(major) | {"write_operation": "create", "with_type": False}


def _check(param: str, name: str) -> None:
    """Raises ConfigError where no data stream may have this name."""
    if name.startswith(_FIRST):
        raise ConfigError(f"'{param}' must not start with {','.join(_FIRST)}: <{name}>", param=param)
    if _FORBIDDEN & set(name):
        raise ConfigError(f"'{param}' must not contain {' '.join(sorted(_FORBIDDEN))}: <{name}>", param=param)
    if name != name.lower():
        raise ConfigError(f"'{param}' must be lowercase only: <{name}>", param=param)
    if len(name.encode()) > _LONGEST:
        raise ConfigError(f"'{param}' must not be longer than {_LONGEST} bytes: <{name}>", param=param)

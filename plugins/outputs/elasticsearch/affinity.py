"""`target_index_affinity`: updates go to the index that has the document, whatever the event's date."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from forwarder.plugins.outputs.elasticsearch import policies
from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, explain

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

_AT_ONCE: Final = 4000
_MOST_HITS: Final = 10_000
"""Elasticsearch's `index.max_result_window`."""


def indices(cluster: Cluster, pattern: str, ids: Sequence[str]) -> dict[str, str]:
    """The index of each document with one of these ids, the oldest where several have it.

    Args:
        pattern: where to look, `logstash-*`.

    Raises:
        UnreachableError: no node answers. RefusedError: the cluster does not look.
    """
    found: dict[str, str] = {}
    target = f"/{quote(pattern, safe='*')}/_search?ignore_unavailable=true&filter_path=hits.hits"
    for start in range(0, len(ids), _AT_ONCE):
        query = {
            "query": {"ids": {"values": ids[start : start + _AT_ONCE]}}, "_source": False, "size": _MOST_HITS,
            "sort": [{"_index": {"order": "desc"}}],
        }  # fmt: skip
        answer = policies.send(cluster, "POST", target, query)
        if answer.status == 404:
            continue
        if answer.status != 200:
            raise RefusedError(explain(answer, f"POST {target}"), answer.status)
        hits: Any = json.loads(answer.body).get("hits", {}).get("hits", [])
        found |= {hit["_id"]: hit["_index"] for hit in hits}
    return found

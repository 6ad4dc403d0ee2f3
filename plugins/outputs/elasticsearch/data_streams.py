"""Data streams: what they need in the cluster before the first document (policy, template, stream)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, Response, error_of, explain

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

DEFAULT_POLICY = {
    "policy": {"phases": {"hot": {"actions": {"rollover": {"max_size": "50gb", "max_age": "30d"}}}}}
}
"""fluent-plugin-elasticsearch's."""
_HEADERS = {"content-type": "application/json", "accept": "application/json"}
_CONDITIONS = {"max_size": "min_size", "max_age": "min_index_age", "max_docs": "min_doc_count",
               "max_primary_shard_size": "min_primary_shard_size"}  # fmt: skip


class Stream(NamedTuple):
    """A data stream, placeholders filled in."""

    name: str
    template: str
    policy_name: str
    policy: Mapping[str, Any] | None
    """As configured; None: the default, which a server without lifecycle management may lack."""
    overwrite_policy: bool
    wildcard: bool


class Setup:
    """Puts one stream's parts into a cluster, where they are not there yet. `run` may be repeated."""

    def __init__(self, cluster: Cluster, stream: Stream) -> None:
        self._cluster = cluster
        self._stream = stream

    def run(self) -> None:
        """Sees to policy, template and stream.

        Raises:
            UnreachableError: no node answers. RefusedError: the cluster does not take one of them.
        """
        stream = self._stream
        there = self._get(f"/_data_stream/{_part(stream.name)}") is not None
        template = f"/_index_template/{_part(stream.template)}"
        templated = self._get(template) is not None
        managed = True
        if stream.overwrite_policy or not (there or templated):
            managed = self._policy()
        if not there and not templated:
            settings = {"index.lifecycle.name": stream.policy_name}
            body = {
                "index_patterns": [stream.name + ("*" if stream.wildcard else "")],
                "data_stream": {},
                "template": {"settings": settings if managed and not self._cluster.opensearch else {}},
            }
            self._put(template, body)
        if not there:
            # where the API is missing or somebody was faster the first document makes the stream
            answer = self._send("PUT", f"/_data_stream/{_part(stream.name)}")
            if (
                answer.status != 200
                and not _missing(answer)
                and "already_exists" not in error_of(answer.body)[0]
            ):
                raise RefusedError(explain(answer, f"PUT /_data_stream/{stream.name}"))

    def _policy(self) -> bool:
        """Whether the policy is there now."""
        stream = self._stream
        folder = "/_plugins/_ism/policies" if self._cluster.opensearch else "/_ilm/policy"
        target = f"{folder}/{_part(stream.policy_name)}"
        found = self._get(target)
        if found is not None and not stream.overwrite_policy:
            return True
        policy = stream.policy or DEFAULT_POLICY
        body = _ism(policy, stream) if self._cluster.opensearch else policy
        if found is not None and self._cluster.opensearch:
            target += f"?if_seq_no={found['_seq_no']}&if_primary_term={found['_primary_term']}"
        answer = self._send("PUT", target, body)
        if answer.status in (200, 201):
            return True
        if _missing(answer) and stream.policy is None:
            return False
        raise RefusedError(explain(answer, f"PUT {target}"))

    def _get(self, target: str) -> Any:
        """What is there; None: nothing."""
        answer = self._send("GET", target)
        if answer.status == 200:
            return json.loads(answer.body)
        if answer.status == 404 or _missing(answer):
            return None
        raise RefusedError(explain(answer, f"GET {target}"))

    def _put(self, target: str, body: Mapping[str, Any]) -> None:
        answer = self._send("PUT", target, body)
        if answer.status not in (200, 201):
            raise RefusedError(explain(answer, f"PUT {target}"))

    def _send(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Response:
        data = None if body is None else json.dumps(body).encode()
        return self._cluster.request(method, target, data, _HEADERS)


def _part(name: str) -> str:
    return quote(name, safe="")


def _missing(answer: Response) -> bool:
    """Whether the server has no such API."""
    return answer.status == 405 or (answer.status == 400 and b"no handler found" in answer.body)


def _ism(policy: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
    """OpenSearch's form of a policy: one with `states` as it is, else rollover and deletion translated."""
    inner = policy.get("policy", policy)
    if "states" in inner:
        return {"policy": inner}
    phases = dict(inner.get("phases", {}))
    hot = dict(phases.pop("hot", {}).get("actions", {}))
    rollover = hot.pop("rollover", {})
    delete = phases.pop("delete", None)
    others = [*phases, *hot, *(set(rollover) - set(_CONDITIONS))]
    if others:
        raise RefusedError(
            f"data_stream_ilm_policy: nothing in OpenSearch is like {', '.join(others)}: give one of its own"
        )
    conditions = {_CONDITIONS[name]: value for name, value in rollover.items()}
    state: dict[str, Any] = {
        "name": "hot",
        "actions": [{"rollover": conditions}] if conditions else [],
        "transitions": [],
    }
    states = [state]
    if delete is not None:
        age = {"min_rollover_age" if conditions else "min_index_age": delete.get("min_age", "0ms")}
        state["transitions"] = [{"state_name": "delete", "conditions": age}]
        states.append({"name": "delete", "actions": [{"delete": {}}], "transitions": []})
    pattern = stream.name + ("*" if stream.wildcard else "")
    return {
        "policy": {
            "description": "made by forwarder",
            "default_state": "hot",
            "states": states,
            "ism_template": [{"index_patterns": [pattern], "priority": 100}],
        }
    }

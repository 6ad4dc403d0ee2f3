"""Lifecycle policies: Elasticsearch's index lifecycle management, OpenSearch's index state management."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, Response, explain

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

DEFAULT_POLICY: Final = {
    "policy": {"phases": {"hot": {"actions": {"rollover": {"max_size": "50gb", "max_age": "30d"}}}}}
}
"""fluent-plugin-elasticsearch's."""
HEADERS: Final = {"content-type": "application/json", "accept": "application/json"}
_CONDITIONS: Final = {"max_size": "min_size", "max_age": "min_index_age", "max_docs": "min_doc_count",
                      "max_primary_shard_size": "min_primary_shard_size"}  # fmt: skip
_OURS: Final = "made by forwarder"
_PRIORITY: Final = 100


def send(cluster: Cluster, method: str, target: str, body: Mapping[str, Any] | None = None) -> Response:
    """A request with JSON. Raises UnreachableError."""
    data = None if body is None else json.dumps(body).encode()
    return cluster.request(method, target, data, HEADERS)


def get(cluster: Cluster, target: str) -> Any:
    """What is there; None: nothing, or a server without such a thing.

    Raises:
        UnreachableError: no node answers. RefusedError: the cluster does not say.
    """
    answer = send(cluster, "GET", target)
    if answer.status == 200:
        return json.loads(answer.body)
    if answer.status == 404 or is_missing(answer):
        return None
    raise RefusedError(explain(answer, f"GET {target}"), answer.status)


def is_missing(answer: Response) -> bool:
    """Whether the server has no such API."""
    return answer.status == 405 or (answer.status == 400 and b"no handler found" in answer.body)


def see_to(
    cluster: Cluster, name: str, policy: Mapping[str, Any], *, overwrite: bool, pattern: str, param: str
) -> bool:
    """Puts a policy where it is not there yet; for OpenSearch one of Elasticsearch's is translated.

    Args:
        overwrite: replace one that is there.
        pattern: the indices that it is for, which in OpenSearch the policy says and not the template.
        param: the parameter that the policy came from.

    Returns:
        False: the server has no lifecycle management.

    Raises:
        UnreachableError: no node answers. RefusedError: the cluster does not take it.
    """
    folder = "/_plugins/_ism/policies" if cluster.opensearch else "/_ilm/policy"
    target = f"{folder}/{quote(name, safe='')}"
    found = get(cluster, target)
    body = _ism(policy, [pattern], param) if cluster.opensearch else policy
    if found is not None:
        if cluster.opensearch:
            body = _with_patterns(found["policy"], body, overwrite=overwrite)
            target += f"?if_seq_no={found['_seq_no']}&if_primary_term={found['_primary_term']}"
        elif not overwrite:
            return True
        if not body:
            return True
    answer = send(cluster, "PUT", target, body)
    if answer.status in (200, 201):
        return True
    if is_missing(answer):
        return False
    raise RefusedError(explain(answer, f"PUT {target}"), answer.status)


def _with_patterns(
    there: Mapping[str, Any], ours: Mapping[str, Any], *, overwrite: bool
) -> Mapping[str, Any]:
    """The policy with all patterns that it was for and ours; empty: it need not be changed. A policy that
    somebody else made stays as it is, unless `overwrite`."""
    known = [each for template in there.get("ism_template") or () for each in template["index_patterns"]]
    new = [each for each in _patterns(ours) if each not in known]
    if overwrite:
        inner = dict(ours["policy"])
    elif new and there.get("description") == _OURS:
        inner = {key: there[key] for key in ("description", "default_state", "states")}
    else:
        return {}
    if "ism_template" in ours["policy"]:
        inner["ism_template"] = [{"index_patterns": [*known, *new], "priority": _PRIORITY}]
    return {"policy": inner}


def _patterns(policy: Mapping[str, Any]) -> list[str]:
    return [
        each for template in policy["policy"].get("ism_template", ()) for each in template["index_patterns"]
    ]


def _ism(policy: Mapping[str, Any], patterns: Sequence[str], param: str) -> Mapping[str, Any]:
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
        raise RefusedError(f"{param}: nothing in OpenSearch is like {', '.join(others)}: give one of its own")
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
    return {
        "policy": {
            "description": _OURS,
            "default_state": "hot",
            "states": states,
            "ism_template": [{"index_patterns": list(patterns), "priority": _PRIORITY}],
        }
    }

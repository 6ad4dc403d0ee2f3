"""Data streams: what they need in the cluster before the first document (policy, template, stream)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from forwarder.plugins.outputs.elasticsearch import policies
from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, error_of, explain

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster


class Stream(NamedTuple):
    """A data stream, placeholders filled in."""

    name: str
    template: str
    policy_name: str
    policy: Mapping[str, Any] | None
    """As configured; None: the default, which a server without lifecycle management may lack."""
    overwrite_policy: bool
    wildcard: bool

    @property
    def pattern(self) -> str:
        """The names that the template is for."""
        return self.name + ("*" if self.wildcard else "")


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
        stream, cluster = self._stream, self._cluster
        target = f"/_data_stream/{_part(stream.name)}"
        there = policies.get(cluster, target) is not None
        template = f"/_index_template/{_part(stream.template)}"
        templated = policies.get(cluster, template) is not None
        managed = True
        if stream.overwrite_policy or not (there or templated):
            managed = self._policy()
        if not there and not templated:
            settings = {"index.lifecycle.name": stream.policy_name}
            body = {
                "index_patterns": [stream.pattern],
                "data_stream": {},
                "template": {"settings": settings if managed and not cluster.opensearch else {}},
            }
            answer = policies.send(cluster, "PUT", template, body)
            if answer.status not in (200, 201):
                raise RefusedError(explain(answer, f"PUT {template}"), answer.status)
        if not there:
            # where the API is missing or somebody was faster the first document makes the stream
            answer = policies.send(cluster, "PUT", target)
            if (
                answer.status != 200
                and not policies.is_missing(answer)
                and "already_exists" not in error_of(answer.body)[0]
            ):
                raise RefusedError(explain(answer, f"PUT {target}"), answer.status)

    def _policy(self) -> bool:
        """Whether the policy is there now."""
        stream = self._stream
        done = policies.see_to(
            self._cluster, stream.policy_name, stream.policy or policies.DEFAULT_POLICY,
            overwrite=stream.overwrite_policy, pattern=stream.pattern, param="data_stream_ilm_policy",
        )  # fmt: skip
        if not done and stream.policy is not None:
            raise RefusedError(f"{self._cluster.name} has no lifecycle management for data_stream_ilm_policy")
        return done


def _part(name: str) -> str:
    return quote(name, safe="")

"""What an output offers whose search cluster can be asked other things: `forwarder snapshot` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


class SearchResponse(Protocol):
    """An answer; any status is one."""

    @property
    def status(self) -> int:
        """HTTP's."""

    @property
    def body(self) -> bytes:
        """Mostly JSON."""

    @property
    def node(self) -> str:
        """The address that answered."""


class SearchCluster(Protocol):
    """Connections to a cluster."""

    @property
    def name(self) -> str:
        """Its addresses, for messages."""

    @property
    def opensearch(self) -> bool:
        """Whether it is OpenSearch, once `version` was called."""

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> SearchResponse:
        """Sends a request. Raises ForwarderError: no node answers."""

    def version(self) -> tuple[int, str] | None:
        """(major version, name with version); None: it tells none. Raises ForwarderError."""

    def close(self) -> None:
        """Closes the connections."""


@runtime_checkable
class SearchOutput(Protocol):
    """An output to such a cluster."""

    def search_cluster(self, timeout: float) -> SearchCluster:
        """Connections of their own, which wait so many seconds for an answer. Raises ForwarderError."""

"""The clusters of one output: connections made when they are needed, and which server it is."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from forwarder.api import ConfigError, ForwarderError, UnrecoverableError
from forwarder.api.metrics import Family, Sample
from forwarder.plugins.outputs.elasticsearch import access, hosts
from forwarder.plugins.outputs.elasticsearch.parameters import Reaching

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster, Options
    from forwarder.plugins.outputs.elasticsearch.pressure import Pressure

_MOST: Final = 64
_LONGEST_WAIT: Final = 30.0
"""Seconds between two questions at a start that waits."""


class Clusters:
    """By their addresses. May be used from several threads."""

    def __init__(self, parameters: Reaching, flush_threads: int, log: Any) -> None:
        """Raises ConfigError for credentials, TLS and addresses that cannot be."""
        self._given = parameters
        self._threads = max(1, flush_threads)
        self._log = log
        self._user, self._password = access.credentials(parameters)
        self.addresses = parameters.hosts or parameters.host
        self.moving = parameters.cloud_id is None and "${" in self.addresses
        """Whether they depend on the chunk."""
        if not self.moving:
            self.nodes(self.addresses)
        self._tls = access.tls_context(parameters, self.addresses, log)
        self._clusters: dict[str, Cluster] = {}
        self._lock = threading.Lock()

    def nodes(self, addresses: str) -> list[hosts.Node]:
        """The nodes at these addresses. Raises ConfigError."""
        given = self._given
        defaults = hosts.Defaults(given.scheme, given.port, given.path, self._user, self._password)
        name = "cloud_id" if given.cloud_id is not None else "hosts" if given.hosts is not None else "host"
        try:
            if given.cloud_id is not None:
                return [hosts.cloud(given.cloud_id, self._user, self._password)]
            return hosts.parse(addresses, defaults)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}", param=name) from None

    def at(self, addresses: str) -> Cluster:
        """The cluster at these addresses; "": the only one. Raises UnrecoverableError for bad addresses."""
        # Here and not above: the HTTP client costs megabytes, and `forwarder check` can do without.
        from forwarder.plugins.outputs.elasticsearch.cluster import Cluster  # noqa: PLC0415

        with self._lock:
            cluster = self._clusters.get(addresses)
            if cluster is None:
                try:
                    nodes = self.nodes(addresses or self.addresses)
                except ConfigError as error:
                    raise UnrecoverableError(error.message, whole=True) from None
                if len(self._clusters) >= _MOST:
                    self._clusters.pop(next(iter(self._clusters))).close()
                cluster = self._clusters[addresses] = Cluster(nodes, self._options())
            return cluster

    def another(self, timeout: float) -> Cluster:
        """Connections of the caller's own, which he closes; `timeout` in seconds. Raises ConfigError where
        the addresses depend on the chunk."""
        from forwarder.plugins.outputs.elasticsearch.cluster import Cluster  # noqa: PLC0415 - see at

        if self.moving:
            raise ConfigError("the address holds placeholders: give another one", param="hosts")
        return Cluster(self.nodes(self.addresses), self._options()._replace(timeout=timeout))

    def _options(self) -> Options:
        from forwarder.plugins.outputs.elasticsearch.cluster import Options  # noqa: PLC0415 - see at

        given = self._given
        headers = {name: str(value) for name, value in given.custom_headers.items()}
        if given.api_key is not None:
            headers["authorization"] = f"ApiKey {base64.b64encode(given.api_key.encode()).decode()}"
        return Options(
            given.request_timeout, given.resurrect_after, self._threads + 1, self._threads, headers,
            self._tls, first_alive=given.selector_class_name is not None,
            trace=self._log.info if given.with_transporter_log else None,
        )  # fmt: skip

    def major(self, cluster: Cluster) -> int:
        """The cluster's major version, asked for once. Raises what `Cluster.version` raises, and RefusedError
        for one that `validate_client_version` does not let pass."""
        if not self._given.verify_es_version_at_startup:
            return self._given.default_elasticsearch_version
        with cluster.lock:
            if cluster.major is None:
                cluster.major = self._ask(cluster)
            return cluster.major

    def _ask(self, cluster: Cluster) -> int:
        default = self._given.default_elasticsearch_version
        try:
            found = cluster.version()
        except ForwarderError as error:
            cluster.failures += 1
            patient = cluster.failures <= self._given.max_retry_get_es_version
            if patient or self._given.fail_on_detecting_es_version_retry_exceed:
                raise
            self._log.warning("cannot find out the version: default_elasticsearch_version is assumed",
                              version=default, error=error)  # fmt: skip
            return default
        if found is None:
            self._log.warning("the cluster tells no version: default_elasticsearch_version is assumed",
                              version=default, cluster=cluster.name)  # fmt: skip
            return default
        if not cluster.known:
            from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError  # noqa: PLC0415 - as there

            wrong = (
                f"{cluster.name} is {found[1]}, and this output is made for Elasticsearch 5 to 9 and "
                "OpenSearch 1 to 3"
            )
            if self._given.validate_client_version:
                raise RefusedError(f"{wrong} (validate_client_version)")
            self._log.warning(f"{wrong}: it is tried all the same")
        self._log.info("connected", version=found[1], cluster=cluster.name)
        return found[0]

    def look(self, set_up: Callable[[], None]) -> None:
        """Calls `set_up` once; what it raises is logged: chunks will meet it again."""
        try:
            set_up()
        except Exception as error:
            self._log.warning("the cluster is not ready yet", error=error)

    def wait(self, set_up: Callable[[], None]) -> None:
        """Calls `set_up` until it succeeds, `max_retry_get_es_version` times more than once. Raises
        ConfigError."""
        retries = self._given.max_retry_get_es_version
        for attempt in range(retries + 1):
            try:
                set_up()
                return
            except ForwarderError as error:
                if attempt == retries:
                    raise ConfigError(
                        f"the cluster is not ready: {error} (tried {attempt + 1} times; without "
                        "max_retry_get_es_version the start does not wait for it)",
                        param="max_retry_get_es_version",
                    ) from None
                seconds = min(2.0 ** (attempt + 1), _LONGEST_WAIT)
                self._log.warning("the start waits for the cluster", seconds=seconds, error=error)
                time.sleep(seconds)

    def measure(self, plugin_id: str) -> Iterable[Family]:
        """How hard each cluster pushes back."""
        with self._lock:
            pressures = [(cluster.name, cluster.pressure) for cluster in self._clusters.values()]

        def family(what: str, kind: str, text: str, value: Callable[[Pressure], float]) -> Family:
            labels = {"plugin_id": plugin_id}
            samples = [Sample(value(each), labels | {"cluster": name}) for name, each in pressures]
            return Family(f"forwarder_elasticsearch_{what}", kind, text, samples)

        yield family(
            "chunks_limit", "gauge", "Chunks that may be on their way at once.", lambda each: int(each.limit)
        )
        yield family("chunks_in_flight", "gauge", "Chunks on their way.", lambda each: each.in_flight)
        yield family(
            "pushbacks_total", "counter", "Answers without room: 429, or none in time.",
            lambda each: each.pushbacks,
        )  # fmt: skip

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            for cluster in self._clusters.values():
                cluster.close()
            self._clusters.clear()

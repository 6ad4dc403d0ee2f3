"""Connections to the nodes of a cluster, by `elastic-transport`'s node pool.

A node that cannot be reached is left alone for 1, 2, 4... seconds (`resurrect_after` at most); the request
goes to the next one. A request that a node may have taken (a timeout) is not sent to another.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import urllib3
from elastic_transport import (
    BaseNode,
    ConnectionTimeout,
    NodeConfig,
    NodePool,
    NodeSelector,
    RoundRobinSelector,
    TransportError,
    Urllib3HttpNode,
)
from urllib3.exceptions import ConnectTimeoutError

from forwarder.api import ForwarderError
from forwarder.plugins.outputs.elasticsearch.pressure import Pressure

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.hosts import Node

_SICK: Final = frozenset({502, 503, 504})
"""Answers of a node (or of a proxy for it) that another node may not give."""
_ELASTICSEARCH: Final = range(5, 10)
_OPENSEARCH: Final = range(1, 4)
"""The major versions whose bulk API is known."""
_LONGEST_RETRY_AFTER: Final = 10.0
_TEXT: Final = 300


class UnreachableError(ForwarderError):
    """No node answered.

    Attributes:
        late: one was there, but took longer than `request_timeout`.
    """

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


class RefusedError(ForwarderError):
    """The cluster answered, but not with what was asked for.

    Attributes:
        status: of the answer; 0: of its documents, or unknown.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Response(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    node: str
    """The address that answered."""
    retry_after: float
    """Seconds that the node asks to wait; 0: does not say."""


class Options(NamedTuple):
    """How to connect. Times in seconds."""

    timeout: float = 5.0
    longest_rest: float = 60.0
    """For how long a node that failed is left alone at most."""
    connections: int = 1
    """Per node."""
    chunks: int = 1
    """How many may be on their way at once."""
    headers: Mapping[str, str] = {}
    context: ssl.SSLContext | None = None
    trace: Callable[[str], None] | None = None
    """Gets a line per request."""
    first_alive: bool = False
    """Whether the first node that works gets everything, instead of each in turn."""


class Cluster:
    """The nodes of one cluster. May be used from several threads."""

    def __init__(self, nodes: Sequence[Node], options: Options) -> None:
        # Its warnings about dead nodes would go to stderr; failed requests say the same through our log.
        logging.getLogger("elastic_transport").addHandler(logging.NullHandler())
        if options.context is not None and options.context.verify_mode is ssl.CERT_NONE:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configs = [_config(node, options) for node in dict.fromkeys(nodes)]
        self._pool = NodePool(
            configs,
            _PlainNode,
            max_dead_node_backoff=options.longest_rest,
            node_selector_class=_FirstAlive if options.first_alive else RoundRobinSelector,
            randomize_nodes=False,
        )
        self._trace = options.trace
        self.name = ", ".join(str(node) for node in nodes)
        """The addresses, for messages."""
        self.limit_bytes: int | None = None
        """Largest body that the cluster takes, as far as it is known."""
        self.major: int | None = None
        """Elasticsearch's major version once it is known."""
        self.opensearch = False
        """Whether it is OpenSearch, once the version is known."""
        self.known = True
        """Whether its version is one that this output is made for, as far as it is known."""
        self.failures = 0
        """How often the version could not be found out."""
        self.lock = threading.Lock()
        """For `major`."""
        self.pressure = Pressure(options.chunks)
        """How many chunks may be on their way."""

    def request(
        self,
        method: str,
        target: str,
        body: bytes | memoryview | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends a request. Any status is an answer.

        Raises:
            UnreachableError: no node could be reached, or one did not answer in time.
        """
        why = ""
        answer: Response | None = None
        for _ in range(len(self._pool)):
            node = self._pool.get()
            try:
                meta, data = node.perform_request(method, target, body, headers)  # type: ignore[arg-type]
            except ConnectionTimeout as error:
                self._pool.mark_dead(node)
                why = f"{node.base_url} does not answer in time"
                if not any(isinstance(each, ConnectTimeoutError) for each in error.errors):
                    raise UnreachableError(why, late=True) from error
                continue
            except TransportError as error:
                self._pool.mark_dead(node)
                why = f"cannot reach {node.base_url}: {_plain(error)}"
                continue
            if self._trace is not None:
                self._trace(f"{method} {node.base_url}{target}: {meta.status}, {meta.duration:.3f} s")
            answer = Response(meta.status, data, node.base_url, _seconds(meta.headers.get("retry-after")))
            if meta.status not in _SICK:
                self._pool.mark_live(node)
                return answer
            self._pool.mark_dead(node)
        if answer is None:
            raise UnreachableError(why)
        return answer

    def version(self) -> tuple[int, str] | None:
        """(major version, what it calls itself); None: the answer holds no version. OpenSearch counts as
        Elasticsearch 8: it knows no mapping types. Sets `opensearch` and `known`.

        Raises:
            UnreachableError: no node answers. RefusedError: one answers with an error.
        """
        response = self.request("GET", "/", headers={"accept": "application/json"})
        if response.status != 200:
            raise RefusedError(explain(response, "GET /"), response.status)
        try:
            version: Any = json.loads(response.body)["version"]
            number = str(version["number"])
            major = int(number.partition(".")[0])
            if version.get("distribution") == "opensearch":
                self.opensearch = True
                # one that calls itself 7.10.2 does so for clients that ask for Elasticsearch
                self.known = major in (*_OPENSEARCH, 7)
                return 8, f"OpenSearch {number}"
            self.known = major in _ELASTICSEARCH
            return major, f"Elasticsearch {number}"
        except (ValueError, LookupError, TypeError, AttributeError):
            return None

    def close(self) -> None:
        """Closes all connections."""
        for node in self._pool.all():
            node.close()


class _FirstAlive(NodeSelector):
    """Of the nodes that work the one that was configured first."""

    def select(self, nodes: Sequence[BaseNode]) -> BaseNode:
        return min(nodes, key=lambda node: self.node_configs.index(node.config))


class _PlainNode(Urllib3HttpNode):
    """A node with the TLS context as it is: the base would add authorities and change its versions."""

    def __init__(self, config: NodeConfig) -> None:
        BaseNode.__init__(self, config)
        limits: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=config.request_timeout, read=config.request_timeout),
            "maxsize": config.connections_per_node,
            "block": True,
        }
        self.pool: Any
        if config.scheme == "https":
            self.pool = urllib3.HTTPSConnectionPool(
                config.host, config.port, ssl_context=config.ssl_context, **limits
            )
        else:
            self.pool = urllib3.HTTPConnectionPool(config.host, config.port, **limits)

    def _log_request(self, *_: Any, **__: Any) -> None:
        """Nothing: the base would decode whole bodies as soon as anybody listens to its logger."""


def explain(response: Response, what: str) -> str:
    """Why a request failed and what to do, for the log; `what`: method and target."""
    advice = {
        401: "the credentials are missing or wrong: see user and password, api_key",
        403: "this user or API key may not do that: give it the right to create and write the indices",
        404: "is there Elasticsearch at this address? see path",
        405: "is there Elasticsearch at this address? see path",
        406: "the server does not take newline-delimited JSON",
        413: "the request is too large: see bulk_message_request_threshold, http.max_content_length",
        415: "the server does not take newline-delimited JSON",
        429: "the cluster is busy",
    }.get(response.status)
    if advice is None:
        advice = "it leads elsewhere: give the final address" if 300 <= response.status < 400 else ""
    text = f"{response.node} answers {response.status} to {what}"
    reason = error_of(response.body)[1]
    return ": ".join(part for part in (text, advice, reason) if part)


def error_of(body: bytes) -> tuple[str, str]:
    """(type, reason) of an error body; the body's start where it is none of Elasticsearch's."""
    try:
        error: Any = json.loads(body)["error"]
        if isinstance(error, str):
            return "", _short(error)
        kind = str(error.get("type", ""))
        return kind, _short(f"{kind}: {error.get('reason', '')}")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", _short(body[: 4 * _TEXT].decode("utf-8", "replace"))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}..."


def _plain(error: Exception) -> str:
    """An error of the transport without the objects' addresses."""
    return re.sub(r"^<[^>]*>: |\(Caused by .*$", "", str(error.args[0] if error.args else error)).strip()


def _seconds(header: str | None) -> float:
    if header is None or not header.strip().isdigit():
        return 0.0
    return min(float(header), _LONGEST_RETRY_AFTER)


def _config(node: Node, options: Options) -> NodeConfig:
    headers = {"user-agent": "forwarder"}
    if node.authorization is not None:
        headers["authorization"] = node.authorization
    headers |= {name.lower(): value for name, value in options.headers.items()}
    return NodeConfig(
        node.scheme,
        node.host,
        node.port,
        path_prefix=node.path,
        headers=headers,
        connections_per_node=options.connections,
        request_timeout=options.timeout,
        ssl_context=options.context if node.scheme == "https" else None,
    )

"""The cluster that `forwarder snapshot` works on: an output's of a configuration, or one by options."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from forwarder.api.errors import ConfigError, ForwarderError
from forwarder.api.search import SearchCluster, SearchOutput, SearchResponse
from forwarder.runtime.options import Options
from forwarder.runtime.worker import Loaded

_ANSWER_SECONDS: Final = 60.0
"""A node writes to the store and reads it on every other node before it calls a repository usable."""
_HEADERS: Final = {"accept": "application/json", "content-type": "application/json"}


class RefusedError(ForwarderError):
    """The cluster says no. `status`: HTTP's; `kinds`: types of the error and its causes."""

    def __init__(self, message: str, status: int, kinds: tuple[str, ...]) -> None:
        super().__init__(message)
        self.status = status
        self.kinds = kinds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which cluster."""
    add = parser.add_argument_group("the cluster").add_argument
    add("-c", "--config", metavar="FILE",
        help="take addresses, credentials and TLS from the elasticsearch output in there")  # fmt: skip
    add("--id", metavar="ID", help="with -c: the output with this @id (default: the only one)")
    add("-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins")
    add("--url", help="its URL (default: http://localhost:9200)")
    add(
        "--user",
        help="with --url; the password is in the variable ES_PASSWORD. An API key, id:key, in ES_API_KEY",
    )
    add("--ca-file", metavar="FILE", help="with --url: authorities for its certificate")
    add("--no-verify", action="store_true", help="with --url: accept every certificate")


class NoHandlerError(RefusedError):
    """The cluster does not know this part of the API: a plugin or module is not there."""


class Client:
    """Asks a cluster. Raises ForwarderError everywhere: nobody answers, or the answer is no."""

    def __init__(self, cluster: SearchCluster) -> None:
        self._cluster = cluster
        found = cluster.version()
        if found is None:
            raise ForwarderError(f"{cluster.name}: neither Elasticsearch nor OpenSearch answers there")
        self.major, self.product = found
        self.opensearch = cluster.opensearch

    def ask(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer, decoded. Raises RefusedError: it is an error."""
        data = None if body is None else json.dumps(body).encode()
        response = self._cluster.request(method, target, data, _HEADERS)
        if response.status >= 300:
            raise _refused(method, target, response)
        try:
            return json.loads(response.body)
        except ValueError:
            raise ForwarderError(f"{response.node}: no JSON in the answer to {method} {target}") from None

    def find(self, target: str) -> Any:
        """What is there; None: nothing (404)."""
        try:
            return self.ask("GET", target)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def close(self) -> None:
        """Ends the connections."""
        self._cluster.close()


def part(name: str) -> str:
    """A name as part of a path."""
    return quote(name, safe="*,")


def connect(args: argparse.Namespace) -> Client:
    """A client of the cluster that the options name.

    Raises:
        ConfigError: there is none, or its configuration is wrong. ForwarderError: nobody answers.
    """
    if args.config and args.url:
        raise ConfigError("either --config or --url")
    options = Options(
        config=args.config or os.devnull,
        inline=None if args.config else _made(args),
        plugin_dirs=tuple(args.plugin),
        log_level="error",
        dry_run=True,
        without_source=True,
        supervised=False,
    )
    plugins = [placed.plugin for placed in Loaded(options).engine.plugins]
    found = [plugin for plugin in plugins if isinstance(plugin, SearchOutput)]
    named = {plugin.context.id: plugin for plugin in found}
    if args.id is not None:
        found = [named[args.id]] if args.id in named else []
    if not found:
        raise ConfigError(
            f"{args.config}: no elasticsearch output" + (f" with @id {args.id}" if args.id else "")
        )
    if len(found) > 1:
        raise ConfigError(f"{args.config} has several such outputs: --id {', '.join(sorted(named))}")
    return Client(found[0].search_cluster(_ANSWER_SECONDS))


def _made(args: argparse.Namespace) -> str:
    given = {"hosts": args.url or "http://localhost:9200", "user": args.user, "ca_file": args.ca_file}
    if args.user is not None:
        given["password"] = os.environ.get("ES_PASSWORD")
    given["api_key"] = os.environ.get("ES_API_KEY")
    lines = [f"{name} {_quoted(value)}" for name, value in given.items() if value]
    if args.no_verify:
        lines.append("ssl_verify false")
    return "<match **>\n@type elasticsearch\n" + "\n".join(lines) + "\n</match>"


def _quoted(text: str) -> str:
    if "\n" in text:
        raise ConfigError("a line end cannot be part of an address or a password")
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_ADVICE: Final = {
    "repository type [s3] does not exist": "install the plugin repository-s3 on every node",
    "load credentials": "the nodes have no keys for the store: docs/snapshot.md, keystore",
    "Access Key Id you provided does not exist": "the keys in the nodes' keystore are wrong",
    "unknown s3 client name": "no node has keys for this client: docs/snapshot.md, keystore",
    "open index with same name already exists": "give --rename, or close or delete the index first",
}


def _refused(method: str, target: str, response: SearchResponse) -> RefusedError:
    kinds, reasons = _chain(response.body)
    text = ": ".join(dict.fromkeys(reasons)) or response.body[:300].decode(errors="replace")
    advice = next((each for known, each in _ADVICE.items() if known.lower() in text.lower()), None)
    path = target.partition("?")[0]
    message = f"{response.node} answers {response.status} to {method} {path}: {text}"
    # 405: another path, such as that of a document, takes what this one would be
    unknown = response.status == 405 or "no handler found for uri" in text
    kind = NoHandlerError if unknown else RefusedError
    return kind(f"{message} ({advice})" if advice else message, response.status, kinds)


def _chain(body: bytes) -> tuple[tuple[str, ...], list[str]]:
    """Types and reasons of an error and what caused it, from the outside in."""
    kinds: list[str] = []
    reasons: list[str] = []
    try:
        error: Any = json.loads(body)["error"]
        while isinstance(error, dict):
            kinds.append(str(error.get("type", "")))
            reasons.append(" ".join(str(error.get("reason", "")).split()))
            error = error.get("caused_by")
        if isinstance(error, str):
            reasons.append(error)
    except (ValueError, LookupError, TypeError):
        pass
    return tuple(kinds), [reason for reason in reasons if reason]

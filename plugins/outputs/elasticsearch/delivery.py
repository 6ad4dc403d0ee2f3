"""One chunk's way into the cluster: requests, and what becomes of every document in them."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from forwarder._native import Bulk, BulkRequests, parse_bulk_response
from forwarder.api import (
    BufferOverflow,
    ConfigError,
    EventBatch,
    EventStream,
    PartialWrite,
    UnrecoverableError,
)
from forwarder.plugins.outputs.elasticsearch.cluster import (
    RefusedError,
    Response,
    UnreachableError,
    error_of,
    explain,
)

if TYPE_CHECKING:
    from forwarder.api import Chunk, Output
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster
    from forwarder.plugins.outputs.elasticsearch.ignored import Ignored
    from forwarder.plugins.outputs.elasticsearch.pressure import Turn

WAITS: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds before documents that the cluster had no room for are sent again, before the buffer takes over."""
_JITTER: Final = 0.25
_BUSY: Final = 429
# All that we look at in an answer; a server that does not know the parameter sends everything.
_QUERY: Final = "?filter_path=errors,items.*.status,items.*.error&timeout={}ms"
_GZIP: Final = 31  # zlib's window with a gzip header
_WHOLE_REQUEST: Final = "action_request_validation_exception"
"""A request that is refused as a whole for one of its documents."""
_OF_ONE_INDEX: Final = frozenset({"cluster_block_exception", "unavailable_shards_exception"})
"""Errors that pass, whatever their status, but not soon, and say nothing about other indices: one that a full
disk made read-only, or whose shards are nowhere. Such documents go back to the buffer, and hold up nobody."""


class Rules(NamedTuple):
    """What holds for every chunk."""

    updates: bool
    """A conflict passes: somebody else changed the document."""
    keeps_ids: bool
    """`deterministic_id`: a document that is there already is ours."""
    hopeless: frozenset[str]
    """`unrecoverable_error_types`"""
    compression: int | None
    """Level of gzip; None: bodies are sent as they are."""
    silent: frozenset[str]
    """Reasons of the encoder that are counted without going to `@ERROR`."""
    time_error_tag: str
    patience_ms: int
    """How long the cluster may wait for a shard or a mapping before it says that a document has to wait. Less
    than `request_timeout`: or one red index would have whole requests sent again."""
    ignored: Ignored
    """`ignore_exceptions`"""

    def headers(self) -> Mapping[str, str]:
        """Of every bulk request."""
        headers = {"content-type": "application/x-ndjson", "accept": "application/json"}
        if self.compression is not None:
            headers["content-encoding"] = "gzip"
        return headers


class Delivery:
    """Sends one chunk. What the cluster rejects for good goes to `@ERROR`; `run` raises for what is left."""

    def __init__(self, output: Output, rules: Rules, cluster: Cluster, chunk: Chunk, turn: Turn) -> None:
        self._output = output
        self._rules = rules
        self._cluster = cluster
        self._chunk = chunk
        self._turn = turn
        self._headers = rules.headers()
        self._left: list[Bulk] = []
        self._why: UnreachableError | RefusedError | None = None
        """What failed; what comes behind it in the chunk waits too."""
        self._held: RefusedError | None = None
        """Why some documents are left all the same."""
        self._explained = 0

    def run(self, requests: BulkRequests) -> None:
        """Sends the chunk's requests one after the other; after a failure the others wait too.

        Raises:
            PartialWrite: some documents are dealt with, the others are to be tried again.
            RefusedError, UnreachableError: all are to be tried again.
            UnrecoverableError: all are to be given up (`ignore_exceptions`).
        """
        self._refuse(requests)
        for bulk in requests.bulks:
            self._send(bulk)
        why = self._why or self._held
        if why is not None and not self._ignores(why):
            raise self._failure(requests, why)

    def _ignores(self, why: UnreachableError | RefusedError) -> bool:
        """`ignore_exceptions`: drops what is left, or raises UnrecoverableError for a chunk that is left
        whole."""
        if not self._rules.ignored.matches(why):
            return False
        count = sum(len(bulk) for bulk in self._left)
        if not self._rules.ignored.backup:
            self._output.log_repeated("ignore_exceptions: what was not taken is dropped", error=str(why))
            self._drop(count, "ignored")
            return True
        if count == self._chunk.count:
            raise UnrecoverableError(str(why), whole=True)
        return False  # the rest comes again, as a chunk of its own

    def _failure(self, requests: BulkRequests, why: Exception) -> Exception:
        if self._rules.keeps_ids:
            # with what is equal to it: the ids stay as they are, and what was taken is a duplicate
            stream = requests.with_equals(self._left)
            rest, count = bytes(stream), len(stream)
        else:
            rest = b"".join(bytes(bulk.entries(range(len(bulk)))) for bulk in self._left)
            count = sum(len(bulk) for bulk in self._left)
        if count == self._chunk.count:
            return why
        return PartialWrite(str(why), rest, count)

    def _send(self, bulk: Bulk) -> None:
        """Sends a request until it is dealt with; what is not goes to `_left`."""
        if self._why is not None:
            self._left.append(bulk)
            return
        for wait in (*WAITS, None):
            try:
                response = self._post(bulk)
            except UnreachableError as error:
                if error.late:
                    self._push_back()
                self._fail(bulk, error)
                return
            if response.status == 200:
                try:
                    again, why = self._settle(bulk, response)
                except ValueError as error:
                    self._fail(bulk, RefusedError(f"{response.node}: {error}"))
                    return
                if again is None:
                    return
                bulk = again
            elif response.status == 413 or (
                response.status == 400 and error_of(response.body)[0] == _WHOLE_REQUEST
            ):
                self._split(bulk, response)
                return
            else:
                why = explain(response, "_bulk")
                if response.status != _BUSY:
                    self._fail(bulk, RefusedError(why, response.status))
                    return
                self._push_back()
            if wait is None:
                self._fail(bulk, RefusedError(why, 0 if response.status == 200 else response.status))
                return
            jitter = 1 + _JITTER * (2 * random.random() - 1)
            with self._turn.rest(response.retry_after):
                time.sleep(max(wait * jitter, response.retry_after))

    def _post(self, bulk: Bulk) -> Response:
        body: bytes | memoryview = memoryview(bulk)
        if self._rules.compression is not None:
            packer = zlib.compressobj(self._rules.compression, zlib.DEFLATED, _GZIP)
            body = packer.compress(body) + packer.flush()
        path = "/_bulk" if bulk.index is None else f"/{quote(bulk.index, safe='')}/_bulk"
        query = _QUERY.format(self._rules.patience_ms)
        return self._cluster.request("POST", path + query, body, self._headers)

    def _settle(self, bulk: Bulk, response: Response) -> tuple[Bulk | None, str]:
        """Reads the answer. Gives what is to be sent again, and why. Raises ValueError: it is no answer."""
        outcome = parse_bulk_response(response.body, len(bulk))
        if outcome.duplicates:
            self._duplicates(outcome.duplicates)
        later: list[int] = []
        held: list[int] = []
        why = ""
        for status, kind, reason, field, indices in outcome.failures:
            if self._passes(status, kind):
                where = held if kind in _OF_ONE_INDEX else later
                where.extend(indices)
                what = (
                    f"{response.node} has no room for {len(where)} of {len(bulk)} documents: {status} {kind}"
                )
                if where is held:
                    self._held = RefusedError(what)
                else:
                    why = what
                    if status == _BUSY:
                        self._push_back()
                self._output.log_repeated(
                    f"documents are tried again: {status} {kind}", count=len(indices), error=reason
                )
            else:
                self._reject(bulk.entries(indices), status, kind, reason, field)
        if held:
            self._left.append(bulk.only(sorted(held)))
        if not later:
            return None, ""
        return bulk.only(sorted(later)), why

    def _passes(self, status: int, kind: str) -> bool:
        """Whether the same document may be taken later."""
        if kind in self._rules.hopeless:
            return False
        if status == 409:
            return self._rules.updates
        return status == _BUSY or status >= 500 or kind in _OF_ONE_INDEX

    def _split(self, bulk: Bulk, response: Response) -> None:
        """A request that is too large, or refused for one document in it: sends its halves."""
        count = len(bulk)
        kind, reason = error_of(response.body)
        if response.status == 413:
            known = self._cluster.limit_bytes
            half = max(1, bulk.nbytes // 2)
            self._cluster.limit_bytes = half if known is None else min(known, half)
            kind = kind or "request_too_large"
            self._output.log_repeated(
                "a request was too large for the server, which gets smaller ones from now on",
                bytes=bulk.nbytes, error=explain(response, "_bulk"),
            )  # fmt: skip
        if count == 1:
            self._reject(bulk.entries([0]), response.status, kind, reason, None)
            return
        self._send(bulk.only(range(count // 2)))
        self._send(bulk.only(range(count // 2, count)))

    def _push_back(self) -> None:
        """The cluster has no room: notes it, and says so where fewer chunks go there at once now."""
        before = int(self._cluster.pressure.limit)
        self._turn.push_back()
        limit = int(self._cluster.pressure.limit)
        if limit < before:
            self._output.log_repeated(
                "the cluster pushes back: fewer chunks are sent at once", level="info", at_once=limit
            )

    def _fail(self, bulk: Bulk, why: UnreachableError | RefusedError) -> None:
        self._left.append(bulk)
        self._why = why

    # ------------------------------------------------------------ documents that are not taken

    def _refuse(self, requests: BulkRequests) -> None:
        """Books the events that cannot be sent."""
        for reason, stream in requests.refused:
            if reason in self._rules.silent:
                self._drop(len(stream), reason)
            else:
                self._explain(stream, reason, "the event cannot be sent")
        sent = sum(len(bulk) for bulk in requests.bulks)
        self._drop(self._chunk.count - sent - self._explained, "unreadable")
        errors = requests.time_errors
        if errors:
            self._output.log_repeated("time_key holds no time: the event's time is used", count=len(errors))
            try:
                batch = EventBatch([(self._rules.time_error_tag, errors)])
                self._output.context.emit_to_label("@ERROR", batch)
            except (ConfigError, BufferOverflow):
                pass  # there is nobody who wants to know, or has room; the events themselves go on

    def _reject(self, stream: EventStream, status: int, kind: str, reason: str, field: str | None) -> None:
        kind = kind or f"status_{status}"
        about = f"documents are rejected: {status} {kind}" + (f" (field {field})" if field else "")
        self._output.log_repeated(about, count=len(stream), error=reason)
        self._explain(stream, kind, f"{status} {kind}: {reason}")

    def _explain(self, stream: EventStream, reason: str, detail: str) -> None:
        self._explained += len(stream)
        batch = EventBatch([(self._chunk.key.tag or "", stream)])
        self._output.context.emit_error(batch, reason, detail)

    def _duplicates(self, count: int) -> None:
        if self._rules.keeps_ids:
            self._output.log_repeated("documents were there already", count=count, level="info")
        else:
            self._drop(count, "duplicate")

    def _drop(self, count: int, reason: str) -> None:
        if count > 0:
            self._explained += count
            self._output.context.drop(count, reason)
            self._output.log_repeated(f"events are dropped: {reason}", count=count)

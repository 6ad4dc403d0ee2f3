"""Rows with a real Elasticsearch: documents per second by number of flush threads, and our own CPU.

The server and the benchmark share the machine's cores, as a node and its shipper do on a small host;
forwarder is pinned to core 0. The node is the one of the tests (`tests/searchnode`): default settings, 1 GiB
of heap; one shard without replicas, refreshed every second.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import free_ports
from bench.process import RunError, scratch
from bench.receivers import fill
from bench.relays import Listening, launch, send, states
from bench.tools import Tools

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from searchnode import RELEASES, Node, Unavailable

THREADS = (1, 2, 4)
PATIENCE_SECONDS = 300.0
_WARM = 30_000
_INDEX = {"settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s"}}
_MATCH = """<match bench.**>
  @type elasticsearch
  host 127.0.0.1
  port {port}
  index_name {index}
  include_timestamp true
  request_timeout 60s
  <buffer>
    flush_thread_count {threads}
    flush_mode interval
    flush_interval 1s
    flush_thread_interval 0.1
    chunk_limit_size 4m
    queued_chunks_limit_size 64
    total_limit_size 1g
    overflow_action block
  </buffer>
</match>"""


def name(threads: int) -> str:
    """The row's."""
    return f"real Elasticsearch, flush_thread_count {threads}"


@contextlib.contextmanager
def node() -> Iterator[Node]:
    """A running node.

    Raises:
        RunError: it cannot run on this machine.
    """
    try:
        made = Node(RELEASES["elasticsearch"], java_options="-Xms1g -Xmx1g")
    except Unavailable as error:
        raise RunError(str(error)) from None
    with made as running:
        yield running


def run(server: Node, threads: int, count: int, tools: Tools) -> dict[str, Any]:
    """`count` events of about 250 bytes, as fast as they go, until the node has them all.

    The node's CPU is told too: all cores' worth of it means that the node is the limit.
    """
    index = f"bench-{os.urandom(4).hex()}"
    if server.request("PUT", f"/{index}", _INDEX).status != 200:
        raise RunError("the node makes no index")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("search"))
        (port,) = free_ports(1)
        match = _MATCH.format(port=server.port, index=index, threads=threads)
        conf = fill("forwarder-relay.conf", folder, "forwarder.conf", PORT=str(port), MATCH=match)
        process = Listening("forwarder", launch(conf, port), folder)
        stack.callback(process.stop)
        process.wait_ready(lambda: states(port).count("0A") > 0)
        send(tools, process, "packed", count=_WARM)
        _arrived(server, process, index, _WARM)
        process.wait_idle(lambda: False)
        cpu, theirs, started = process.cpu_seconds(), server.cpu_seconds(), time.monotonic()
        send(tools, process, "packed", count=count, first=_WARM)
        _arrived(server, process, index, _WARM + count)
        seconds = time.monotonic() - started
        theirs = server.cpu_seconds() - theirs
        used = process.cpu_seconds() - cpu
        found = server.count(index)
        server.request("DELETE", f"/{index}")
        return {
            "documents_per_second": count / seconds,
            "us_per_event": used * 1e6 / count,
            "node_us_per_event": theirs * 1e6 / count,
            "node_cores": theirs / seconds,
            "offered": count,
            "missing": max(0, _WARM + count - found),
            "doubled": max(0, found - _WARM - count),
        }


def _arrived(server: Node, process: Listening, index: str, count: int) -> None:
    """Waits until so many documents are there; asks without a refresh of its own."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        reply = server.request("GET", f"/{index}/_stats/indexing")
        if reply.status == 200 and reply.body["_all"]["primaries"]["indexing"]["index_total"] >= count:
            return
        if not process.alive():
            break
        time.sleep(0.1)
    raise RunError(f"the node has not all {count:,} documents: {process.log_tail()}")


def table(rows: dict[str, Any]) -> list[str]:
    """The rows as lines: median (min..max)."""
    lines = ["", "a real Elasticsearch on the same cores"] if rows else []
    for row, figures in rows.items():
        rate, cost, cores = (figures[key] for key in ("documents_per_second", "us_per_event", "node_cores"))
        lines.append(
            f"  {row:<44}{rate['median']:>9,.0f} documents/s ({rate['minimum']:,.0f}..{rate['maximum']:,.0f})"
            f"  {cost['median']:.2f} us of ours each ({cost['minimum']:.2f}..{cost['maximum']:.2f}), "
            f"the node takes {cores['median']:.2f} cores"
        )
    return lines

"""Rows of the forward protocol: relays beside a TCP proxy and rsyslog, receiving alone, idle connections.

Load generator and sink share core 1 and need about 0.08 us an event together, less than any relay.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.measure import free_ports
from bench.process import LOAD_CORE, Process, RunError, scratch
from bench.receivers import Launch, fill
from bench.tools import CountingSink, Tools

IDLE_CONNECTIONS = 5_000
WARM_SECONDS = 0.3

_FORWARD = """<match bench.**>
  @type forward
  heartbeat_type none
  keepalive true
  require_ack_response {ack}
  <server>
    host 127.0.0.1
    port {sink}
  </server>
  <buffer>
    flush_mode interval
    flush_interval 1s
    total_limit_size 64m
    overflow_action block
  </buffer>
</match>"""
_NULL = "<match bench.**>\n  @type null\n</match>"


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that passes events on, or takes them.

    Attributes:
        mode: what the load generator sends it, if not the row's mode.
        prepare: (folder, port to listen on, port of the sink, acks) -> how to start it.
    """

    name: str
    prepare: Callable[[Path, int, int, bool], Launch]
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Relay:
    """A row.

    Attributes:
        mode: "packed" (PackedForward, 1,000 events a message), "array" (Forward, 1,000) or "message" (one
            event a message, 100 messages a system call).
        ack: the sender asks for acknowledgements, and so does the relay of the sink.
        contenders: whose turn it is.
    """

    name: str
    mode: str
    ack: bool
    contenders: tuple[Contender, ...]


def relay_rows(tools: Tools, names: set[str]) -> list[Relay]:
    """All rows, with the contenders that take part (`names`: "forwarder", "rsyslog", "floor")."""
    own, null = Contender("forwarder", _relaying), Contender("forwarder", _taking)
    proxies = [
        Contender("TCP proxy", lambda _, port, sink, __: _proxy(tools, port, sink, "off")),
        Contender("TCP proxy (splice)", lambda _, port, sink, __: _proxy(tools, port, sink, "on")),
    ]
    mine = (own,) if "forwarder" in names else ()
    floors = tuple(proxies) if "floor" in names else ()
    rsyslog = (Contender("rsyslog", _rsyslog, "lines"),) if "rsyslog" in names else ()
    found = [
        Relay("forward -> forward, PackedForward", "packed", ack=False, contenders=mine + floors + rsyslog),
        Relay("forward -> forward, PackedForward, acks", "packed", ack=True, contenders=mine + floors),
    ]
    if mine:
        found += [
            Relay("forward -> null, PackedForward", "packed", ack=False, contenders=(null,)),
            Relay("forward -> null, Forward", "array", ack=False, contenders=(null,)),
            Relay("forward -> null, Message", "message", ack=False, contenders=(null,)),
        ]
    return found


def run(relay: Relay, contender: Contender, seconds: float, tools: Tools) -> dict[str, Any]:
    """One unpaced run: CPU per event, events per second on the one core, exact counts.

    The rate is events / max(time of sending, CPU time until all was out), so that what a buffer holds at the
    end is not a gain.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(CountingSink(tools, "forwardsink"))
        process = stack.enter_context(_started(contender, sink.port, relay.ack))
        mode = contender.mode or relay.mode
        warm = send(tools, process, mode, ack=relay.ack, seconds=WARM_SECONDS)
        process.wait_idle(lambda: False)
        cpu = process.cpu_seconds()
        said = send(tools, process, mode, ack=relay.ack, seconds=seconds, first=warm["sent"])
        used = process.wait_idle(lambda: False) - cpu
        peak = process.status_kib("VmHWM")
        sent = said["sent"]
        result = {
            "us_per_event": used * 1e6 / sent,
            "rate": sent / max(said["seconds"], used),
            "megabytes_per_second": said["bytes"] / max(said["seconds"], used) / 1e6,
            "core_percent": 100 * used / max(said["seconds"], used),
            "rss_peak_kib": peak,
            "offered": sent,
        }
        process.stop()
        if contender.prepare is _taking:
            return result
        counts = sink.stats(warm["sent"] + sent)
        if counts["records"] == 0:
            raise RunError(f"{contender.name} delivered nothing: {process.log_tail()}")
        return result | {name: counts[name] for name in ("missing", "doubled", "unnumbered")}


def receiving(filter_text: str, fields: int, seconds: float, tools: Tools) -> dict[str, Any]:
    """CPU per event of receiving PackedForward messages of such events, through a filter, to null."""
    contender = Contender(
        "forwarder", lambda folder, port, _, __: _own(folder, port, f"{filter_text}\n{_NULL}")
    )
    with _started(contender, 0, ack=False) as process:
        send(tools, process, "packed", seconds=WARM_SECONDS, first=0, fields=fields)
        process.wait_idle(lambda: False)
        cpu = process.cpu_seconds()
        said = send(tools, process, "packed", seconds=seconds, first=0, fields=fields)
        used = process.wait_idle(lambda: False) - cpu
        return {"us_per_event": used * 1e6 / said["sent"]}


def idle_connections(tools: Tools) -> dict[str, Any]:
    """Memory of 5,000 connections that stay open, over each of which one event came."""
    contender = Contender("forwarder", _taking)
    with _started(contender, 0, ack=False) as process:
        process.wait_idle(lambda: False)
        before = process.status_kib("VmRSS")
        load = subprocess.Popen(
            [tools["forwardgen"], "--port", str(process.port), "--idle", str(IDLE_CONNECTIONS), "--core",
             str(LOAD_CORE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            if load.stdout is None or not load.stdout.readline():
                raise RunError(f"forwardgen: {load.communicate()[1].strip()}")
            process.wait_idle(lambda: False)
            held, cpu, started = process.status_kib("VmRSS"), process.cpu_seconds(), time.monotonic()
            time.sleep(2)
            share = (process.cpu_seconds() - cpu) / (time.monotonic() - started)
            accepted = len(list(Path(f"/proc/{process.processes()[0]}/fd").iterdir()))
            if min(accepted, states(process.port).count("01")) < IDLE_CONNECTIONS:
                raise RunError(f"forwarder has not all {IDLE_CONNECTIONS} connections: {process.log_tail()}")
        finally:
            load.communicate()
        return {"kib_per_connection": (held - before) / IDLE_CONNECTIONS, "core_percent": 100 * share}


class Listening(Process):
    """A started program that listens on a TCP port."""

    def __init__(self, name: str, launch: Launch, folder: Path) -> None:
        super().__init__(name, launch.argv, folder, launch.environment)
        self.port = launch.ports[0]


@contextlib.contextmanager
def _started(contender: Contender, sink: int, ack: bool) -> Iterator[Listening]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("relay"))
        (port,) = free_ports(1)
        process = Listening(contender.name, contender.prepare(folder, port, sink, ack), folder)
        stack.callback(process.stop)
        process.wait_ready(lambda: states(port).count("0A") > 0)
        yield process


def states(port: int) -> list[str]:
    """The states (hexadecimal, linux/tcp_states.h) of the TCP sockets with this local port."""
    found = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(name) as table:
            next(table)
            for line in table:
                columns = line.split(None, 4)
                if int(columns[1].rpartition(":")[2], 16) == port:
                    found.append(columns[3])
    return found


def send(
    tools: Tools, process: Listening, mode: str, *, ack: bool = False, seconds: float | None = None,
    count: int | None = None, first: int = 0, fields: int = 4,
) -> dict[str, Any]:  # fmt: skip
    """Sends unpaced, for some seconds or so many events; gives what the load generator says."""
    limit = ["--seconds", str(seconds)] if seconds is not None else ["--count", str(count)]
    done = subprocess.run(
        [tools["forwardgen"], "--port", str(process.port), "--mode", mode, "--ack", "on" if ack else "off",
         "--batch", "100" if mode == "message" else "1000", *limit, "--first", str(first),
         "--fields", str(fields), "--core", str(LOAD_CORE)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RunError(f"{done.stderr.strip()}; {process.name}: {process.log_tail()}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def launch(conf: Path, port: int) -> Launch:
    """Forwarder on a configuration that listens on `port`."""
    program = Path(sys.executable).parent / "forwarder"
    return Launch([str(program), "run", "--no-supervisor", "-c", str(conf)], None, (port,), "")


def _own(folder: Path, port: int, match: str) -> Launch:
    conf = fill("forwarder-relay.conf", folder, "forwarder.conf", PORT=str(port), MATCH=match)
    return launch(conf, port)


def _relaying(folder: Path, port: int, sink: int, ack: bool) -> Launch:
    return _own(folder, port, _FORWARD.format(sink=sink, ack="true" if ack else "false"))


def _taking(folder: Path, port: int, _: int, __: bool) -> Launch:
    return _own(folder, port, _NULL)


def _proxy(tools: Tools, port: int, sink: int, splice: str) -> Launch:
    argv = [tools["tcpproxy"], "--listen", str(port), "--to", str(sink), "--splice", splice]
    return Launch(argv, None, (port,), "")


def _rsyslog(folder: Path, port: int, sink: int, _: bool) -> Launch:
    peer = peers.fetch("rsyslog")
    conf = fill("rsyslog-relay.conf", folder, "rsyslog.conf", PORT=str(port), SINK=str(sink))
    argv = [str(peer.program), "-n", "-M", str(peer.modules), "-f", str(conf), "-i", str(folder / "pid")]
    return Launch(argv, peer.environment, (port,), "")

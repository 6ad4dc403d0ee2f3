"""One node: start, stop, kill, start again with the same data on the same port; requests to it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from searchnode.release import Release

_NOBODY: Final = 65534
_START_SECONDS: Final = 180.0  # 9 s on two idle cores; CI's are busy
_STOP_SECONDS: Final = 60.0
# C1 and a small heap: a node for tests is started more than it is worked.
_SMALL: Final = "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch"
_SETTINGS: Final = {
    "cluster.name": "forwarder-tests",
    "node.name": "one",
    "network.host": "127.0.0.1",
    "discovery.type": "single-node",
    # a nearly full disk is no reason to refuse a test's documents
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}


class Reply(NamedTuple):
    """What the node answered."""

    status: int
    body: Any
    """Decoded JSON, or text."""


class Node:
    """A node in a process of its own; stops and removes its data at the end of `with`."""

    def __init__(
        self, release: Release, settings: Mapping[str, str] | None = None, *, port: int | None = None,
        secrets: Mapping[str, str] | None = None, java_options: str = _SMALL,
    ) -> None:  # fmt: skip
        """`settings` are added to its settings file, `secrets` to its keystore; `port` is for HTTP, a free
        one by default.

        Raises:
            Unavailable: it cannot run on this machine.
        """
        self.release = release
        self._home = release.prepare()
        self._java = release.java_home()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{release.product}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.start_seconds = 0.0
        self._configure({**_SETTINGS, **(settings or {})})
        self._secrets = dict(secrets or {})
        self._options = java_options

    def _configure(self, settings: Mapping[str, str]) -> None:
        product = self.release.product
        config = self._folder / "config"
        for name in ("data", "logs", "tmp", "repositories"):
            (self._folder / name).mkdir()
        shutil.copytree(self._home / "config", config)
        options = config / "jvm.options"  # some name files below the distribution, which nobody may write
        lines = [line for line in options.read_text().splitlines(keepends=True) if "logs/" not in line]
        options.write_text("".join(lines))
        ours = {
            "path.data": str(self._folder / "data"),
            "path.logs": str(self._folder / "logs"),
            "path.repo": str(self.repositories),
            "http.port": str(self.port),
            "transport.port": str(_free_port()),
        }
        if product == "elasticsearch":
            ours["xpack.security.enabled"] = "false"
        text = "".join(f"{name}: {value}\n" for name, value in {**ours, **settings}.items())
        (config / f"{product}.yml").write_text(text)
        if os.getuid() == 0:
            for path in [self._folder, *self._folder.rglob("*")]:
                os.chown(path, _NOBODY, _NOBODY)

    def start(self) -> None:
        """Starts it and waits until it takes documents.

        Raises:
            RuntimeError: it ended, or was not ready in time; with the end of its log.
        """
        assert self._process is None, "the node is running"
        prefix = "ES" if self.release.product == "elasticsearch" else "OPENSEARCH"
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            f"{prefix}_JAVA_HOME": str(self._java),
            f"{prefix}_PATH_CONF": str(self._folder / "config"),
            f"{prefix}_TMPDIR": str(self._folder / "tmp"),
            f"{prefix}_JAVA_OPTS": self._options,
            "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
        }
        identity: dict[str, Any] = {}
        if os.getuid() == 0:
            identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        if self._secrets:
            self._add_secrets(environment, identity)
        started = time.monotonic()
        with (self._folder / "logs/output").open("ab") as output:
            self._process = subprocess.Popen(
                [*_leash(), str(self._home / "bin" / self.release.product)],
                env=environment,
                cwd=self._folder / "tmp",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the program starts the server as a child: signals go to both
                **identity,
            )
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() - started > _START_SECONDS:
                status = self._process.poll()
                self.kill()
                raise RuntimeError(
                    f"{self.release.name} did not start (status {status}):\n{self.log()[-6000:]}"
                )
            time.sleep(0.1)
        self.start_seconds = time.monotonic() - started

    def _add_secrets(self, environment: Mapping[str, str], identity: Mapping[str, Any]) -> None:
        secrets, self._secrets = self._secrets, {}
        command = [str(self._home / "bin" / f"{self.release.product}-keystore")]
        for arguments, text in (
            (["create"], ""),
            (["add", "--stdin", *secrets], "".join(f"{value}\n" for value in secrets.values())),
        ):
            subprocess.run(
                [*command, *arguments], input=text.encode(), env=environment, cwd=self._folder / "tmp",
                check=True, capture_output=True, timeout=120, **identity,
            )  # fmt: skip

    def _ready(self) -> bool:
        try:
            # asked too early, some versions never answer
            path = "/_cluster/health?wait_for_status=yellow&timeout=1s"
            return self.request("GET", path, timeout_seconds=2).status == 200
        except OSError:
            return False

    @property
    def repositories(self) -> Path:
        """A folder below which it may keep snapshots."""
        return self._folder / "repositories"

    @property
    def running(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        """SIGTERM, and waits for its end. Does nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and waits for its end. Does nothing when it is not running."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, requests wait."""
        assert self._process is not None, "the node is not running"
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        assert self._process is not None, "the node is not running"
        os.killpg(self._process.pid, signal.SIGCONT)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        while True:
            # the group outlives the program for as long as the server is there
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                process.poll()
                return
            if number != signal.SIGKILL:
                number = 0
            process.poll()
            if number == 0 and time.monotonic() > deadline:
                number = signal.SIGKILL
            time.sleep(0.02)

    def wait(self) -> int:
        """Waits for the end of a running node; gives its exit status."""
        assert self._process is not None, "the node is not running"
        return self._process.wait()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        timeout_seconds: float = 30.0,
    ) -> Reply:
        """One request; `body` is bytes, or anything that JSON can say.

        Raises:
            OSError: no answer.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
                return Reply(response.status, _decoded(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, _decoded(error.read()))

    def bulk(self, body: bytes) -> Reply:
        """A bulk request of newline-delimited JSON."""
        return self.request("POST", "/_bulk", body, content_type="application/x-ndjson")

    def count(self, index: str, query: Mapping[str, Any] | None = None) -> int:
        """Documents that match, after a refresh; 0 where there is no such index."""
        self.request("POST", f"/{index}/_refresh")
        reply = self.request("POST", f"/{index}/_count", {"query": query or {"match_all": {}}})
        return int(reply.body["count"]) if reply.status == 200 else 0

    def documents(self, index: str, sort: str | None = None) -> list[dict[str, Any]]:
        """The hits (`_id`, `_source`, ...) of all documents after a refresh, at most 10,000."""
        self.request("POST", f"/{index}/_refresh")
        query: dict[str, Any] = {"size": 10_000}
        if sort is not None:
            query["sort"] = [{sort: "asc"}]
        reply = self.request("POST", f"/{index}/_search", query)
        assert reply.status == 200, reply
        return list(reply.body["hits"]["hits"])

    def mapping(self, index: str) -> dict[str, str]:
        """Type of each top-level field."""
        reply = self.request("GET", f"/{index}/_mapping")
        assert reply.status == 200, reply
        (found,) = reply.body.values()
        return {name: field.get("type", "object") for name, field in found["mappings"]["properties"].items()}

    def log(self) -> str:
        """What it printed so far."""
        return (self._folder / "logs/output").read_text(errors="replace")

    def resident_bytes(self) -> int:
        """Memory of its processes (RSS, summed)."""
        assert self._process is not None, "the node is not running"
        total = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(stat[2]) == self._process.pid:
                    total += int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
            except OSError:
                continue  # it ended meanwhile
        return total

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far, in steps of 0.01 s."""
        assert self._process is not None, "the node is not running"
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if int(stat[2]) == self._process.pid:
                ticks += int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Node:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _leash() -> list[str]:
    """Has the program end with us, even where we are killed; the server ends with the program."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _free_port() -> int:
    """A free TCP port below the kernel's range for clients.

    A port of that range could be taken by any connection while the node is down, even by the sender's own
    attempt to reach it, which then talks to itself.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

"""The native programs of `bench/loadgen`: building them, and the sinks as running servers that count."""

import http.client
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bench.process import LOAD_CORE, RunError

CRATE = Path(__file__).resolve().parent / "loadgen"


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the native programs are."""

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def build() -> Tools:
    """Builds the native programs.

    Raises:
        RunError: Cargo is missing.
    """
    if not shutil.which("cargo"):
        raise RunError("cargo not found: install Rust 1.85 or later (https://rustup.rs)")
    manifest = str(CRATE / "Cargo.toml")
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", manifest], check=True)
    return Tools(CRATE / "target" / "release")


class CountingSink:
    """A native sink on the load generator's core, so that its CPU time is not the receiver's.

    `name` is "bulksink" (Elasticsearch's `_bulk`) or "forwardsink" (the forward protocol).
    """

    def __init__(self, tools: Tools, name: str, *options: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [tools[name], "--core", str(LOAD_CORE), *options], stdout=subprocess.PIPE, text=True
        )
        self._out: IO[str] | None = self._process.stdout
        first = self._out.readline() if self._out else ""
        if not first:
            raise RunError(f"{name} did not start")
        self.port: int = json.loads(first)["port"]

    def stats(self, expect: int = 0) -> dict[str, int]:
        """The counts so far: unique, doubled, records, unnumbered, bytes; missing and outside by `expect`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/stats?expect={expect}")
            counts: dict[str, int] = json.loads(connection.getresponse().read())
            return counts
        finally:
            connection.close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._out:
            self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def count_sequences(tools: Tools, files: list[Path], expect: int) -> dict[str, int]:
    """What the counting sink for files says: unique, doubled, missing, unnumbered, records."""
    if not files:
        return {"unique": 0, "doubled": 0, "missing": expect, "unnumbered": 0, "records": 0}
    done = subprocess.run(
        [tools["seqcount"], "--expect", str(expect), *map(str, files)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    counts: dict[str, int] = json.loads(done.stdout)
    return counts

"""Reloads while datagrams come as fast as half of what is taken without any loss."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import ForwarderProcess, free_port

ROOT = Path(__file__).resolve().parents[2]
RELOADS = 20
ATTEMPTS = 3
"""A machine that stops for a third of a second loses datagrams too, but hardly in each attempt."""
PROBE_SECONDS = 1.0
TOP_RATE = 800_000
BURST_SECONDS = 5
FIRST = ("nice", "-n", "-19") if os.geteuid() == 0 else ()
"""Other tests run beside this one, and a process that gets no processor for a while loses what comes."""
UDP = """
<source>
  @type udp
  bind 127.0.0.1
  port {port}
  tag t
  <parse>
    @type none
  </parse>
</source>
"""
MEMORY = """
<match t>
  @type file
  path {folder}/out
  append true
  <format>
    @type single_value
  </format>
  <buffer []>
    @type memory
    flush_mode interval
    flush_interval 0.2
  </buffer>
</match>
"""
FILE = MEMORY.replace("@type memory", "@type file\n    path {folder}/buffer\n    flush_at_shutdown true")


class Generator:
    """`bench/loadgen`: numbered datagrams, each of another kind of line."""

    def __init__(self, program: Path, port: int) -> None:
        self._program, self._port = program, port
        self.sent = 0
        self._process: subprocess.Popen[str] | None = None

    def begin(self, rate: int, seconds: float) -> None:
        command = [
            *FIRST, self._program, "--port", str(self._port), "--rate", str(rate), "--first", str(self.sent),
            "--count", str(int(rate * seconds)), "--mode", "header",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> float:
        """Waits for it; gives the rate that it reached."""
        assert self._process is not None
        said = json.loads(self._process.communicate()[0])
        self.sent += said["sent"]
        return float(said["rate"])


@pytest.fixture(scope="session")
def programs(tools: Any) -> Path:
    """The folder of the native load generator and counter."""
    manifest = ROOT / "bench/loadgen/Cargo.toml"
    subprocess.run(
        [tools.need("cargo"), "build", "--release", "--quiet", "--manifest-path", manifest], check=True
    )
    return manifest.parent / "target/release"


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: a disk that stalls has nothing to do with reloads."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def dropped(port: int) -> int:
    """Datagrams that the kernel has thrown away at the sockets of a port."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    columns = [line.split() for line in lines]
    return sum(int(each[12]) for each in columns if int(each[1].rpartition(":")[2], 16) == port)


def lossless_rate(generator: Generator, port: int) -> int:
    """The highest of some rates, in ascending order by a half more each, that lost nothing."""
    best, rate = 0, 50_000
    while rate <= TOP_RATE:
        before = dropped(port)
        generator.begin(rate, PROBE_SECONDS)
        reached = generator.end()
        if dropped(port) > before or reached < 0.9 * rate:
            break
        best, rate = int(reached), rate * 3 // 2
    assert best, "not even the lowest rate came through"
    return best


@pytest.mark.slow
@pytest.mark.timeout(600)  # it may have to build the generator
@pytest.mark.parametrize("routes", [MEMORY, FILE], ids=["memory", "file"])
def test_reloads_at_half_of_the_lossless_rate(folder: Path, programs: Path, routes: str) -> None:
    port = free_port()
    config = UDP.format(port=port) + routes.format(folder=folder) + "<match **>\n@type null\n</match>\n"
    generator = Generator(programs / "loadgen", port)
    with ForwarderProcess(folder, config, prefix=FIRST) as process:
        rate = lossless_rate(generator, port) // 2
        for _ in range(ATTEMPTS):
            before = dropped(port)
            reload_under_load(process, generator, rate)
            lost = dropped(port) - before
            if not lost:
                break
        assert lost == 0
        total = dropped(port)
        assert process.stop() == 0
        files = [path for path in folder.glob("out*.log") if path.is_file()]
        command = [programs / "seqcount", "--expect", str(generator.sent), *files]
        counts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{RELOADS} reloads at {rate:,}/s; in all {generator.sent:,} sent: {counts}")
        # what the kernel has counted, and nothing else, also where it was too much
        assert (counts["missing"], counts["doubled"]) == (total, 0)
        assert "Traceback" not in process.log


def reload_under_load(process: ForwarderProcess, generator: Generator, rate: int) -> None:
    """Reloads again and again, at least so often, while datagrams come."""
    reloads = 0
    while reloads < RELOADS:
        generator.begin(rate, BURST_SECONDS)
        while generator.running:
            process.reload()
            reloads += generator.running
        generator.end()

"""The releases that tests run: download once, unpack, add what the small distributions lack."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from searchnode import repository_s3
from searchnode.maven import CENTRAL, Unavailable, download

_PLUGIN: Final = Path(__file__).with_name("plugin")
_DESCRIPTOR: Final = """\
description=What the small distribution lacks
version=1
name=forwarder-tests
classname=forwarder.tests.{name}
java.version=17
elasticsearch.version={version}
"""


@dataclass(frozen=True, slots=True)
class Release:
    """One pinned version."""

    product: str
    """`elasticsearch` or `opensearch`: also the name of its program and of its main settings file."""
    version: str
    sha256: str
    """Of the zip on Maven Central."""
    java: tuple[int, int]
    """Java versions that it runs on, first and last."""
    plugin: str | None = None
    """The class in plugin/ that is added to it."""
    s3: str | None = None
    """SHA-256 over all jars of its plugin repository-s3, which is added to it."""

    @property
    def name(self) -> str:
        return f"{self.product}-{self.version}"

    @property
    def url(self) -> str:
        group = "org/elasticsearch" if self.product == "elasticsearch" else "org/opensearch"
        folder = f"{CENTRAL}/{group}/distribution/integ-test-zip/{self.product}/{self.version}"
        return f"{folder}/{self.name}.zip"

    def java_home(self) -> Path:
        """A Java of this machine that it runs on.

        Raises:
            Unavailable: there is none.
        """
        first, last = self.java
        for home in _java_homes():
            if first <= _java_version(home) <= last and (
                self.plugin is None or (home / "bin/javac").exists()
            ):
                return home
        kind = "runtime" if self.plugin is None else "development kit"
        raise Unavailable(f"{self.name} needs a Java {kind}, version {first} to {last}")

    def prepare(self) -> Path:
        """The folder of the unpacked distribution, in the cache; the first call downloads it.

        Raises:
            Unavailable: no Java, or no network.
        """
        java = self.java_home()
        cache = _cache()
        home = cache / self.name
        with _locked(cache / f"{self.name}.lock"):
            if not home.is_dir():
                with tempfile.TemporaryDirectory(dir=cache) as work:
                    archive = self._download(Path(work))
                    unpacked = self._unpack(archive, Path(work))
                    if self.plugin is not None:
                        self._add_plugin(unpacked, java)
                    if self.s3 is not None:
                        repository_s3.add(unpacked, self.version, self.s3)
                    unpacked.rename(home)
        return home

    def _download(self, work: Path) -> Path:
        path = work / "distribution.zip"
        digest = hashlib.sha256()
        download(self.url, path, digest)
        if digest.hexdigest() != self.sha256:
            raise RuntimeError(f"{self.url} has SHA-256 {digest.hexdigest()}, expected {self.sha256}")
        return path

    def _unpack(self, archive: Path, work: Path) -> Path:
        with zipfile.ZipFile(archive) as file:
            file.extractall(work)
        unpacked = work / self.name
        for program in (unpacked / "bin").iterdir():  # zipfile does not keep modes
            program.chmod(0o755)
        return unpacked

    def _add_plugin(self, home: Path, java: Path) -> None:
        assert self.plugin is not None
        folder = home / "plugins/forwarder-tests"
        classes = home.with_name("classes")
        folder.mkdir()
        (folder / "plugin-descriptor.properties").write_text(
            _DESCRIPTOR.format(name=self.plugin, version=self.version)
        )
        sources = [str(_PLUGIN / "Parts.java"), str(_PLUGIN / f"{self.plugin}.java")]
        command = [
            str(java / "bin/javac"),
            "-proc:none",
            "-cp",
            f"{home}/lib/*",
            "-d",
            str(classes),
            *sources,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.plugin} does not compile:\n{done.stdout}{done.stderr}")
        with zipfile.ZipFile(folder / "forwarder-tests.jar", "w") as jar:
            for path in sorted(classes.rglob("*.class")):
                jar.write(path, path.relative_to(classes))
        shutil.rmtree(classes)


RELEASES: Final = {
    "elasticsearch": Release(
        "elasticsearch",
        "8.19.21",
        "215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a",
        (17, 99),
        "Plugin8",
    ),
    "elasticsearch7": Release(
        "elasticsearch",
        "7.17.29",
        "841ee00be1a72ba8e707b5a2fb55f23fe7a4184369b4585393238b1c903eedaf",
        (11, 21),
    ),
    "elasticsearch9": Release(
        "elasticsearch",
        "9.5.3",
        "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d",
        (21, 99),
        "Plugin9",
    ),
    "opensearch": Release(
        "opensearch",
        "2.19.6",
        "71d6d8b1c637f3faecda0752b184b1cc526fc6eaad59ec1408c6327bb00b9293",
        (11, 21),
    ),
    "opensearch3": Release(
        "opensearch",
        "3.6.0",
        "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286",
        (21, 99),
        s3="2accd5d20c926dbc3741194876fa7ab11384ba7a44e9bb66c41ae230ec1f3510",
    ),
}
"""By the name of their fixture."""


def _cache() -> Path:
    # root's is not below /root: nodes refuse to run as root, and nobody may not look there
    if named := os.environ.get("FORWARDER_TEST_CACHE"):
        path = Path(named)
    elif os.getuid() == 0:
        path = Path("/var/cache/forwarder-tests")
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwarder-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _java_homes() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    if found := shutil.which("java"):
        yield Path(found).resolve().parents[1]
    yield from sorted(Path("/usr/lib/jvm").glob("*"))


def _java_version(home: Path) -> int:
    """17 of a Java 17; 0 where that cannot be told."""
    try:
        text = (home / "release").read_text()
    except OSError:
        return 0
    version = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)
    return int(version[1]) if version else 0

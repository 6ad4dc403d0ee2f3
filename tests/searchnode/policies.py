"""Elasticsearch's own reading of lifecycle policies: by its classes on Maven Central."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from searchnode.maven import CENTRAL, download
from searchnode.release import RELEASES

_SHA256: Final = "70492fc477cb5d37e5d7403eea755420bdc8c54b4c9554a48a1ea82395f23a7c"
_PROGRAM: Final = Path(__file__).with_name("plugin") / "CheckPolicy.java"


def read(policies: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """For each policy: when its next two snapshots after 2026-11-28T00:00:00Z are, or `refused: ...`.

    Raises:
        Unavailable: no Java, or no network.
    """
    release = RELEASES["elasticsearch"]
    home, java = release.prepare(), release.java_home()
    name = f"x-pack-core-{release.version}.jar"
    jar = folder / name
    digest = hashlib.sha256()
    download(f"{CENTRAL}/org/elasticsearch/plugin/x-pack-core/{release.version}/{name}", jar, digest)
    if digest.hexdigest() != _SHA256:
        raise RuntimeError(f"{name} has SHA-256 {digest.hexdigest()}, expected {_SHA256}")
    done = subprocess.run(
        [str(java / "bin/java"), "-XX:TieredStopAtLevel=1", "-cp", f"{jar}:{home}/lib/*", str(_PROGRAM)],
        input="".join(f"{json.dumps(policy)}\n" for policy in policies), text=True, capture_output=True,
        timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout.splitlines()

"""Downloads from Maven Central."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

CENTRAL: Final = "https://repo.maven.apache.org/maven2"


class Unavailable(Exception):  # noqa: N818 - a finding, not a failure
    """A node cannot run here; the text says what is missing."""


def download(url: str, path: Path, digest: hashlib._Hash | None = None) -> None:
    """Gets a file; `digest` is updated with its content. Raises Unavailable: no network."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                if digest is not None:
                    digest.update(block)
    except (urllib.error.URLError, OSError) as error:
        raise Unavailable(f"{url} cannot be downloaded: {error}") from None

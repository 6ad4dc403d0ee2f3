"""A configuration of in_tail and the files that it follows, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forwarder.api.testing import Driver, run

CONFIG = """
<source>
  @type tail
  path {path}
  tag {tag}
  {pos}
  {extra}
  <parse>
    {parse}
  </parse>
</source>
<match **>
  @type test
</match>
"""


def tail(
    folder: Path, *extra: str, path: str = "in.log", tag: str = "t", parse: str = "@type none",
    pos: bool = True, **options: Any,
) -> Driver:  # fmt: skip
    """A running engine; paths are below `folder`."""
    paths = ",".join(f"{folder}/{part}" for part in path.split(","))
    return run(
        CONFIG.format(
            path=paths, tag=tag, parse=parse, extra="\n".join(extra),
            pos=f"pos_file {folder}/pos" if pos else "",
        ),
        **options,
    )  # fmt: skip


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def messages(driver: Driver) -> list[str]:
    return [event.record.get("message", event.record.get("unmatched_line")) for event in driver.events()]


def wait_for(driver: Driver, *expected: str) -> None:
    """Waits for exactly these messages, in order."""
    driver.wait_for(lambda: len(messages(driver)) >= len(expected))
    assert messages(driver) == list(expected)


def positions(folder: Path) -> dict[str, tuple[int, int]]:
    """Path (below the folder) -> position, inode."""
    found = {}
    for line in (folder / "pos").read_text().splitlines():
        path, position, inode = line.split("\t")
        assert (len(position), len(inode)) == (16, 16)
        found[path.removeprefix(f"{folder}/")] = (int(position, 16), int(inode, 16))
    return found


def wait_for_position(driver: Driver, folder: Path, name: str, position: int) -> None:
    inode = (folder / name).stat().st_ino
    driver.wait_for(lambda: positions(folder).get(name) == (position, inode))

"""in_prometheus_tail_monitor: how far `@type tail` has read, on the page of `@type prometheus`, under the
names of fluent-plugin-prometheus (`fluentd_tail_file_position`, `fluentd_tail_file_inode`).

*Delivery*: no events.

*Differs from Fluentd* (fluent-plugin-prometheus): the numbers are those of `pos_file`, read when the page
is; an input without one is not shown. `interval` has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from forwarder.api import Input, duration, free_section
from forwarder.api.metrics import Family
from forwarder.plugins.inputs.in_prometheus_monitor import base_labels, family

_UNWATCHED: Final = 0xFFFFFFFFFFFFFFFF
"""In place of a position: the file is followed no more."""


class PrometheusTailMonitorInput(Input):
    """Shows positions and inodes."""

    multi_workers_ready = True

    interval = duration("Has no effect: the numbers are read when they are asked for.", 5.0)
    labels = free_section("Labels for all numbers; may hold `${hostname}` and `${worker_id}`.")

    def configure(self) -> None:
        """Raises ConfigError."""
        self._labels = base_labels(self, self.labels)

    def measure(self) -> Iterator[Family]:
        """Both families."""
        positions: list[tuple[dict[str, str], Any]] = []
        inodes: list[tuple[dict[str, str], Any]] = []
        for info in self.context.plugins():
            path = info.config.get("pos_file") if info.kind == "input" and info.type == "tail" else None
            if not path:
                continue
            for file, position, inode in self._read(path):
                labels = {**self._labels, "plugin_id": info.id, "type": info.type, "path": file}
                positions.append((labels, position))
                inodes.append((labels, inode))
        yield family("fluentd_tail_file_position", "gauge", "Current position of file.", positions)
        yield family("fluentd_tail_file_inode", "gauge", "Current inode of file.", inodes)

    def _read(self, path: str) -> Iterator[tuple[str, int, int]]:
        """(file, position, inode) of each line; the last line of a file counts."""
        found: dict[str, tuple[int, int]] = {}
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    parts = line.rstrip("\n").split("\t")
                    try:
                        name, position, inode = parts[0], int(parts[1], 16), int(parts[2], 16)
                    except (IndexError, ValueError):
                        continue  # it is being written
                    if position == _UNWATCHED:
                        found.pop(name, None)
                    else:
                        found[name] = position, inode
        except FileNotFoundError:
            pass  # nothing was read yet
        except OSError as error:
            self.log_repeated("cannot read positions", path=path, error=repr(error))
        for name, (position, inode) in found.items():
            yield name, position, inode

r"""in_tail: follows files that grow, and their rotation.

*Delivery*: at least once. A position goes into `pos_file` only after the events before it have been emitted
(so into a file buffer, if there is one), so a crash repeats lines and loses none. A full buffer stops
reading. Lost, and counted: lines that do not parse (`unmatched` and others), those longer than
`max_line_size` (16 MiB without it; `line_limit`), lines before the first one of their text
(`no_first_line`), a last line without an end in a file that is closed or truncated (`unfinished`).
What is truncated away or deleted before it was read is counted in bytes, as far as it was seen
(`forwarder_tail_unread_bytes_total`, and a warning); a file that is open is read to its end though deleted.

*Differs from Fluentd*: a rotated file is read to its end however long that takes (Fluentd closes it after
`rotate_wait`); while it is, the entry of its path in `pos_file` is still its own. A file that was rotated
while the forwarder was stopped is looked for by its inode in the same folder, and its rest is read. A file
that was made and renamed within its folder before it was ever opened is read too (by inotify). A file that
was truncated and has grown beyond where it was read is recognised by its first 64 bytes. The start of an
event of several lines that has not come to its end stays unread in `pos_file`. The parsers `cri` and
`docker` get lines whose parts are put together; parts without an end are given up after
`multiline_flush_interval`, by default 5 seconds. Lines of another `encoding` are UTF-8 for parsers and text
formatters too. With `emit_unmatched_lines` one event holds all lines that do not match. Files are looked at
each second, of very many files 10,000 a second, besides what inotify says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from forwarder._native import Intake, Tailer
from forwarder.api import (
    ConfigError,
    Input,
    array,
    boolean,
    duration,
    enum,
    integer,
    optional_section,
    parser_section,
    size,
    string,
)
from forwarder.api.metrics import Family, Sample
from forwarder.api.server import Reception, receiver_parser
from forwarder.plugins.inputs.tail.follower import Follower
from forwarder.plugins.inputs.tail.groups import Groups, GroupSection
from forwarder.plugins.inputs.tail.paths import Paths, TagMaker
from forwarder.plugins.inputs.tail.positions import PositionFile

_LOOK_SECONDS: Final = 1.0
_LEAST_BYTES: Final = 65536
_FOREVER: Final = 3600.0


class TailInput(Input):
    """Reads the lines of files."""

    path = string("Files to read, separated by path_delimiter; with `*` and strftime directives.")
    path_delimiter = string("What separates the paths.", ",")
    glob_policy = enum(
        "Which paths are globs: those with `*`; those with `*`, `?`, `[]`; or also those with `{}`.",
        ("backward_compatible", "extended", "always"), "backward_compatible",
    )  # fmt: skip
    tag = string("Tag of the events; `*` stands for the path with dots for slashes.")
    exclude_path = array("Paths that are left out.", [])
    rotate_wait = duration("How long a file is read on after its rotation, at least.", 5.0)
    pos_file = string("File that keeps how far files have been read.", None)
    pos_file_compaction_interval = duration("How often pos_file is cleaned up; not set: at the start.", None)
    read_from_head = boolean("Read the files of the start from their head, rather than their end.", False)
    refresh_interval = duration("How often files are looked for.", 60.0)
    read_lines_limit = integer("Lines of a file after which others have their turn.", 1000)
    read_bytes_limit_per_second = size("Bytes of a file within a second; not above 0: no limit.", -1)
    multiline_flush_interval = duration("When an event of several lines is given up waiting for.", None)
    emit_unmatched_lines = boolean("Emit lines that do not parse, as `unmatched_line`.", False)
    enable_watch_timer = boolean("Look at the files each second.", True)
    enable_stat_watcher = boolean("Let inotify tell of changes.", True)
    encoding = string(
        "Encoding of the lines, which become UTF-8; with from_encoding: what it does not have becomes `?`.",
        None,
    )
    from_encoding = string("Encoding that the lines are in.", None)
    path_key = string("Field for the file's path.", None)
    open_on_every_update = boolean("Open and close the file each time it is read.", False)
    limit_recently_modified = duration("Of globs only files modified within this time.", None)
    skip_refresh_on_startup = boolean("Follow no file before the first refresh_interval is over.", False)
    ignore_repeated_permission_error = boolean("Log an unreadable file only once.", False)
    path_timezone = string("Zone of the strftime directives.", None)
    follow_inodes = boolean("Know files by inode: a glob may then match rotated files.", False)
    max_line_size = size("Longest line in bytes, its end included; longer ones are skipped.", None)

    group = optional_section(GroupSection, "Limits on the lines of groups of files.")
    parse = parser_section("How lines are parsed.")

    def configure(self) -> None:
        if not self.enable_watch_timer and not self.enable_stat_watcher:
            raise ConfigError(
                "either of enable_watch_timer or enable_stat_watcher must be true", param="enable_watch_timer"
            )
        if self.follow_inodes and self.pos_file is None:
            raise ConfigError("follow_inodes needs pos_file", param="follow_inodes")
        if self.from_encoding is not None and self.encoding is None:
            raise ConfigError("from_encoding needs encoding", param="from_encoding")
        if self.read_bytes_limit_per_second > 0 and not self.enable_watch_timer:
            raise ConfigError(
                "read_bytes_limit_per_second needs enable_watch_timer", param="read_bytes_limit_per_second"
            )
        if self.refresh_interval <= 0:
            raise ConfigError("must be above 0", param="refresh_interval")
        self._paths = Paths(
            self, self.path, self.exclude_path, delimiter=self.path_delimiter, policy=self.glob_policy,
            timezone=self.path_timezone, recently=self.limit_recently_modified,
            warn_once=self.ignore_repeated_permission_error,
        )  # fmt: skip
        self._groups = None if self.group is None else Groups(self.group)
        self._stopping = threading.Event()
        self._make_tailer()

    def _make_tailer(self) -> None:
        limit = self.read_bytes_limit_per_second
        parser: Any = self.parse
        multiline = "multiline" in parser.context.type_name
        first = getattr(parser, "format_firstline", None) or getattr(parser, "multiline_start_regexp", None)
        if multiline and self.emit_unmatched_lines and getattr(parser, "unmatched_lines", "") is None:
            parser.unmatched_lines = "true"
            parser.configure()
        try:
            self._tailer = Tailer(
                receiver_parser(self, self.parse),
                path_key=self.path_key,
                emit_unmatched_lines=self.emit_unmatched_lines,
                multiline=multiline,
                first_line=first[1:-1] if multiline and first else None,
                flush_interval=self.multiline_flush_interval,
                max_line_size=self.max_line_size,
                read_lines_limit=max(1, self.read_lines_limit),
                read_bytes_limit=max(limit, _LEAST_BYTES) if limit > 0 else None,
                encoding=self.encoding,
                from_encoding=self.from_encoding,
                open_on_every_update=self.open_on_every_update,
                rotate_wait=self.rotate_wait,
                inotify=self.enable_stat_watcher and not self.context.check_only,
                groups=self._groups.limits if self._groups is not None else [],
            )
        except ValueError as error:
            message, param = error.args if len(error.args) == 2 else (str(error), None)
            raise ConfigError(message, param=param) from None

    def start(self) -> None:
        self._warn()
        self._follower = Follower(
            self, self._tailer, self._paths.find,
            tag=TagMaker(self.tag).make,
            group=self._groups.find if self._groups is not None else lambda _: None,
            from_head=self.read_from_head, by_inode=self.follow_inodes, rotate_wait=self.rotate_wait,
        )  # fmt: skip
        self._follower.start(self._open_positions(), refresh=not self.skip_refresh_on_startup)
        self._reception = Reception(
            self, _Lines(self._tailer, self._follower), waits=True, emitted=self._follower.commit, keeps=True
        )
        self._reception.start()
        self._keeper = threading.Thread(target=self._keep, name=f"in:{self.context.id}:files", daemon=True)
        self._keeper.start()

    def measure(self) -> Iterable[Family]:
        """What Fluentd calls its statistics, and what went unread."""
        opened, closed, rotated, throttled, followed, unread = self._tailer.counts
        labels = {"plugin_id": self.context.id}
        for name, kind, text, value in (
            ("files_opened_total", "counter", "Files that were opened.", opened),
            ("files_closed_total", "counter", "Files that were closed.", closed),
            ("files_rotated_total", "counter", "Rotations and truncations.", rotated),
            ("throttled_total", "counter", "How often a limit stopped reading.", throttled),
            ("unread_bytes_total", "counter", "Bytes seen that went before they were read.", unread),
            ("files_followed", "gauge", "Files that are followed.", followed),
        ):
            yield Family(f"forwarder_tail_{name}", kind, text, [Sample(value, labels)])

    def statistics(self) -> Mapping[str, int]:
        """As Fluentd's."""
        opened, closed, rotated, throttled, followed, _ = self._tailer.counts
        return {
            "opened_file_count": opened, "closed_file_count": closed, "rotated_file_count": rotated,
            "throttled_log_count": throttled, "tracked_file_count": followed,
        }  # fmt: skip

    def _warn(self) -> None:
        if self.pos_file is None:
            self.log.warning("no pos_file: a restart does not know how far files have been read")
        if 0 < self.read_bytes_limit_per_second < _LEAST_BYTES:
            self.log.warning(f"read_bytes_limit_per_second is at least {_LEAST_BYTES}, which is used")
        if self.enable_stat_watcher and not self._tailer.notified:
            self.log.warning(
                "inotify cannot be used (sysctl fs.inotify.max_user_instances): files are polled each second"
            )

    def _open_positions(self) -> PositionFile | None:
        if self.pos_file is None:
            return None
        for other in self.context.plugins():
            if (
                other.type == "tail"
                and other.id != self.context.id
                and other.config.get("pos_file") == self.pos_file
            ):
                raise ConfigError(
                    f"{other.id} uses the same pos_file, {self.pos_file}: each input needs its own",
                    param="pos_file",
                )
        return PositionFile(
            self.pos_file, by_inode=self.follow_inodes, mode=self.context.file_permission,
            folder_mode=self.context.dir_permission, warn=self.log.warning,
        )  # fmt: skip

    def stop(self) -> None:
        self._stopping.set()
        self._keeper.join()
        self._reception.stop()
        self._follower.close()

    def _keep(self) -> None:
        """The thread that looks for files, so that a full buffer does not keep them from being found."""
        polls = self.enable_watch_timer or not self._tailer.notified
        refresh = time.monotonic() + self.refresh_interval
        compact_interval = self.pos_file_compaction_interval
        compact = time.monotonic() + (compact_interval or _FOREVER)
        while True:
            until = min(refresh, compact) - time.monotonic()
            if self._stopping.wait(max(0.0, min(until, _LOOK_SECONDS if polls else _FOREVER))):
                return
            try:
                if polls:
                    self._follower.look()
                now = time.monotonic()
                if now >= refresh:
                    refresh = now + self.refresh_interval
                    self._follower.refresh()
                if now >= compact:
                    compact = now + (compact_interval or _FOREVER)
                    if compact_interval:
                        self._follower.compact()
            except Exception as error:
                self.log_repeated("looking for files failed", level="error", error=repr(error))


class _Lines:
    """The kernel as `Reception` wants it."""

    def __init__(self, tailer: Tailer, follower: Follower) -> None:
        self._tailer = tailer
        self._follower = follower

    def next(self, max_wait_ms: int) -> Intake | None:
        """What has come; answers rotations in passing."""
        intake = self._tailer.next(max_wait_ms)
        if self._tailer.changed:
            self._follower.changed()
        return intake

    def stop(self, *, keep: bool = False) -> None:
        """From any thread."""
        self._tailer.stop()

    @property
    def finished(self) -> bool:
        """Whether everything was given after a stop."""
        return self._tailer.finished

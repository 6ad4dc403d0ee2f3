"""`forwarder replay`: brings archived logs back, into a configuration or to standard output."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from forwarder._native import ArchiveReader, EventBatch, TagRoutes
from forwarder.api.archive import Archive, ArchivedObject, ArchiveError, ArchiveLayout
from forwarder.api.errors import ConfigError, ForwarderError
from forwarder.cli.replay_source import find_archive
from forwarder.cli.replay_state import Counts, Progress, State
from forwarder.cli.replay_target import Configuration, Lines, Target
from forwarder.config.patterns import TagPattern

HELP = "bring archived logs back, into a configuration or to standard output"

_ATTEMPTS: Final = 5
_SLACK_SECONDS: Final = 86_400
"""Objects that were written so long before `--from` are not read: a sender's clock may be ahead."""
_KNOWN_TAGS: Final = 16_384
_WHOLE_SECONDS: Final = 10
_REASONS: Final = {
    "no_time": "have no time (--time-key names its field)",
    "no_tag": "have no tag (--tag-key names its field; --default-tag gives one)",
    "invalid_time": "have a time that cannot be read (--time-format)",
    "unmatched": "are neither a record nor time, tag and record",
    "limit": "are longer than 64 MiB or too deeply nested",
    "match_limit": "took too long for --grep",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("url", metavar="s3://BUCKET/PREFIX", help="the objects whose names start so")
    add = parser.add_argument_group("which events").add_argument
    add("--from", dest="since", metavar="TIME", type=_time_ns, help="from this time on (ISO 8601; UTC)")
    add("--to", dest="until", metavar="TIME", type=_time_ns, help="before this time")
    add("--tag", metavar="PATTERN", help="with a tag that matches, as in <match PATTERN>")
    add("--grep", metavar="REGEXP", action="append", default=[],
        help="whose archived line matches (Ruby's regexps); all, where given several times")  # fmt: skip
    add = parser.add_argument_group("where to").add_argument
    add("--into", metavar="CONFIG", default="stdout",
        help="a configuration, whose sources are not started; stdout (default): JSON lines")  # fmt: skip
    add("--label", metavar="@NAME", default="@ROOT", help="the <label> that gets them (default: top level)")
    add("--state", metavar="FILE", help="remember here how far it is; go on there the next time")
    add("--checkpoint", metavar="SECONDS", type=float, default=5.0,
        help="how often it does so: what a killed replay may do twice (default: 5)")  # fmt: skip
    add("-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins")
    add = parser.add_argument_group("the store").add_argument
    add("--store", metavar="CONFIG", help="take address, keys and layout from the s3 output in there")
    add("--endpoint", metavar="URL", help="a store that is not AWS")
    add("--region", help="its region")
    add("--path-style", action="store_true", help="the bucket in the path instead of in the host name")
    add("--profile", help="profile of the shared configuration files (default: AWS_* variables)")
    add("--ca-bundle", metavar="FILE", help="authorities for its certificate")
    add("--no-verify", action="store_true", help="accept every certificate")
    add = parser.add_argument_group("what a line is").add_argument
    add("--time-key", metavar="FIELD", help="field with the time (default: time)")
    add("--tag-key", metavar="FIELD", help="field with the tag (default: tag)")
    add("--keep-keys", action="store_true", help="leave both in the record")
    add("--default-tag", metavar="TAG", help="for lines without a tag")
    add("--time-format", metavar="FORMAT", help="strptime directives (default: ISO 8601 or a number)")
    add("--timezone", metavar="ZONE", default="UTC", help="of times without one (default: UTC)")
    add = parser.add_argument_group("output").add_argument
    add("--progress", action=argparse.BooleanOptionalAction, default=None,
        help="show how far it is (default: where standard error is a terminal)")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="log what the outputs do")


def run(args: argparse.Namespace) -> int:
    """Replays; 1 where something could not be read or was not delivered, 130 after a signal."""
    bucket, prefix = _parts(args.url)
    archive = find_archive(args, bucket)
    layout = _layout(args, archive.archive_layout() if args.store else ArchiveLayout())
    try:
        ArchiveReader(**layout)  # a wrong regexp or format is said before anything is done
    except ValueError as error:
        raise ConfigError(str(error)) from None
    asked = [args.url, args.into, args.label, args.tag, layout]
    with State(args.state, asked) as state:
        objects = list(_wanted(archive, prefix, args.since, state.done_key))
        stop = Stop()
        target = Lines(layout) if args.into == "stdout" else Configuration(args, stop.check)
        show = sys.stderr.isatty() if args.progress is None else args.progress
        progress = Progress(objects, show=show)
        replay = Replay(
            args.tag, archive, layout, target=target, state=state, progress=progress, stop=stop,
            checkpoint_seconds=args.checkpoint,
        )  # fmt: skip
        try:
            with stop.on_signals():
                target.start()
                replay.run(objects)
                target.finish()
                replay.checkpoint()
                state.finish()
        except KeyboardInterrupt:
            progress.close()
            return _interrupted(replay, target, args.state)
        except ArchiveError:
            # the store is gone, the destination is not: the next run starts behind what has arrived
            if target.stop():
                with suppress(ForwarderError):
                    replay.checkpoint()
            raise
        except BaseException:
            target.stop()
            raise
        finally:
            progress.close()
        target.stop()
        return _summary(replay, target, objects)


class Stop:
    """SIGTERM and Ctrl-C: the first one ends the replay between two batches, so that nothing that was noted
    as done comes again; a second one ends it at once."""

    def __init__(self) -> None:
        self._asked = False

    def check(self) -> None:
        """Raises KeyboardInterrupt once a signal has come."""
        if self._asked:
            raise KeyboardInterrupt

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listens to them."""

        def ask(_number: int, _frame: object) -> None:
            self.check()
            self._asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Replay:
    """One run."""

    def __init__(
        self, tag: str | None, archive: Archive, layout: dict[str, Any], *, target: Target,
        state: State, progress: Progress, stop: Stop, checkpoint_seconds: float,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self.broken = 0
        """Objects that could not be read to their end."""
        self._archive = archive
        self._layout = layout
        self._target = target
        self._state = state
        self._progress = progress
        self._routes = None if tag is None else TagRoutes(_KNOWN_TAGS)
        self._pattern = None if tag is None else TagPattern(tag)
        self._stop = stop
        self._checkpoint_seconds = checkpoint_seconds
        self._next_checkpoint = time.monotonic() + checkpoint_seconds

    def run(self, objects: list[ArchivedObject]) -> None:
        """Reads the objects in the order of their names. Raises ForwarderError: to go on makes no sense."""
        for each in objects:
            self._object(each)
            self._progress.end(each)

    def checkpoint(self) -> None:
        """Notes how far it is, once the target has everything. Raises ForwarderError: it lost something."""
        self._target.settle()
        self._state.save()
        self._next_checkpoint = time.monotonic() + self._checkpoint_seconds

    def _object(self, each: ArchivedObject) -> None:
        lines = self._state.lines_of(each.key)
        counts = Counts()
        for attempt in range(_ATTEMPTS):
            reader = ArchiveReader(**self._layout, skip=lines)
            self._progress.begin()
            try:
                for piece in self._archive.read_archived(each.key, self._progress.read):
                    self._take(reader, reader.feed(piece), each, counts)
                    lines = max(lines, reader.lines)  # fewer, where a second attempt ends before the first
                self._take(reader, reader.finish(), each, counts)
                break
            except ArchiveError as error:
                if error.transient:
                    if attempt + 1 == _ATTEMPTS:
                        raise  # to call the object done would lose the rest of it
                    counts.add_failures(reader)
                    self._stop.check()
                    time.sleep(min(8.0, 0.25 * 2**attempt))
                    continue
                self._progress.say(f"forwarder replay: {error}")
                self.broken += 1
                break
        counts.add_failures(reader)
        self.counts.add(counts)
        self._complain(each.key, counts, reader)
        self._state.object_done(each.key)

    def _take(self, reader: ArchiveReader, batch: EventBatch, each: ArchivedObject, counts: Counts) -> None:
        counts.events += len(batch)
        counts.whole_seconds = reader.whole_seconds
        if self._routes is not None and batch:
            batch = self._with_tag(batch)
        if batch:
            counts.matched += len(batch)
            self._target.emit(batch)
        self._state.lines_done(each.key, reader.lines)
        self._progress.events(self.counts.matched + counts.matched, each, reader.lines)
        if time.monotonic() >= self._next_checkpoint:
            self.checkpoint()
        self._stop.check()

    def _with_tag(self, batch: EventBatch) -> EventBatch:
        assert self._routes is not None
        assert self._pattern is not None
        pattern = self._pattern
        parts = self._routes.split(batch, lambda tag: int(pattern.matches(tag)))
        return next((part for wanted, part in parts if wanted), batch.slice(0, 0))

    def _complain(self, key: str, counts: Counts, reader: ArchiveReader) -> None:
        for reason, (count, line, sample) in counts.failures.items():
            why = _REASONS.get(reason, reason)
            start = sample[:80].decode(errors="replace")
            shown = "".join(letter if letter.isprintable() else "?" for letter in start)
            self._progress.say(f"forwarder replay: {key}: {count} lines {why}; line {line}: {shown}")
        if counts.failures and not counts.events and not counts.skipped:
            raise ForwarderError(
                f"{key}: no line could be brought back; docs/replay.md says what makes an archive replayable"
            )
        if counts.events >= _WHOLE_SECONDS and counts.events == reader.whole_seconds:
            self._progress.say(
                f"forwarder replay: {key}: all times are whole seconds: fractions were not archived",
                once=True,
            )


def _parts(url: str) -> tuple[str, str]:
    parts = urlsplit(url, allow_fragments=False)
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigError(f"{url}: expected s3://BUCKET/PREFIX")
    return parts.netloc, parts.path.removeprefix("/") + (f"?{parts.query}" if parts.query else "")


def _layout(args: argparse.Namespace, written: ArchiveLayout) -> dict[str, Any]:
    form = args.time_format or written.time_format
    return {
        "time_key": args.time_key or written.time_key or "time",
        "tag_key": args.tag_key or written.tag_key or "tag",
        "keep_keys": args.keep_keys,
        "default_tag": args.default_tag,
        "time_format": form,
        "zone": args.timezone if args.time_format or not form else written.zone,
        "from_ns": args.since,
        "to_ns": args.until,
        "grep": args.grep,
    }


def _wanted(
    archive: Archive, prefix: str, since: int | None, done_key: str | None
) -> Iterator[ArchivedObject]:
    for each in archive.archived(prefix):
        if done_key is not None and each.key <= done_key:
            continue
        if since is not None and each.written_at < since / 1e9 - _SLACK_SECONDS:
            continue
        if each.size_bytes:
            yield each


def _interrupted(replay: Replay, target: Target, state: str | None) -> int:
    more = "" if state is None else f"; the same command goes on as {state} says"
    if target.stop():
        replay.checkpoint()
    print(f"forwarder replay: stopped{more}", file=sys.stderr)
    return 130


def _summary(replay: Replay, target: Target, objects: list[ArchivedObject]) -> int:
    counts, result = replay.counts, target.result()
    print(
        f"forwarder replay: {len(objects)} objects, read {counts.read}, matched {counts.matched}, "
        f"delivered {result.delivered}, filtered {result.filtered}, lost {result.lost}, "
        f"unreadable {counts.unreadable}" + (f", broken objects {replay.broken}" if replay.broken else ""),
        file=sys.stderr,
    )
    for line in result.details:
        print(f"forwarder replay: {line}", file=sys.stderr)
    return 1 if result.lost or counts.unreadable or replay.broken else 0


def _time_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 2023-11-14T22:13:20Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 10**9 + moment.microsecond * 1000

"""`forwarder grok`: tries a grok pattern on lines, and shows how far a line that does not match gets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from forwarder.api.errors import ConfigError
from forwarder.core.registry import Registry

HELP = "try grok patterns on text"
MAX_WIDTH = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("pattern", help="a grok pattern such as '%%{IP:client} %%{WORD:method}'")
    parser.add_argument("file", nargs="?", help="file of lines; without it (or with -) standard input")
    parser.add_argument("--patterns", metavar="PATH", help="file, or directory of files, with own patterns")
    parser.add_argument("--series", default="legacy", help="standard patterns: legacy (default) or ecs-v1")
    parser.add_argument("--time-key", metavar="FIELD", default="time", help="field that holds the time")
    parser.add_argument("--time-format", metavar="FORMAT", help="strptime format of the time")
    parser.add_argument("--timezone", metavar="ZONE", help="zone of times that name none")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each line")


def run(args: argparse.Namespace) -> int:
    """Prints what each line gives; 1 if a line does not match."""
    parser: Any = Registry().load("parser", "grok")()
    if args.series not in type(parser).grok_pattern_series.values:
        raise ConfigError(f"unknown series {args.series!r}: expected legacy or ecs-v1")
    parser.grok_pattern = args.pattern
    parser.grok_pattern_series = args.series
    parser.custom_pattern_path = args.patterns
    parser.time_key = args.time_key
    parser.time_format = args.time_format
    parser.timezone = args.timezone
    parser.grok_failure_key = ""  # marks what did not match: no pattern can name a field so
    parser.configure()
    compiled = parser.compiled()
    failures = 0
    for number, line in enumerate(_lines(args.file), 1):
        result = compiled.parse(line)
        reason = result if isinstance(result, str) else None
        time, record = (None, {}) if isinstance(result, str) else result[0]
        matched = reason is None and "" not in record
        failures += not matched
        if matched:
            _print_match(time, record, number, as_json=args.json)
        elif args.json:
            print(
                json.dumps(
                    {"line": number, "matched": False, "reason": reason or "unmatched", **_far(parser, line)}
                )
            )
        else:
            _print_failure(parser, line, number, reason)
    return 1 if failures else 0


def _lines(path: str | None) -> Iterator[bytes]:
    if path in (None, "-"):
        for line in sys.stdin.buffer:
            yield line.rstrip(b"\r\n")
        return
    try:
        with open(str(path), "rb") as file:
            for line in file:
                yield line.rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _print_match(time: int | None, record: dict[str, Any], number: int, *, as_json: bool) -> None:
    moment = None
    if time is not None:
        seconds, nanos = divmod(time, 1_000_000_000)
        moment = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
    if as_json:
        found = {"line": number, "matched": True, "time": moment, "record": record}
        print(json.dumps(found, default=lambda value: value.decode("utf-8", "replace"), ensure_ascii=False))
        return
    print(f"line {number}: matches")
    width = max((len(name) for name in record), default=0)
    if moment is not None:
        print(f"  (event time) {moment}")
    for name, value in record.items():
        print(f"  {name:<{width}}  {value!r}")


def _far(parser: Any, line: bytes) -> dict[str, Any]:
    elements, count, start, end = parser.explain(line)
    return {
        "matched_pattern": "".join(elements[:count]),
        "failed_element": elements[count] if count < len(elements) else None,
        "start": start,
        "end": end,
    }


def _print_failure(parser: Any, line: bytes, number: int, reason: str | None) -> None:
    if reason is not None:
        print(f"line {number}: {reason.replace('_', ' ')}")
    far = _far(parser, line)
    if far["failed_element"] is None:
        return
    print(f"line {number}: does not match" if reason is None else "")
    # offsets are bytes; the caret stands under characters
    before = line[: far["end"]].decode("utf-8", "replace")
    text = before + line[far["end"] :].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    cut = max(0, len(before) - MAX_WIDTH // 2)
    print(f"  {shown[cut : cut + MAX_WIDTH]}")
    print(f"  {' ' * (len(before) - cut)}^ {far['failed_element']} does not match here")
    if far["matched_pattern"]:
        print(f"  matched so far: {far['matched_pattern']}")

"""`forwarder status`: sources, buffers, outputs and losses of running instances."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forwarder.api.errors import ForwarderError
from forwarder.runtime import control_path
from forwarder.runtime.control_client import NotRunningError, ask

HELP = "show the books, buffers and retries of running instances"

_Row = list[object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add = parser.add_argument
    add("--socket", metavar="PATH", help="control socket (default: of all instances of this user)")
    add("--json", action="store_true", help="print JSON")
    add("--check", action="store_true",
        help="print one line; status 1 where an instance does not answer or makes no progress")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Prints the state of each instance; 1 where there is none, or (`--check`) one is in a bad state."""
    found = []
    for path in [args.socket] if args.socket else control_path.sockets():
        try:
            (answer,) = ask(path, {"do": "status"})
        except NotRunningError:
            if args.socket:
                raise
            continue  # killed: the next one with this number replaces its socket
        found.append({"socket": path, **answer["status"]})
    if not found:
        raise ForwarderError("no running instance found; --socket PATH asks a certain one")
    if args.check:
        reasons = [f"process {each['pid']}: {why}" for each in found for why in each["dead"]]
        print("; ".join(reasons) or "; ".join(f"process {each['pid']}: {each['state']}" for each in found))
        return 1 if reasons else 0
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for status in found:
        for line in rendered(status):
            print("".join(letter if letter.isprintable() else "?" for letter in line))
    return 0


def rendered(status: dict[str, Any]) -> list[str]:
    """The lines of the table."""
    totals = status["totals"]
    lines = [
        f"forwarder {status['version']}, process {status['pid']}, worker {status['worker']}: "
        f"{status['state']}, {status['config'] or 'no configuration file'}",
        "received {received} + added {added} + recovered {recovered} = delivered {delivered} + buffered "
        "{buffered} + filtered {filtered} + lost {lost} + rejected {rejected} + in flight {in_flight}".format(
            **totals
        ),
    ]
    memory = status["memory"]
    if memory["limit_bytes"]:
        lines.append(f"in memory {memory['used_bytes']} of {memory['limit_bytes']} bytes")
    flow = ["received", "added", "on/out", "buffered", "@ERROR", "lost", "in flight"]
    for title in ("sources", "filters", "outputs", "unrouted"):
        if status[title]:
            rows = [
                [
                    each["id"], each["received"], each["added"], each.get("handed_on", each.get("delivered")),
                    each["buffered"], each["to_error"], sum(each["lost"].values()), each["in_flight"],
                ]
                for each in status[title]
            ]  # fmt: skip
            lines += _table([title.upper(), *flow], rows)
    if status["buffers"]:
        heads = ["BUFFERS", "kind", "queued", "staged", "flying", "events", "bytes", "limit", "oldest"]
        rows = [
            [
                each["id"], each["kind"], each["queued_chunks"], each["staged_chunks"], each["flying_chunks"],
                each["events"], each["bytes"], each["limit_bytes"], f"{each['oldest_seconds']}s",
            ]
            for each in status["buffers"]
        ]  # fmt: skip
        lines += _table(heads, rows)
        lines += [
            f"  {each['id']}: full, or its disk takes nothing"
            for each in status["buffers"]
            if each["refuses"]
        ]
        lines += _retries(status)
    losses: list[_Row] = [
        [each["id"], reason, count]
        for title in ("sources", "filters", "outputs", "unrouted")
        for each in status[title]
        for reason, count in each["lost"].items()
        if count
    ]
    if losses:
        lines += _table(["LOSSES", "reason", "events"], losses)
    return [*lines, ""]


def _retries(status: dict[str, Any]) -> list[str]:
    rows: list[_Row] = []
    for each in status["buffers"]:
        retry = each["retry"]
        if retry["chunks"] or retry["failing_seconds"] or retry["gave_up"]:
            next_at = retry["next_at"]
            seconds = "-" if next_at is None else f"in {max(0.0, next_at - status['time']):.0f}s"
            failing = f"{retry['failing_seconds']:.0f}s"
            rows.append(
                [each["id"], retry["chunks"], retry["times"], seconds, failing, retry["last_error"] or "-"]
            )
    return _table(["RETRIES", "chunks", "times", "next", "failing for", "last error"], rows) if rows else []


def _table(heads: list[str], rows: list[_Row]) -> list[str]:
    cells = [heads, *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    numeric = [all(isinstance(row[column], int) for row in rows) for column in range(len(heads))]
    return [
        "",
        *(
            "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in cells
        ),
    ]

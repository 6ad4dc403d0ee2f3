"""What `forwarder snapshot show` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from forwarder.api.errors import ForwarderError
from forwarder.cli import snapshot_policy as policies
from forwarder.cli.snapshot_cluster import Client
from forwarder.cli.snapshot_wait import snapshots

_FAILURES = 20


def overview(client: Client, *, as_json: bool) -> int:
    """Repositories and policies."""
    repositories: dict[str, Any] = client.ask("GET", "/_snapshot")
    rows = policies.rows(client)
    if as_json:
        known = None if rows is None else [row._asdict() for row in rows]
        _print_json({"cluster": client.product, "repositories": repositories, "policies": known})
        return 0
    print(client.product)
    table = [
        [name, each["type"], settings.get("bucket") or settings.get("location") or "-",
         settings.get("base_path", "-"), settings.get("endpoint", "-"), settings.get("client", "default")]
        for name, each in sorted(repositories.items()) for settings in [each["settings"]]
    ]  # fmt: skip
    _print_table(["REPOSITORY", "type", "bucket", "base path", "endpoint", "client"], table)
    if rows is None:
        print("\nThis distribution has no lifecycle policies.")
    else:
        _print_table(["POLICY", "repository", "schedule", "keep", "indices", "next", "last"], rows)
    return 0


def repository(client: Client, name: str, *, as_json: bool) -> int:
    """The snapshots of a repository."""
    found = snapshots(client, name)
    if as_json:
        _print_json(found)
        return 0
    rows = [
        [each["snapshot"], each["state"], time_of(each.get("start_time_in_millis")),
         f"{each.get('duration_in_millis', 0) / 1000:.1f}s", len(each["indices"]), shards_of(each)]
        for each in found
    ]  # fmt: skip
    _print_table(["SNAPSHOT", "state", "started", "took", "indices", "shards"], rows)
    return 0


def snapshot(client: Client, name: str, wanted: str, *, as_json: bool) -> int:
    """One snapshot; 1 where it is not whole."""
    found = snapshots(client, name, wanted)
    if not found:
        raise ForwarderError(f"{name}: no snapshot {wanted}")
    each = found[0]
    if as_json:
        _print_json(each)
    else:
        print(f"{each['snapshot']}: {each['state']}, {time_of(each.get('start_time_in_millis'))}, "
              f"{shards_of(each)} shards")  # fmt: skip
        for index in sorted(each["indices"]):
            print(f"  {index}")
        for line in failures(each):
            print(f"  {line}")
    return 0 if each["state"] in ("SUCCESS", "IN_PROGRESS") else 1


def shards_of(each: dict[str, Any]) -> str:
    """`5 of 5`."""
    shards = each.get("shards", {})
    return f"{shards.get('successful', 0)} of {shards.get('total', 0)}"


def failures(each: dict[str, Any]) -> list[str]:
    """What a snapshot lacks, and why."""
    found = each.get("failures", [])
    lines = [f"{one.get('index')}[{one.get('shard_id')}]: {one.get('reason')}" for one in found[:_FAILURES]]
    return lines + ([f"and {len(found) - _FAILURES} more"] if len(found) > _FAILURES else [])


def time_of(millis: int | None) -> str:
    """A time in UTC."""
    return "-" if not millis else datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if not rows:
        print(f"\nno {heads[0].lower()}")
        return
    cells = [list(heads), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    print()
    for row in cells:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        print("".join(letter if letter.isprintable() else "?" for letter in line))

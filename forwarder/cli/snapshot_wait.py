"""Taking and restoring snapshots, which the cluster does in the background: start it, and watch it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from forwarder.api.errors import ConfigError, ForwarderError
from forwarder.cli.bar import Bar
from forwarder.cli.snapshot_cluster import Client, RefusedError, part

_FIRST_POLL: Final = 0.05
_LONGEST_POLL: Final = 2.0
_PATIENCE_SECONDS: Final = 120.0
"""For how long the cluster may not answer meanwhile: a node is restarted, a master elected."""
_ENDED: Final = ("SUCCESS", "PARTIAL", "FAILED", "INCOMPATIBLE")


def take(
    client: Client, repository: str, name: str | None, config: dict[str, Any], bar: Bar | None
) -> dict[str, Any]:
    """Starts a snapshot and, with a bar, waits for it; what the cluster then says about it.

    Raises:
        ForwarderError: it cannot be taken.
    """
    name = name or f"forwarder-{datetime.now(UTC):%Y.%m.%d-%H.%M.%S}"
    path = f"/_snapshot/{part(repository)}/{part(name)}"
    client.ask("PUT", f"{path}?wait_for_completion=false", config)
    if bar is None:
        return {"snapshot": name, "state": "STARTED"}

    def look() -> dict[str, Any] | None:
        found = snapshots(client, repository, name)
        if found and found[0]["state"] in _ENDED:
            return found[0]
        status = (client.find(f"{path}/_status") or {}).get("snapshots") or [{}]
        shards, size = status[0].get("shards_stats", {}), status[0].get("stats", {})
        whole = size.get("incremental", {}).get("size_in_bytes", 0)
        # what is not said once nothing is left
        sent = size.get("processed", {}).get("size_in_bytes", whole if shards.get("done") else 0)
        text = f"{shards.get('done', 0)} of {shards.get('total', 0)} shards, {_mebibytes(sent, whole)}"
        bar.draw(_share(sent, whole), text)
        return None

    found: dict[str, Any] = _watched(look, bar)
    return found


def restore(
    client: Client, repository: str, name: str, body: dict[str, Any], bar: Bar | None
) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Starts a restore and, with a bar, waits for its end.

    Gives:
        the indices; and by index (shards that are there, shards that should be), empty without a bar.

    Raises:
        ForwarderError: it cannot be started.
    """
    indices = [_renamed(index, body) for index in _selected(client, repository, name, body)]
    path = f"/_snapshot/{part(repository)}/{part(name)}/_restore?wait_for_completion=false"
    client.ask("POST", path, body)
    if bar is None:
        return indices, {}

    def look() -> bool | None:
        running = client.ask("GET", "/_cluster/state/customs?filter_path=restore")
        entries = running.get("restore", {}).get("snapshots", [])
        entries = [each for each in entries if (each["repository"], each["snapshot"]) == (repository, name)]
        if not entries:
            return True
        indices[:] = [index for each in entries for index in each["indices"]]
        shards = client.ask("GET", "/_recovery?filter_path=*.shards.type,*.shards.stage,*.shards.index.size")
        done = total = finished = 0
        for index in shards.keys() & set(indices):
            for shard in shards[index]["shards"]:
                if shard["type"] == "SNAPSHOT":
                    done += shard["index"]["size"]["recovered_in_bytes"]
                    total += shard["index"]["size"]["total_in_bytes"]
                    finished += shard["stage"] == "DONE"
        expected = sum(len(each["shards"]) for each in entries)
        bar.draw(_share(done, total), f"{finished} of {expected} shards, {_mebibytes(done, total)}")
        return None

    _watched(look, bar)
    health = client.ask("GET", "/_cluster/health?level=indices&filter_path=indices.*.*shards")
    found = health.get("indices", {})
    there = {
        index: found.get(index, {"active_primary_shards": 0, "number_of_shards": 1}) for index in indices
    }
    return indices, {
        index: (each["active_primary_shards"], each["number_of_shards"]) for index, each in there.items()
    }


def snapshots(client: Client, repository: str, name: str = "_all") -> list[dict[str, Any]]:
    """The snapshots of a repository, the oldest first. Raises ForwarderError: there is none."""
    found = client.ask("GET", f"/_snapshot/{part(repository)}/{part(name)}")
    if "responses" in found:  # Elasticsearch 7
        found = found["responses"][0]
        if "error" in found:
            raise ForwarderError(f"{repository}: {found['error'].get('reason')}")
    return sorted(found["snapshots"], key=lambda each: each.get("start_time_in_millis", 0))


def latest(client: Client, repository: str) -> str:
    """The newest snapshot that is whole. Raises ForwarderError: there is none."""
    whole = [each["snapshot"] for each in snapshots(client, repository) if each["state"] == "SUCCESS"]
    if not whole:
        raise ForwarderError(f"{repository}: no snapshot in there is whole (SUCCESS)")
    return str(whole[-1])


def _selected(client: Client, repository: str, name: str, body: dict[str, Any]) -> list[str]:
    """The snapshot's indices that `body` asks for."""
    found = snapshots(client, repository, name)
    if not found:
        raise ForwarderError(f"{repository}: no snapshot {name}")
    streams = found[0].get("data_streams", [])
    asked: list[str] = [each for each in body["indices"].split(",") if each] or ["*"]

    def wanted(index: str) -> bool:
        inside = [stream for stream in streams if re.fullmatch(rf"\.ds-{re.escape(stream)}-.*", index)]
        verdict = asked[0].startswith("-")
        for each in asked:
            pattern = each.removeprefix("-")
            if index.startswith(".") and not inside and not pattern.startswith("."):
                continue  # of the system: only by its name
            if any(_matches(pattern, text) for text in inside or [index]):
                verdict = not each.startswith("-")
        return verdict

    chosen = [index for index in found[0]["indices"] if wanted(index)]
    if not chosen:
        raise ForwarderError(
            f"{name}: no index in there matches {body['indices']}; it has {some(found[0]['indices'])}"
        )
    return chosen


def some(names: Iterable[str]) -> str:
    """The first ten names, and how many more there are."""
    first = sorted(names)
    return ", ".join(first[:10]) + (f" and {len(first) - 10} more" if len(first) > 10 else "")


def _matches(pattern: str, name: str) -> bool:
    if pattern == "_all":
        return True
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _renamed(index: str, body: dict[str, Any]) -> str:
    if "rename_pattern" not in body:
        return index
    # Java's `$1` is Python's `\g<1>`
    replacement = re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", body["rename_replacement"].replace("\\", "\\\\"))
    try:
        return re.sub(body["rename_pattern"], replacement, index)
    except re.error as error:
        raise ConfigError(f"--rename: {error}") from None


def _watched(look: Callable[[], Any], bar: Bar) -> Any:
    """Calls `look` until it gives something. Raises ForwarderError: the cluster is gone for too long."""
    pause = _FIRST_POLL
    failing_since: float | None = None
    try:
        while True:
            try:
                found = look()
                failing_since = None
            except RefusedError as error:
                if error.status < 500 and error.status != 429:
                    raise
                failing_since = _patient(failing_since, error)
                found = None
            except ForwarderError as error:
                failing_since = _patient(failing_since, error)
                found = None
            if found is not None:
                return found
            time.sleep(pause)
            pause = min(_LONGEST_POLL, pause * 1.5)
    finally:
        bar.close()


def _patient(since: float | None, error: ForwarderError) -> float:
    now = time.monotonic()
    if since is not None and now - since > _PATIENCE_SECONDS:
        raise error
    return now if since is None else since


def _mebibytes(done: int, total: int) -> str:
    return f"{done / (1 << 20):,.1f} of {total / (1 << 20):,.1f} MiB"


def _share(done: int, total: int) -> float:
    return done / total if total else 0.0

"""Policies that take and remove snapshots: SLM in Elasticsearch, Snapshot Management in OpenSearch."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from forwarder.api.errors import ConfigError, ForwarderError
from forwarder.cli.snapshot_cluster import Client, NoHandlerError, part

_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_AGE: Final = re.compile(r"\d+(d|h|m|s|ms)")


class Policy(NamedTuple):
    """What to take when, and for how long to keep it."""

    name: str
    repository: str
    schedule: str
    """Cron, five fields; Elasticsearch's own with six or seven."""
    zone: str
    indices: str
    snapshot_name: str | None
    expire_after: str | None
    min_count: int | None
    max_count: int | None
    config: dict[str, Any]
    """What else the snapshots' configuration says."""


class Row(NamedTuple):
    """A policy of a cluster, for people."""

    name: str
    repository: str
    schedule: str
    keep: str
    indices: str
    next: str
    last: str


def put(client: Client, policy: Policy) -> str:
    """Creates or replaces it; "created" or "replaced". Raises ForwarderError."""
    if policy.expire_after is not None and not _AGE.fullmatch(policy.expire_after):
        raise ConfigError(f"--expire-after {policy.expire_after}: expected a time such as 30d or 12h")
    if policy.min_count is not None and policy.max_count is not None and policy.min_count > policy.max_count:
        raise ConfigError("--min-count is more than --max-count")
    try:
        return _put_opensearch(client, policy) if client.opensearch else _put_elasticsearch(client, policy)
    except NoHandlerError:
        what = "the plugin Index Management" if client.opensearch else "snapshot lifecycle management (SLM)"
        raise ForwarderError(f"{client.product}: this distribution is without {what}") from None


def _put_elasticsearch(client: Client, policy: Policy) -> str:
    if policy.zone != "UTC":
        raise ConfigError("--timezone: Elasticsearch's schedules are in UTC")
    path = f"/_slm/policy/{part(policy.name)}"
    known = client.find(path)
    body: dict[str, Any] = {
        "schedule": elasticsearch_cron(policy.schedule),
        "name": policy.snapshot_name or f"<{policy.name.lower()}-{{now/d}}>",
        "repository": policy.repository,
        "config": {"indices": policy.indices.split(","), **policy.config},
    }
    retention = _kept(policy, ("expire_after", "min_count", "max_count"))
    if retention:
        body["retention"] = retention
    client.ask("PUT", path, body)
    return "replaced" if known else "created"


def _put_opensearch(client: Client, policy: Policy) -> str:
    if policy.snapshot_name is not None:
        raise ConfigError("--snapshot-name: OpenSearch names snapshots after the policy")
    if len(policy.schedule.split()) != 5:
        raise ConfigError(f"--schedule {policy.schedule!r}: OpenSearch takes the five fields of cron")
    schedule = {"schedule": {"cron": {"expression": policy.schedule, "timezone": policy.zone}}}
    body: dict[str, Any] = {
        "description": f"{policy.indices} to {policy.repository}",
        "creation": schedule,
        "snapshot_config": {"repository": policy.repository, "indices": policy.indices, **policy.config},
    }
    condition = _kept(policy, ("max_age", "min_count", "max_count"))
    if condition:
        if not condition.keys() & {"max_age", "max_count"}:
            raise ConfigError("--min-count: OpenSearch takes it only with --expire-after or --max-count")
        body["deletion"] = {**schedule, "condition": condition}
    path = f"/_plugins/_sm/policies/{part(policy.name)}"
    known = client.find(path)
    if not known:
        client.ask("POST", path, body)
        return "created"
    query = f"if_seq_no={known['_seq_no']}&if_primary_term={known['_primary_term']}"
    client.ask("PUT", f"{path}?{query}", {**body, "enabled": known["sm_policy"].get("enabled", True)})
    return "replaced"


def _kept(policy: Policy, names: tuple[str, str, str]) -> dict[str, Any]:
    values = (policy.expire_after, policy.min_count, policy.max_count)
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def elasticsearch_cron(text: str) -> str:
    """Cron's five fields as Elasticsearch's six; those with six or seven, and intervals (`1h`), as they are.

    Raises:
        ConfigError: it cannot be said there.
    """
    fields = text.split()
    if len(fields) in (6, 7) or (len(fields) == 1 and re.fullmatch(r"\d+[mhd]", text)):
        return text
    if len(fields) != 5:
        raise ConfigError(f"--schedule {text!r}: expected five fields of cron, such as '30 1 * * *'")
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise ConfigError(
            f"--schedule {text!r}: Elasticsearch takes a day of the month or of the week, not both"
        )
    if weekday == "*":
        return f"0 {minute} {hour} {day} {month} ?"
    named = re.sub(r"(?<![/\d])[0-7](?!\d)", lambda found: _DAYS[int(found[0])], weekday)
    return f"0 {minute} {hour} ? {month} {named.upper()}"


def rows(client: Client) -> list[Row] | None:
    """The policies of the cluster; None: it cannot have any."""
    try:
        if client.opensearch:
            found = client.ask("GET", "/_plugins/_sm/policies")
            return [_opensearch_row(client, each["sm_policy"]) for each in found["policies"]]
        return [_elasticsearch_row(*each) for each in sorted(client.ask("GET", "/_slm/policy").items())]
    except NoHandlerError:
        return None


def _elasticsearch_row(name: str, known: dict[str, Any]) -> Row:
    policy = known["policy"]
    retention = policy.get("retention") or {}
    last, failure = known.get("last_success") or {}, known.get("last_failure") or {}
    text = f"{last['snapshot_name']} at {_time(last['time'])}" if last else "-"
    if failure.get("time", 0) > last.get("time", 0):
        text = f"FAILED at {_time(failure['time'])}: {failure.get('snapshot_name', '')}"
    indices = (policy.get("config") or {}).get("indices", "*")
    return Row(
        name, policy["repository"], policy["schedule"],
        _keep(retention.get("expire_after"), retention.get("min_count"), retention.get("max_count")),
        indices if isinstance(indices, str) else ",".join(indices),
        _time(known.get("next_execution_millis")), text,
    )  # fmt: skip


def _opensearch_row(client: Client, policy: dict[str, Any]) -> Row:
    cron = policy["creation"]["schedule"].get("cron") or {}
    condition = (policy.get("deletion") or {}).get("condition") or {}
    config = policy["snapshot_config"]
    explained = client.find(f"/_plugins/_sm/policies/{part(policy['name'])}/_explain") or {"policies": [{}]}
    creation = (explained["policies"] or [{}])[0].get("creation") or {}
    latest = creation.get("latest_execution") or {}
    said = f"{latest['status']} at {_time(latest.get('start_time'))}" if latest else "-"
    return Row(
        policy["name"] + ("" if policy.get("enabled", True) else " (stopped)"),
        config["repository"], f"{cron.get('expression', '?')} {cron.get('timezone', '')}".strip(),
        _keep(condition.get("max_age"), condition.get("min_count"), condition.get("max_count")),
        config.get("indices", "*"), _time((creation.get("trigger") or {}).get("time")), said,
    )  # fmt: skip


def _keep(age: str | None, least: int | None, most: int | None) -> str:
    parts = [age, None if least is None else f"at least {least}", None if most is None else f"at most {most}"]
    return ", ".join(each for each in parts if each) or "for ever"


def _time(millis: Any) -> str:
    if not isinstance(millis, int):
        return "-"
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

"""Chunk placeholders: `${tag}`, `${tag[1]}`, `${chunk_id}`, `${field}` and strftime directives in a text.

Fluentd's rules (`Fluent::Plugin::Output`, "placeholders"): each chunk key must be used, and only chunk keys
can be used; time directives must be as fine as `timekey`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forwarder.api.errors import ConfigError, UnrecoverableError

if TYPE_CHECKING:
    from datetime import tzinfo

    from forwarder.api.buffering import ChunkKeys
    from forwarder.api.chunk import Chunk

_FIELD: Final = re.compile(r"\$\{([-_.@$a-zA-Z0-9]+)\}")
_TAG: Final = re.compile(r"\$\{tag(?:\[(-?\d+)\])?\}")
_ANY: Final = re.compile(r"\$\{(tag\[-?\d+\]|[-_.@$a-zA-Z0-9]+)\}")
_DIRECTIVE: Final = re.compile(r"%(?:[-0^#_]*\d*)([a-zA-Z%+]|:+z)")
_PARENT: Final = re.compile(r"\.\.[/\\]")
_ESCAPES: Final = re.compile(rf"{_PARENT.pattern}|^[/\\]", re.MULTILINE)
# What each directive resolves, in seconds. As in Fluentd, those count that change when a Friday's midnight
# goes on by so much: not %N, %p or the number of the week.
_RESOLUTION: Final = {
    1: ("second", "%S", frozenset("ScsTXr+")),
    60: ("minute", "%M", frozenset("MR")),
    3600: ("hour", "%H", frozenset("HIkl")),
    86400: ("day", "%d", frozenset("djexDFaAuwv")),
}


def fields(template: str) -> list[str]:
    """Names of the record fields that `template` has placeholders for, sorted."""
    return sorted({name for name in _FIELD.findall(template) if name not in ("tag", "chunk_id")})


def resolution(template: str) -> int | None:
    """Seconds that the finest time directive in `template` tells apart; None without directives.

    Coarser directives than a day (`%Y`, `%m`) count as none, as in Fluentd.
    """
    found = set(_DIRECTIVE.findall(template))
    for seconds, (_, _, letters) in _RESOLUTION.items():
        if found & letters:
            return seconds
    return None


def validate(name: str, template: str, keys: ChunkKeys) -> None:
    """Raises ConfigError where `template` (the value of parameter `name`) does not fit the chunk keys."""
    seconds = resolution(template)
    what = f"{name} {template!r}"
    if keys.timekey is not None and seconds is None:
        raise ConfigError(f"{what} has no time placeholders for timekey {keys.timekey}", param=name)
    if keys.timekey is None and seconds is not None:
        raise ConfigError(f"{what} has time placeholders, but time is not a chunk key", param=name)
    if keys.timekey is not None and seconds is not None and keys.timekey < seconds:
        title, example, _ = next(
            entry for size, entry in _RESOLUTION.items() if size <= keys.timekey
        )  # fmt: skip
        raise ConfigError(
            f"{what} has no placeholder as fine as timekey {keys.timekey}: expected the {title}, {example}",
            param=name,
        )
    has_tag = _TAG.search(template) is not None
    if keys.tag and not has_tag:
        raise ConfigError(f"{what} has no tag placeholder, but tag is a chunk key", param=name)
    if has_tag and not keys.tag:
        raise ConfigError(f"{what} has a tag placeholder, but tag is not a chunk key", param=name)
    used = fields(template)
    missing = sorted(set(keys.fields) - set(used))
    if missing:
        raise ConfigError(f"{what} has no placeholders for the chunk keys {', '.join(missing)}", param=name)
    unknown = sorted(set(used) - set(keys.fields))
    if unknown:
        raise ConfigError(
            f"{what} has placeholders for {', '.join(unknown)}, which is no chunk key", param=name
        )


def zone(name: str | None) -> tzinfo | None:
    """The zone of that name; None: the machine's. Raises ValueError for a name that is not known."""
    if name is None:
        return None
    from datetime import UTC, timedelta, timezone  # noqa: PLC0415  (only where time is a chunk key)

    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC
    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", name)
    if offset:
        sign, hours, minutes = offset.groups()
        size = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-size if sign == "-" else size)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone") from error


def format_time(template: str, seconds: int, where: tzinfo | None) -> str:
    """`template` with its strftime directives filled in for the time slot that starts at `seconds`."""
    if "%" not in template:
        return template
    from datetime import datetime  # noqa: PLC0415

    moment = datetime.fromtimestamp(seconds, where) if where else datetime.fromtimestamp(seconds).astimezone()

    def one(match: re.Match[str]) -> str:
        letter = match.group(1)
        special = {
            "s": str(seconds),
            "L": "000",
            "N": "000000000",
            "z": moment.strftime("%z"),
            ":z": moment.isoformat()[-6:],
            "Z": moment.tzname() or "",
        }.get(letter)
        return moment.strftime(match.group(0)) if special is None else special

    return _DIRECTIVE.sub(one, template)


def extract(template: str, chunk: Chunk, keys: ChunkKeys, warn: Callable[[str], None]) -> str:
    """`template` filled in for `chunk`; `warn` gets a message for what could not be.

    Raises:
        UnrecoverableError: a tag or field would lead out of the directory (`../`, a leading slash), alone or
            together with what stands beside it.
    """
    text = template
    key = chunk.key
    if keys.timekey is not None and key.timekey is not None:
        try:
            text = format_time(text, key.timekey, zone(keys.zone))
        except (OverflowError, OSError, ValueError) as error:
            raise UnrecoverableError(f"no such time: {key.timekey} ({error})", whole=True) from error
    values = dict(key.variables)
    parts = key.tag.split(".") if key.tag is not None else []

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "chunk_id":
            return chunk.id.hex()
        if name in values:
            return _safe(name, values[name] or "")
        if key.tag is not None and name == "tag":
            return _safe(name, key.tag)
        if key.tag is not None and name.startswith("tag["):
            index = int(name[4:-1])
            _safe("tag", key.tag)
            if -len(parts) <= index < len(parts):
                return parts[index]
            warn(f"placeholder ${{{name}}}: tag {key.tag!r} has no such part")
            return ""
        warn(f"placeholder ${{{name}}} is no chunk key")
        return "" if keys.fields and name != "tag" and not name.startswith("tag[") else match.group(0)

    filled = _ANY.sub(one, text)
    if len(_PARENT.findall(filled)) > len(_PARENT.findall(template)):
        raise UnrecoverableError(
            f"{filled!r}, made from {template!r}, leads out of the directory", whole=True
        )
    return filled


def _safe(name: str, value: str) -> str:
    if _ESCAPES.search(value):
        raise UnrecoverableError(f"{name} {value!r} leads out of the directory", whole=True)
    return value

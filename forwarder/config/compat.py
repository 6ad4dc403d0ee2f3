"""Flat parameters of Fluentd before v0.14, moved into the sections that took their place.

`format json` of an input becomes `<parse>`, of an output `<format>`; `flush_interval 5s` becomes
`<buffer>`; `include_time_key true` becomes `<inject>`. As in Fluentd, this happens where the section is
absent and one of its old names is there, only for plugins that have this section, and for `<buffer>` only
where the output says so (`Output.flat_buffer`). One name can go into several sections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Param, SectionParam
from forwarder.config.element import Element, Parameter

_BUFFER: Final = {
    "buffer_type": "@type",
    "buffer_path": "path",
    "num_threads": "flush_thread_count",
    "flush_interval": "flush_interval",
    "try_flush_interval": "flush_thread_interval",
    "queued_chunk_flush_interval": "flush_thread_burst_interval",
    "disable_retry_limit": "retry_forever",
    "retry_limit": "retry_max_times",
    "max_retry_wait": "retry_max_interval",
    "buffer_chunk_limit": "chunk_limit_size",
    "buffer_queue_limit": "queue_limit_length",
    "buffer_queue_full_action": "overflow_action",
    "flush_at_shutdown": "flush_at_shutdown",
    "time_slice_format": "",
    "time_slice_wait": "timekey_wait",
    "timezone": "timekey_zone",
}
_PARSE: Final = {
    "format": "",
    "types": "",
    "types_delimiter": "",
    "types_label_delimiter": "",
    "localtime": "",
    "utc": "",
    **{
        name: name
        for name in (
            "keys", "time_key", "time_format", "delimiter", "keep_time_key", "null_empty_string",
            "null_value_pattern", "json_parser", "label_delimiter", "format_firstline", "message_key",
            "with_priority", "message_format", "rfc5424_time_format",
            *(f"format{number}" for number in range(1, 21)),
        )
    },
}  # fmt: skip
_FORMAT: Final = {
    "format": "@type",
    "time_as_epoch": "",
    **{
        name: name
        for name in (
            "delimiter", "force_quotes", "keys", "fields", "json_parser", "label_delimiter", "output_time",
            "output_tag", "localtime", "utc", "timezone", "message_key", "add_newline", "output_type",
        )
    },
}  # fmt: skip
_INJECT: Final = {
    "include_time_key": "",
    "include_tag_key": "",
    "time_as_epoch": "",
    "time_key": "time_key",
    "time_format": "time_format",
    "timezone": "timezone",
    "tag_key": "tag_key",
    "localtime": "",
    "utc": "",
}
_TABLES: Final = {"parse": _PARSE, "format": _FORMAT, "buffer": _BUFFER, "inject": _INJECT}
_TIMEKEYS: Final = (("%S", "1"), ("%M", "60"), ("%H", "3600"), ("%d", "86400"))


def convert_flat(
    element: Element, declared: dict[str, Param[Any] | SectionParam[Any]], *, buffer: bool,
    flat: Mapping[str, Mapping[str, str]],
) -> list[tuple[str, list[str]]]:  # fmt: skip
    """Adds the sections that flat parameters stand for; `buffer`: `<buffer>` too; `flat`: the plugin's own
    old names, by section, which stand in for the common ones.

    Returns:
        (section, names of the parameters that went into it), for warnings.

    Raises:
        ConfigError: the flat parameters contradict each other.
    """
    done: list[tuple[str, list[str]]] = []
    sections = {
        value.section_name or name: value
        for name, value in declared.items()
        if isinstance(value, SectionParam)
    }
    own = {name for name, value in declared.items() if isinstance(value, Param)} - {"time_slice_format"}
    tables: dict[str, Mapping[str, str]] = {**_TABLES, **flat}
    for section, table in tables.items():
        if section not in sections or element.children(section) or (section == "buffer" and not buffer):
            continue
        moved = [name for name in table if name in element.params and (name not in own or section in flat)]
        if not moved or moved == ["time_as_epoch"]:
            continue
        new = Element(section, "", element.params[moved[0]].position)
        for name in moved:
            found = element.params[name]
            element.used.add(name)
            if table[name]:
                new.params[table[name]] = found._replace(name=table[name])
        if section not in flat:
            _derive(section, element, new, sections[section])
        done.append((section, moved))
        element.elements.append(new)
    return done


def _derive(section: str, element: Element, new: Element, declared: SectionParam[Any]) -> None:
    if section == "parse":
        _derive_parse(element, new)
    elif section == "buffer":
        _derive_buffer(element, new, declared)
    elif section == "format":
        if _yes(element, "time_as_epoch"):
            _set(new, element.params["time_as_epoch"], "time_type", "unixtime")
    elif section == "inject":
        if _yes(element, "include_time_key"):
            _default(new, element.params["include_time_key"], "time_key", "time")
            _default(new, element.params["include_time_key"], "time_type", "string")
        if _yes(element, "time_as_epoch"):
            _default(new, element.params["time_as_epoch"], "time_key", "time")
            _set(new, element.params["time_as_epoch"], "time_type", "unixtime")
        if _yes(element, "include_tag_key"):
            _default(new, element.params["include_tag_key"], "tag_key", "tag")
    if section in ("parse", "inject"):
        _zone(element, new, "localtime", utc_means="false")


def regexp_as_type(element: Element) -> None:
    """`@type /regexp/` in a parser's section is `@type regexp` with that expression."""
    type_ = element.params.get("@type")
    if type_ is not None and type_.value and _is_regexp(type_.value):
        _set(element, type_, "expression", type_.value)
        _set(element, type_, "@type", "regexp")


def _is_regexp(text: str) -> bool:
    return len(text) > 1 and text.startswith("/") and text.endswith("/")


def _derive_parse(element: Element, new: Element) -> None:
    format_ = element.params.get("format")
    if format_ is not None and format_.value:
        _set(new, format_, "@type", format_.value)
        regexp_as_type(new)
    types = element.params.get("types")
    if types is not None and types.value:
        outer = element.get("types_delimiter") or ","
        inner = element.get("types_label_delimiter") or ":"
        pairs = (pair.partition(inner) for pair in types.value.split(outer) if pair)
        _set(new, types, "types", json.dumps({name: kind for name, _, kind in pairs}, ensure_ascii=False))


def _derive_buffer(element: Element, new: Element, declared: SectionParam[Any]) -> None:
    action = new.params.get("overflow_action")
    if action is not None and action.value == "exception":
        _set(new, action, "overflow_action", "throw_exception")
    interval = new.params.get("flush_interval")
    if interval is not None:
        _set(new, interval, "flush_mode", "interval")  # with time slots too, as it always was
    slices = element.params.get("time_slice_format")
    if slices is not None and slices.value:
        timekey = next(
            (seconds for directive, seconds in _TIMEKEYS if directive in (slices.value or "")), None
        )
        if timekey is None:
            raise ConfigError("time_slice_format with %Y or %m alone is too long", param="time_slice_format")
        new.argument = "time"
        _set(new, slices, "timekey", timekey)
        _zone(element, new, "timekey_use_utc", utc_means="true")
    else:
        # The output's own chunk keys stay; a time slot without a length is a day.
        keys = declared.defaults.get("chunk_keys") or ()
        if "time" in keys and "timekey" not in declared.defaults:
            first = next(iter(new.params.values()), None)
            if first is not None:
                _set(new, first, "timekey", "86400")


def _zone(element: Element, new: Element, name: str, *, utc_means: str) -> None:
    """`utc` and `localtime`, as the section says it."""
    utc, localtime = element.params.get("utc"), element.params.get("localtime")
    if utc is not None and localtime is not None:
        # in <inject> the two may say the same
        if new.name != "inject" or (utc.value == "false") == (localtime.value == "false"):
            raise ConfigError("both of utc and localtime are specified, use only one of them", param="utc")
        element.used.add(utc.name)
    found = localtime or utc
    if found is None:
        return
    element.used.add(found.name)
    yes = found.value in ("", "true", "yes")
    is_utc = not yes if localtime is not None else yes
    _set(new, found, name, utc_means if is_utc else ("true" if utc_means == "false" else "false"))


def _yes(element: Element, name: str) -> bool:
    found = element.params.get(name)
    return found is not None and found.value in ("", "true", "yes")


def _set(element: Element, origin: Parameter, name: str, value: str) -> None:
    element.params[name] = origin._replace(name=name, value=value)


def _default(element: Element, origin: Parameter, name: str, value: str) -> None:
    if name not in element.params:
        _set(element, origin, name, value)

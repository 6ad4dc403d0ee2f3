"""What Fluentd's parameters are here: the same, refused with a reason, different, or missing.

Compares docs/fluentd-parameters.json with the declarations of the plugins that are installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from forwarder.api.buffering import BufferSection
from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Param, Section, SectionParam, declarations
from forwarder.api.plugin import Plugin
from forwarder.config.system import SystemConfig
from forwarder.core.registry import KINDS, Registry

TABLE: Final = Path(__file__).resolve().parents[1] / "fluentd-parameters.json"
_INTERNAL: Final = ("usage", "arg")
"""Parameters of Fluentd's section helpers that no configuration sets."""
_KINDS: Final = {
    "any": "string",
    "expression": "regexp",
    "hash or array of hashes (JSON)": "string",
    "octal integer": "string",
    "octal string": "string",
    "string (SPACE, TAB and COMMA are words)": "string",
}
_BUFFERS: Final = ("memory", "file", "file_single")

MEANT: Final = (
    ("*", "*localtime", "not set means the machine's zone, which is Fluentd's default"),
    ("*", "*utc", "not set means no, which is Fluentd's default"),
    ("*", "buffer > flush_thread_burst_interval", "not set: no pause while chunks are queued"),
    ("system", "config_include_dir", "not set: FLUENT_CONF_INCLUDE_DIR or /etc/fluent/conf.d, as in Fluentd"),
    ("system", "log > rotate_age", "a period's name, or a number as text"),
    ("metrics local", "default_labels", "nothing shows them"),
    ("output elasticsearch*", "rollover_index", "a text there; false here as there means no"),
    ("output forward", "<transport>", "declared by a helper of Fluentd; its forward output does not use it"),
    ("parser *", "expression", "Fluentd's own expression, which is built in there too"),
    ("input tail", "group > pattern", "Fluentd's pattern for container logs, built in there too"),
    ("input tail", "group > rule > match", "Fluentd's own: any namespace and podname"),
    ("parser multiline", "time_key", "the inner regexp parser of Fluentd's has this default"),
    ("parser syslog", "time_format", "not set: the format that the message's own form has"),
    ("service_discovery srv", "hostname", "required by the check of the section, where @type is srv"),
    ("service_discovery srv", "service", "required by the check of the section, where @type is srv"),
    ("output elasticsearch*", "write_operation", "the words that Fluentd accepts, checked at the start"),
    (
        "output elasticsearch*", "unrecoverable_error_types",
        "a full queue of Elasticsearch is a reason to wait, not to give up documents",
    ),
)  # fmt: skip
"""(plugin, parameter, why) of the differences that are meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One parameter of Fluentd, as it is here."""

    plugin: str
    """Such as "input syslog"."""
    path: str
    """Such as "transport > ca_path"."""
    state: str
    """"same", "refused", "removed" (in Fluentd too), "type", "default" or "missing"."""
    detail: str = ""


def meant(finding: Finding) -> str | None:
    """Why a difference is meant; None: it is not."""
    for plugin, path, why in MEANT:
        if fnmatchcase(finding.plugin, plugin) and fnmatchcase(finding.path, path):
            return why
    return None


def table() -> dict[str, Any]:
    """docs/fluentd-parameters.json."""
    found: dict[str, Any] = json.loads(TABLE.read_text())
    return found


def compare(registry: Registry, found: dict[str, Any] | None = None) -> dict[str, list[Finding] | None]:
    """All of Fluentd's parameters by plugin; None for a plugin that does not exist here."""
    found = table() if found is None else found
    result: dict[str, list[Finding] | None] = {
        "system": list(_body("system", "", found["system"], found, SystemConfig))
    }
    for plugin, declared in found["plugins"].items():
        cls = target(registry, plugin)
        defaults = _buffer_defaults(plugin.removeprefix("buffer ")) if plugin.startswith("buffer ") else None
        result[plugin] = (
            None if cls is None else list(_body(plugin, "", declared, found, cls, defaults=defaults))
        )
    return result


def target(registry: Registry, plugin: str) -> type[Plugin] | type[Section] | None:
    """What has the parameters of a plugin of Fluentd here; None: there is no such plugin."""
    kind, name = plugin.split()
    if kind in KINDS:
        try:
            return registry.load(kind, name)
        except ConfigError:
            return None
    if kind == "buffer":
        return BufferSection if name in _BUFFERS else None
    owner, section = {"storage": ("sample", "storage"), "service_discovery": ("forward", "service_discovery"),
                      "metrics": ("", "metrics")}[kind]  # fmt: skip
    where: type[Plugin] | type[Section] = SystemConfig
    if owner:
        where = registry.load("input" if owner == "sample" else "output", owner)
    declared = _section_of(where, section)
    return None if declared is None else declared.section


def _buffer_defaults(name: str) -> dict[str, Any]:
    """Some depend on the kind of buffer."""
    section = BufferSection()
    section.type = name
    section.configure()
    return {**vars(section)}


def _param_of(cls: type[Plugin] | type[Section], name: str) -> Param[Any] | None:
    for key, value in declarations(cls).items():
        if isinstance(value, Param) and name in (key, value.alias):
            return value
    return None


def _section_of(cls: type[Plugin] | type[Section], name: str) -> SectionParam[Any] | None:
    for key, value in declarations(cls).items():
        if isinstance(value, SectionParam) and name == (value.section_name or key):
            return value
    return None


def _body(
    plugin: str, path: str, wanted: dict[str, Any], found: dict[str, Any],
    cls: type[Plugin] | type[Section], *, defaults: dict[str, Any] | None = None,
) -> Iterator[Finding]:  # fmt: skip
    for name, facts in wanted["params"].items():
        if name in _INTERNAL:
            continue
        param = _param_of(cls, name)
        where = path + name
        if param is not None:
            yield _param(plugin, where, facts, param, defaults or {})
        elif facts[0] == "removed":
            yield Finding(plugin, where, "removed")
        else:
            yield Finding(plugin, where, "missing")
    for name, key in wanted.get("sections", {}).items():
        content = found["shared"][key]
        declared = _section_of(cls, name)
        if declared is None:
            yield Finding(plugin, f"{path}<{name}>", "missing")
        elif declared.section is not None:
            yield from _body(
                plugin, f"{path}{name} > ", content, found, declared.section, defaults=declared.defaults
            )


def _param(
    plugin: str, path: str, facts: list[Any], declared: Param[Any], defaults: dict[str, Any]
) -> Finding:
    if facts[0] == "removed":
        return Finding(plugin, path, "removed", declared.obsolete or "")
    if declared.unsupported is not None:
        return Finding(plugin, path, "refused", declared.unsupported)
    if declared.obsolete is not None:
        return Finding(plugin, path, "refused", declared.obsolete)
    kind = _KINDS.get(facts[0], facts[0])
    ours = _KINDS.get(declared.kind, declared.kind)
    if kind != ours:
        return Finding(plugin, path, "type", f"{facts[0]} there, {declared.kind} here")
    default = defaults.get(declared.name, None if declared.required else declared.default)
    there = None if len(facts) < 2 else facts[1]
    if (len(facts) < 2) != declared.required and declared.name not in defaults:
        return Finding(plugin, path, "default", f"{_shown(facts)} there, {_ours(declared, default)} here")
    if not _same(there, default):
        return Finding(plugin, path, "default", f"{_shown(facts)} there, {_ours(declared, default)} here")
    words = facts[2] if len(facts) > 2 else []
    if declared.kind == "enum" and not set(words) <= set(declared.values):
        return Finding(
            plugin, path, "type", f"without {', '.join(sorted(set(words) - set(declared.values)))}"
        )
    return Finding(plugin, path, "same")


def _shown(facts: list[Any]) -> str:
    return "required" if len(facts) < 2 else json.dumps(facts[1], ensure_ascii=False)


def _ours(declared: Param[Any], default: Any) -> str:
    return "required" if declared.required else json.dumps(default, ensure_ascii=False, default=str)


def _same(there: Any, here: Any) -> bool:
    if there is None or here is None:
        return there is here or (there or here) in ("(local timezone offset)", False, [], {})
    if isinstance(there, int | float) and isinstance(here, int | float):
        return bool(there == here)
    if isinstance(here, str) and isinstance(there, int) and here.isdecimal():
        return int(here, 8) == there
    if isinstance(here, str) and isinstance(there, list):
        return bool(json.loads(here) == there)
    return bool(there == here or str(there) == str(here))

"""`make docs`: docs/compatibility.md, a page of docs/reference for every kind of plugin, and the JSON schema.

Made from the declarations of the plugins and docs/fluentd-parameters.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import compatibility  # the neighbour

from forwarder.cli.plugins import reference
from forwarder.cli.schema import schema
from forwarder.core.refused import PLUGINS
from forwarder.core.registry import KINDS, Registry

DOCS = Path(__file__).resolve().parents[1]
_MADE = "Made by `make docs` from the declarations; do not edit.\n"
_WORDS = (
    ("alias", "also"),
    ("deprecated", "deprecated"),
    ("obsolete", "removed"),
    ("unsupported", "refused"),
)


def pages(registry: Registry) -> dict[str, str]:
    """Path below docs -> text."""
    made = {"compatibility.md": compatible(registry)}
    for kind in KINDS:
        made[f"reference/{kind}s.md"] = reference_page(registry, kind)
    made["reference/forwarder.schema.json"] = (
        json.dumps(schema(registry), ensure_ascii=False, indent=1) + "\n"
    )
    return made


def reference_page(registry: Registry, kind: str) -> str:
    lines = [f"# Reference: {kind}s", "", _MADE]
    for name in registry.names(kind):
        found = reference(kind, name, registry.load(kind, name))
        lines += [f"## {name}", "", found["doc"], ""]
        body(found, "", lines)
    return "\n".join(lines).rstrip() + "\n"


def body(found: dict[str, Any], path: str, lines: list[str]) -> None:
    if found.get("params"):
        lines += ["| parameter | type | default | |", "|---|---|---|---|"]
        lines += [row(param) for param in found["params"]]
        lines.append("")
    for section in found.get("sections", ()):
        where = f"{path}<{section['name']}>"
        words = "required" if section["required"] else "optional"
        several = ", several" if section["multiple"] else ""
        lines += [f"**`{where}`** ({words}{several}): {section['doc']}", ""]
        if section.get("defaults"):
            lines += [f"Defaults here: `{json.dumps(section['defaults'])}`", ""]
        if section["name"] == "buffer" and found["name"] != "null":
            lines += ["Its parameters: see `null`, which has the section as it is.", ""]
        else:
            body(section, where + " ", lines)


def row(param: dict[str, Any]) -> str:
    kind = ", ".join(f"`{word}`" for word in param["values"]) if param.get("values") else param["type"]
    default = "required" if param["required"] else f"`{json.dumps(param['default'], ensure_ascii=False)}`"
    text = " ".join([param["doc"], *(f"({word}: {param[key]})" for key, word in _WORDS if param.get(key))])
    return (
        "| "
        + " | ".join(part.replace("|", "\\|") for part in (f"`{param['name']}`", kind, default, text))
        + " |"
    )


def compatible(registry: Registry) -> str:
    table = compatibility.table()
    versions = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    lines = [
        "# Fluentd's plugins and parameters", "", _MADE,
        f"Compared with {versions}. A refused parameter is an error with file and line where it is set to "
        "more than its default.", "", "| plugin | parameters | refused | different |", "|---|---|---|---|",
    ]  # fmt: skip
    refused: Notes = {}
    different: Notes = {}
    for plugin, findings in sorted(compatibility.compare(registry, table).items()):
        if findings is None:
            kind, name = plugin.split()
            lines.append(f"| {plugin} | {PLUGINS[kind, name]} | | |")
            continue
        counts = []
        for notes, states in ((refused, ("refused",)), (different, ("missing", "type", "default"))):
            found = [each for each in findings if each.state in states]
            counts.append(str(len(found) or ""))
            for each in found:
                why = each.detail if each.state == "refused" else compatibility.meant(each) or each.detail
                notes.setdefault(why, {}).setdefault(plugin, []).append(each.path)
        lines.append(f"| {plugin} | {len(findings)} | {' | '.join(counts)} |")
    lines += ["", "## Refused parameters", "", *by_reason(refused)]
    lines += ["", "## Different declarations", "", *by_reason(different)]
    return "\n".join(lines) + "\n"


Notes = dict[str, dict[str, list[str]]]
"""Reason -> plugin -> parameters."""


def by_reason(notes: Notes) -> list[str]:
    """A table in which every reason stands once."""
    lines = ["| parameters | plugins | |", "|---|---|---|"]
    for why, plugins in sorted(notes.items()):
        alike: dict[tuple[str, ...], list[str]] = {}
        for plugin, paths in plugins.items():
            alike.setdefault(tuple(paths), []).append(plugin)
        for group, names in sorted(alike.items()):
            parameters = ", ".join(f"`{path}`" for path in group)
            lines.append(f"| {parameters} | {', '.join(names)} | {why} |")
    return lines


if __name__ == "__main__":
    for name, text in pages(Registry()).items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text)

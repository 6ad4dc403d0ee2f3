"""Makes docs/fluentd-parameters.json: what parameters Fluentd's plugins have, in a compact form.

    python docs/tools/fluentd_parameters.py ../shared/fluentd-params.json

Source: facts (name, type, default, section) read from the plugin classes of the versions in `versions`.
Form: `plugins` -> "input syslog" -> `params` -> name -> [type, default, words of an enum]; a required
parameter has no default; `sections` -> name -> what `shared` has under that name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "fluentd-parameters.json"
RESERVED = ("@type", "@id", "@label", "@log_level")


def compact(source: dict[str, Any]) -> dict[str, Any]:
    """The table in its compact form."""
    shared: dict[str, Any] = {}
    plugins = {
        f"{kind} {name}": {"package": package, **body(declared, shared)}
        for package, kinds in source["plugins"].items()
        for kind, names in kinds.items()
        for name, declared in names.items()
    }
    system = body(source["system"], shared)
    return {"versions": source["versions"], "shared": shared, "system": system, "plugins": plugins}


def body(declared: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    params = {each["name"]: parameter(each) for each in declared["params"] if each["name"] not in RESERVED}
    found: dict[str, Any] = {"params": params}
    sections = {
        each["name"]: share(each["name"], body(each, shared), shared) for each in declared.get("sections", ())
    }
    if sections:
        found["sections"] = sections
    return found


def share(name: str, content: dict[str, Any], shared: dict[str, Any]) -> str:
    """The name under which `shared` has this section; equal sections are there once."""
    number = 1
    while (key := name if number == 1 else f"{name}.{number}") in shared:
        if shared[key] == content:
            return key
        number += 1
    shared[key] = content
    return key


def parameter(each: dict[str, Any]) -> list[Any]:
    if each.get("removed"):
        return ["removed", None]
    found = [each["type"]]
    if not each["required"]:
        found.append(each["default"])
    if each.get("values"):
        found += [None] * (each["required"]) + [each["values"]]
    return found


def text(table: dict[str, Any]) -> str:
    """JSON with a line for each parameter."""

    def render(value: Any, depth: int) -> str:
        if not isinstance(value, dict) or depth > 5:
            return json.dumps(value, ensure_ascii=False)
        indent = " " * depth
        inner = ",\n".join(
            f"{indent} {json.dumps(key)}: {render(item, depth + 1)}" for key, item in value.items()
        )
        return f"{{\n{inner}\n{indent}}}"

    return render(table, 0) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(compact(json.loads(Path(sys.argv[1]).read_text()))))

"""`forwarder plugins`: which plugins there are, and a reference made from their declarations."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from typing import Any

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Param, Section, SectionParam, declarations
from forwarder.api.plugin import Plugin
from forwarder.core.registry import KINDS, Registry

HELP = "list the plugins, or show the reference of one"
_PREFIXES = {
    "in_": "input",
    "out_": "output",
    "filter_": "filter",
    "parser_": "parser",
    "formatter_": "formatter",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    parser.add_argument("name", nargs="?", help="with show: a plugin's @type, such as syslog or in_syslog")
    parser.add_argument("--kind", choices=tuple(KINDS), help="only this kind")
    parser.add_argument(
        "-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the list or the reference; 1 if there is no such plugin."""
    registry = Registry()
    for folder in args.plugin:
        registry.add_directory(folder)
    kinds = [args.kind] if args.kind else list(KINDS)
    if args.action == "list":
        return _list(registry, kinds, as_json=args.json)
    if not args.name:
        raise ConfigError("forwarder plugins show NAME: which plugin?")
    return _show(registry, args.name, kinds, as_json=args.json)


def _list(registry: Registry, kinds: list[str], *, as_json: bool) -> int:
    found = {kind: registry.names(kind) for kind in kinds}
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    for kind, names in found.items():
        print(f"{kind}:")
        for name in names:
            print(f"  {name:<20} {_summary(registry, kind, name)}".rstrip())
    return 0


def _summary(registry: Registry, kind: str, name: str) -> str:
    try:
        cls = registry.load(kind, name)
    except ConfigError as error:
        return f"(cannot be loaded: {error.message})"
    return documentation(cls).partition("\n")[0]


def _show(registry: Registry, name: str, kinds: list[str], *, as_json: bool) -> int:
    found = [(kind, name) for kind in kinds if name in registry.names(kind)]
    for prefix, kind in _PREFIXES.items():
        plain = name.removeprefix(prefix)
        if not found and plain != name and kind in kinds and plain in registry.names(kind):
            found = [(kind, plain)]
    if not found:
        import difflib  # noqa: PLC0415 - for a message only

        known = sorted({each for kind in kinds for each in registry.names(kind)})
        near = difflib.get_close_matches(name, known, 3)
        print(
            f"no plugin is called {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
            file=sys.stderr,
        )
        return 1
    references = [reference(kind, each, registry.load(kind, each)) for kind, each in found]
    if as_json:
        print(json.dumps(references, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(render_reference(each) for each in references))
    return 0


def documentation(cls: type[Plugin]) -> str:
    """What the plugin says of itself: its file's docstring if it has one of its own, else the class's."""
    module = sys.modules.get(cls.__module__)
    text = (module.__doc__ if module is not None else None) or cls.__doc__ or ""
    return inspect.cleandoc(text)


def reference(kind: str, name: str, cls: type[Plugin]) -> dict[str, Any]:
    """A plugin's reference as plain values, ready for JSON."""
    return {"kind": kind, "name": name, "doc": documentation(cls), **_declared(cls)}


def _declared(cls: type[Plugin] | type[Section]) -> dict[str, Any]:
    params: list[dict[str, Any]] = []
    sections: list[dict[str, Any]] = []
    for name, value in declarations(cls).items():
        if isinstance(value, Param):
            params.append(_param(name, value))
        else:
            sections.append(_section(name, value))
    found: dict[str, Any] = {"params": params, "sections": sections}
    if issubclass(cls, Section) and cls.argument:
        found["argument"] = cls.argument
    return found


def _param(name: str, param: Param[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": param.kind, "doc": param.doc, "required": param.required}
    if not param.required:
        found["default"] = plain(param.default)
    for key in ("values", "of", "alias", "deprecated", "obsolete", "unsupported", "secret"):
        value = getattr(param, key)
        if value:
            found[key] = list(value) if key == "values" else value
    return found


def plain(value: Any) -> Any:
    """A default as JSON can say it."""
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _section(name: str, param: SectionParam[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": param.section_name or name,
        "doc": param.doc,
        "required": param.required,
        "multiple": param.multiple,
    }
    if param.kind is not None:
        found["plugin"] = param.kind
    if param.default is not None:
        found["default"] = param.default
    if param.defaults:
        found["defaults"] = plain(param.defaults)
    if param.free:
        found["free"] = True
    if param.section is not None:
        found.update(_declared(param.section))
    return found


def render_reference(found: dict[str, Any]) -> str:
    """A reference as text for a terminal."""
    lines = [f"{found['kind']} {found['name']}", "=" * (len(found["kind"]) + len(found["name"]) + 1), ""]
    if found["doc"]:
        lines += [found["doc"], ""]
    _render_params(found, 0, lines)
    return "\n".join(lines).rstrip()


def _render_params(found: dict[str, Any], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for param in found.get("params", ()):
        kind = " | ".join(param["values"]) if param.get("values") else param["type"]
        if param.get("of"):
            kind += f" of {param['of']}"
        state = (
            "required"
            if param["required"]
            else f"default: {json.dumps(param['default'], ensure_ascii=False)}"
        )
        lines.append(f"{indent}{param['name']} ({kind}; {state})")
        lines.append(f"{indent}    {param['doc']}")
        for key, text in (("alias", "Also: "), ("deprecated", "Deprecated: "), ("obsolete", "Removed: "),
                          ("unsupported", "Not supported: ")):  # fmt: skip
            if param.get(key):
                lines.append(f"{indent}    {text}{param[key]}")
    for section in found.get("sections", ()):
        argument = f" {section['argument'].upper()}" if section.get("argument") else ""
        words = ["required"] if section["required"] else ["optional"]
        if section["multiple"]:
            words.append("several")
        if section.get("plugin"):
            words.append(f"a {section['plugin']} plugin")
        if section.get("default"):
            words.append(f"default @type: {section['default']}")
        lines += [
            "",
            f"{indent}<{section['name']}{argument}> ({'; '.join(words)})",
            f"{indent}    {section['doc']}",
        ]
        if section.get("defaults"):
            lines.append(f"{indent}    Defaults here: {json.dumps(section['defaults'], ensure_ascii=False)}")
        if section.get("free"):
            lines.append(f"{indent}    Any names.")
        _render_params(section, depth + 2, lines)

"""`forwarder schema`: a JSON schema of the YAML configuration form, made from the plugins' declarations.

Editors complete and check with it. It is narrower than `forwarder run`, which warns of unknown names and
takes Fluentd's old forms: here they are errors. What a plugin's `configure` checks is not in it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from forwarder.api.parameters import Param, Section, SectionParam, declarations
from forwarder.api.plugin import Plugin
from forwarder.cli.plugins import documentation, plain
from forwarder.config.system import LOG_LEVELS, SystemConfig
from forwarder.core.registry import KINDS, Registry

HELP = "print a JSON schema of the YAML configuration form, for editors"

Schema = dict[str, Any]
_EMBEDDED: Final[Schema] = {"type": "string", "pattern": "#\\{"}
"""`!fluent/s "#{...}"`: any type of value may come of it."""
_NIL: Final[Schema] = {"type": "null"}
_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
_TEXT: Final[Schema] = {"type": ["string", "number", "boolean"]}
_KINDS: Final[dict[str, list[Schema]]] = {
    "string": [_TEXT],
    "any": [_SCALAR],
    "integer": [{"type": "integer"}, {"type": "string", "pattern": "^[+-]?[0-9]+(_[0-9]+)*$"}],
    "float": [{"type": "number"}, {"type": "string", "pattern": "^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$"}],
    "bool": [{"type": "boolean"}, {"enum": ["true", "false", "yes", "no"]}],
    "size": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+([kmgtKMGT][bB]?)?$"}],
    "time": [{"type": "number"}, {"type": "string", "pattern": "^([0-9]+[smhd]|[0-9]+(\\.[0-9]+)?)$"}],
    "array": [{"type": "array", "items": _SCALAR}, _TEXT],
    "hash": [{"type": ["object", "string"]}],
    "regexp": [{"type": "string"}],
    "expression": [{"type": "string"}],
}
"""What a value of each type may be in YAML. `!fluent/json {...}` is an object, and so is a hash."""
_TAGS: Final[Schema] = {
    "description": "Tag pattern, or a list of them; not set: every tag.",
    "type": ["string", "array"],
    "items": {"type": "string"},
}
_ARGUMENT: Final[Schema] = {
    "description": "The section's argument.",
    "type": ["string", "number", "array"],
    "items": _TEXT,
}
_RESERVED: Final[dict[str, Schema]] = {
    "$id": {"description": "Name of this plugin in logs and metrics; unique.", "type": "string"},
    "$log_level": {"description": "Log level of this plugin.", "enum": list(LOG_LEVELS)},
}
_LABEL: Final[Schema] = {"description": "Label whose filters and matches get the events.", "type": "string"}
_SECTIONS: Final = {"source": "input", "filter": "filter", "match": "output"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument(
        "-p", "--plugin", metavar="DIR", action="append", default=[], help="folder of plugins to take in"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the schema. Raises ConfigError: a plugin cannot be loaded."""
    registry = Registry()
    for folder in args.plugin:
        registry.add_directory(folder)
    print(json.dumps(schema(registry), indent=1, ensure_ascii=False))
    return 0


def schema(registry: Registry) -> Schema:
    """The schema (draft 7) with all plugins of `registry`. Raises ConfigError: one cannot be loaded."""
    made = _Definitions(registry)
    everything = {
        "type": "array",
        "items": {"anyOf": [made.entries(*_SECTIONS, "label", "worker"), _INCLUDED]},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "forwarder configuration",
        "description": "Fluentd's YAML configuration form, with the plugins that are installed.",
        "type": ["object", "null"],
        "properties": {"system": made.section(SystemConfig), "config": everything},
        "additionalProperties": False,
        "definitions": {
            **_values(),
            **made.definitions,
            "label": made.nested(
                "$name", "The label's name, such as @MAIN.", made.entries("filter", "match")
            ),
            "worker": made.nested("$arg", "Worker's number, or two: 0-1.", made.entries(*_SECTIONS, "label")),
        },
    }


_INCLUDED: Final[Schema] = {"description": "`!include PATTERN`: sections of other files.", "type": "string"}


class _Definitions:
    """One definition per plugin and per section, which the others refer to."""

    def __init__(self, registry: Registry) -> None:
        self.definitions: dict[str, Schema] = {}
        self._sections: dict[type[Section], str] = {}
        for kind in KINDS:
            names = registry.names(kind)
            self.definitions[kind] = {
                "type": "object",
                "properties": {"$type": {"description": f"Which {kind} plugin.", "enum": names}},
                "required": ["$type"],
                "allOf": [
                    {"if": {"properties": {"$type": {"const": name}}}, "then": _ref(f"{kind}.{name}")}
                    for name in names
                ],
            }
            for name in names:
                self._plugin(kind, name, registry.load(kind, name))

    def entries(self, *names: str) -> Schema:
        """An entry of a `config:` list: sections by name."""
        targets = {name: _ref(_SECTIONS.get(name, name)) for name in names}
        return {"type": "object", "properties": targets, "additionalProperties": False}

    def nested(self, argument: str, text: str, entries: Schema) -> Schema:
        """A section with a `config:` list of its own."""
        items: Schema = {"anyOf": [entries, _INCLUDED]}
        return {
            "type": "object",
            "properties": {
                argument: {"description": text, "type": ["string", "integer"]},
                "config": {"type": "array", "items": items},
            },
            "required": [argument],
            "additionalProperties": False,
        }

    def section(self, cls: type[Section]) -> Schema:
        """A reference to a section's definition."""
        if cls not in self._sections:
            name = f"section.{cls.__name__}"
            if name in self._sections.values():
                name = f"section.{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
            self._sections[cls] = name
            self.definitions[name] = self._declared(cls, {}, name)
        return _ref(self._sections[cls])

    def _plugin(self, kind: str, name: str, cls: type[Plugin]) -> None:
        reserved = {"$type": {"description": f"The {kind} plugin.", "const": name}, **_RESERVED}
        if kind in ("input", "output"):
            reserved["$label"] = _LABEL
        if kind in ("filter", "output"):
            reserved["$tag"] = _TAGS
        if kind != "input":
            reserved["$arg"] = _ARGUMENT
        made = self._declared(cls, reserved, f"{kind}.{name}")
        self.definitions[f"{kind}.{name}"] = {"description": documentation(cls), **made}

    def _declared(self, cls: type[Plugin] | type[Section], reserved: dict[str, Schema], own: str) -> Schema:
        properties: dict[str, Schema] = dict(reserved)
        required: list[Schema] = []
        argument = cls.argument if issubclass(cls, Section) else None
        if argument is not None:
            properties["$arg"] = _ARGUMENT
        for name, value in declarations(cls).items():
            if isinstance(value, SectionParam):
                names, found = [value.section_name or name], self._subsection(value, own)
            else:
                names = [name] if value.alias is None else [name, value.alias.replace("@", "$")]
                found = _parameter(value)
            for each in names:
                other = properties.get(each)  # a parameter and a section may have the same name
                properties[each] = found if other is None else {"anyOf": [other, found]}
            if value.required:
                ways = [*names, *(["$arg"] if name == argument else [])]
                required.append({"anyOf": [{"required": [each]} for each in ways]})
        made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            made["allOf"] = required
        return made

    def _subsection(self, declared: SectionParam[Any], own: str) -> Schema:
        text = declared.doc
        if declared.defaults:
            text += f" Defaults here: {json.dumps(plain(declared.defaults), ensure_ascii=False)}."
        if declared.free:
            values: Schema = {"type": [*_SCALAR["type"], "array", "object"]}
            one: Schema = {"type": "object", "additionalProperties": values}
        elif declared.section is not None and declared.kind is not None:
            # an output with parameters of the one around it: the definitions of outputs take no others
            one = self.section(declared.section)
            self.definitions[self._sections[declared.section]]["additionalProperties"] = True
        elif declared.section is not None:
            one = self.section(declared.section)
        else:
            one = _ref(declared.kind or "")
            other = f"{declared.kind}.{declared.default}" if declared.default else None
            if declared.kind == "output" and not declared.multiple:
                other = own  # <secondary>: without a $type it is another of its owner's
            if other is not None:
                one = {"if": {"required": ["$type"]}, "then": one, "else": _ref(other)}
        several: Schema = {"type": "array", "items": one, "minItems": 1}
        if not declared.multiple:
            several["maxItems"] = 1
        return {"description": text, "anyOf": [one, several]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _parameter(param: Param[Any]) -> Schema:
    text = param.doc
    made: Schema = {}
    optional = not param.required and param.default is None
    if param.obsolete is not None:
        return {"description": f"{text} Removed: {param.obsolete}.", "not": {}}
    if param.deprecated is not None:
        text += f" Deprecated: {param.deprecated}."
        made["deprecated"] = True
    if param.unsupported is not None:
        text += f" Refused: {param.unsupported}."
        idle = plain(param.default) if not param.required else None
        made["enum"] = [idle, False] if idle is None else [idle]
    elif param.kind == "enum":
        made["anyOf"] = [_words(param), _EMBEDDED, *([_NIL] if optional else [])]
    else:
        made["allOf"] = [_ref(f"value.{param.kind}{'?' if optional else ''}")]
    if not param.required:
        made["default"] = plain(param.default)
    return {"description": text, **made}


def _words(param: Param[Any]) -> Schema:
    words: list[Any] = list(param.values)
    words += [word == "true" for word in param.values if word in ("true", "false")]
    words += [int(word) for word in param.values if word.isdecimal()]
    return {"enum": words}


def _values() -> dict[str, Schema]:
    """The types of parameters; with `?`: or nil."""
    found: dict[str, Schema] = {}
    for kind, choices in _KINDS.items():
        found[f"value.{kind}"] = {"anyOf": [*choices, _EMBEDDED]}
        found[f"value.{kind}?"] = {"anyOf": [*choices, _EMBEDDED, _NIL]}
    return found

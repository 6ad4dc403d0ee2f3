"""Fluentd's YAML configurations: nodes with places to the same element tree as fluent.conf gives.

`config:` is a list of `source`, `filter`, `match`, `label` and `worker`; `$type`, `$id`, `$label`,
`$log_level` are the reserved parameters, `$tag`, `$name` and `$arg` the section's argument. A hash is a
section, a list of hashes several; `!include`, `!fluent/s "..."` (embedded code) and `!fluent/json` as there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import yaml

from forwarder.config.diagnostics import ConfigSyntaxError, Diagnostics
from forwarder.config.element import Element, Parameter, Position, Source
from forwarder.config.embedded import Embedded
from forwarder.config.syntax import Literal, V1Parser

_RESERVED: Final = {"$type": "@type", "$id": "@id", "$label": "@label", "$log_level": "@log_level"}
_ARGUMENTS: Final = {"label": "$name", "filter": "$tag", "match": "$tag", "worker": "$arg"}
_NESTED: Final = ("label", "worker")
_MAX_NODES: Final = 100_000
_MAX_DEPTH: Final = 100

_RESOLVER: Final[Any] = yaml.SafeLoader("")
_WORDS: Final = {
    "~": None, "null": None, "yes": True, "true": True, "on": True, "no": False, "false": False, "off": False,
}  # fmt: skip
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b[01_,]+|0x[0-9a-fA-F_,]+|0[0-7_,]+|0|[1-9](?:[0-9]|,[0-9]|_[0-9])*)", re.ASCII
)
_FLOAT: Final = re.compile(r"(?!(?:[-+]?\.)\Z)[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][-+][0-9]+)?", re.ASCII)
_BASE_60: Final = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}", re.ASCII)
_SYMBOL: Final = re.compile(r""":(?:(["'])(.*)\1|(.+))""")

Include = Callable[[str, Position], list[Source]]
"""The files that `!include` of a pattern takes."""


class _Value(NamedTuple):
    """A YAML value: `data` is a list of _Value, a _Hash, a Literal (tagged text), or a plain scalar."""

    data: Any
    position: Position


class _Hash(NamedTuple):
    items: dict[str, tuple[Position, _Value]]


class YamlReader:
    """Reads YAML sources into elements. Raises ConfigSyntaxError."""

    def __init__(self, embedded: Embedded, diagnostics: Diagnostics, include: Include) -> None:
        self.embedded = embedded
        self.diagnostics = diagnostics
        self._include = include
        self._nodes = 0

    def read(self, source: Source, root: Element) -> None:
        """Appends what a file says to `root`."""
        value = self.load(source)
        if value is None:
            return
        if not isinstance(value.data, _Hash):
            raise ConfigSyntaxError("expected a hash with system: and config:", value.position)
        for key, (position, item) in value.data.items.items():
            if key == "system":
                root.elements.append(self.section("system", item, position))
            elif key == "config":
                root.elements.extend(self.sections(item))
            else:
                self.diagnostics.warning(
                    f"{key!r} at top level is not used", position, hint="expected: config, system"
                )

    def load(self, source: Source) -> _Value | None:
        """The value of a whole file; None if it is empty."""
        try:
            node = yaml.compose(source.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = source.position(mark.index if mark is not None else 0)
            raise ConfigSyntaxError(f"invalid YAML: {error.problem or error.context}", position) from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigSyntaxError(f"invalid YAML: {error}", source.position(0)) from error
        return None if node is None else self.value(node, source, 0)

    def value(self, node: Any, source: Source, depth: int) -> _Value:
        position = source.position(min(node.start_mark.index, len(source.text)))
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise ConfigSyntaxError("YAML with too many or too deeply nested values", position)
        if node.tag == "!include":
            found: list[_Value] = []
            for each in self._include(str(node.value), position):
                found.extend(self.listed(self.load(each)))
            return _Value(found, position)
        if node.tag == "!fluent/s":
            return _Value(self.embedded_text(str(node.value), source, position), position)
        if node.tag == "!fluent/json":
            plain = self.plain(self.untagged(node, source, depth))
            return _Value(Literal(json.dumps(plain, ensure_ascii=False, separators=(",", ":"))), position)
        return self.untagged(node, source, depth)

    def listed(self, value: _Value | None) -> list[_Value]:
        if value is None:
            return []
        if not isinstance(value.data, list):
            raise ConfigSyntaxError("an included file must be a list of sections", value.position)
        return value.data

    def untagged(self, node: Any, source: Source, depth: int) -> _Value:
        position = source.position(min(node.start_mark.index, len(source.text)))
        if isinstance(node, yaml.SequenceNode):
            return _Value([self.value(each, source, depth + 1) for each in node.value], position)
        if isinstance(node, yaml.MappingNode):
            merged: dict[str, tuple[Position, _Value]] = {}
            own: dict[str, tuple[Position, _Value]] = {}
            for key_node, value_node in node.value:
                key_position = source.position(key_node.start_mark.index)
                if not isinstance(key_node, yaml.ScalarNode):
                    raise ConfigSyntaxError("expected a text as key", key_position)
                item = self.value(value_node, source, depth + 1)
                if key_node.value == "<<" and isinstance(item.data, _Hash):
                    merged.update(item.data.items)
                else:
                    own[key_node.value] = (key_position, item)
            return _Value(_Hash({**merged, **own}), position)
        return _Value(self.scalar(node, position), position)

    def scalar(self, node: Any, position: Position) -> Any:
        if node.tag.startswith("!"):
            if node.tag != "!fluent/json":
                self.diagnostics.warning(f"unknown YAML tag {node.tag} has no effect", position)
            return node.value if node.style in ("'", '"') else plain_scalar(node.value)
        if not node.style and node.tag == _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False)):
            return plain_scalar(node.value)
        tag = node.tag.rpartition(":")[2]
        if tag not in ("int", "float", "bool", "null"):
            return node.value  # dates too: no parameter wants them as anything but text
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigSyntaxError(f"invalid YAML value {node.value!r}: {error}", position) from error

    def embedded_text(self, text: str, source: Source, position: Position) -> Literal:
        """What `!fluent/s` gives: the text as in double quotes."""
        parser = V1Parser(Source(source.path, f'"{text}"'), self.embedded, self.diagnostics, _no_include)
        try:
            literal = parser.double_quoted()
            complete = parser.at == len(parser.text)
        except ConfigSyntaxError as error:
            raise ConfigSyntaxError(error.message, position) from error
        if not complete:
            raise ConfigSyntaxError("a double quote inside !fluent/s needs a back-slash", position)
        # Fluentd's YAML has no nil here: the text is empty.
        return literal._replace(text=literal.text or "")

    def plain(self, value: _Value) -> Any:
        """A value as JSON knows it."""
        if isinstance(value.data, list):
            return [self.plain(each) for each in value.data]
        if isinstance(value.data, _Hash):
            return {key: self.plain(item) for key, (_, item) in value.data.items.items()}
        return value.data.text if isinstance(value.data, Literal) else value.data

    def sections(self, value: _Value) -> Iterator[Element]:
        """The sections of a `config:` list; includes give lists in it."""
        if value.data is None or value.data == _Hash({}):
            return
        if not isinstance(value.data, list):
            raise ConfigSyntaxError("expected a list of sections", value.position)
        for entry in value.data:
            if isinstance(entry.data, list):
                yield from self.sections(entry)
            elif isinstance(entry.data, _Hash):
                for name, (position, item) in entry.data.items.items():
                    yield self.section(name, item, position)
            else:
                raise ConfigSyntaxError("expected a section, such as source: or match:", entry.position)

    def section(self, name: str, value: _Value, position: Position) -> Element:
        if value.data is None or value.data == []:
            return Element(name, "", position)
        if not isinstance(value.data, _Hash):
            raise ConfigSyntaxError(f"expected a hash for {name}", value.position)
        items = dict(value.data.items)
        argument = items.pop(_ARGUMENTS.get(name, "$arg"), None)
        element = Element(name, "" if argument is None else self.argument(argument[1]), position)
        if name in _NESTED:
            config = items.pop("config", None)
            if config is not None:
                element.elements.extend(self.sections(config[1]))
        for key, (key_position, item) in items.items():
            self.entry(element, _RESERVED.get(key, key), key_position, item)
        return element

    def argument(self, value: _Value) -> str:
        if isinstance(value.data, list):
            return ",".join(self.argument(each) for each in value.data)
        return _text(self.plain(value)) or ""

    def entry(self, element: Element, name: str, position: Position, value: _Value) -> None:
        """A parameter, a section, or several."""
        data = value.data
        if isinstance(data, _Hash):
            element.elements.append(self.section(name, value, position))
        elif isinstance(data, list) and data and isinstance(data[0].data, list | _Hash):
            element.elements.extend(self.section(name, each, each.position) for each in data)
        elif isinstance(data, Literal):
            element.params[name] = Parameter(name, data.text, position, value.position, data.use_default)
        else:
            plain = self.plain(value)
            native = None if isinstance(plain, str) else plain
            element.params[name] = Parameter(name, _text(plain), position, value.position, native=native)


def _text(value: Any) -> str | None:
    """A YAML value as fluent.conf would write it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def plain_scalar(text: str) -> Any:
    """The value of a scalar without quotes and tag, as Ruby's Psych reads it; dates and times stay text,
    because no parameter wants them as anything else, and symbols are text."""
    if not text:
        return None
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    symbol = _SYMBOL.fullmatch(text)
    if symbol is not None:
        return symbol[3] or symbol[2]
    if _BASE_60.fullmatch(text):
        # two parts are hours and minutes there, not minutes and seconds
        return sum(int(part) * 60 ** (2 - index) for index, part in enumerate(text.split(":")))
    if re.fullmatch(r"[-+]?\.inf|\.nan", text, re.IGNORECASE):
        return float(text.replace(".", ""))
    digits = text.replace(",", "").replace("_", "")
    if _FLOAT.fullmatch(text):
        return float(digits)
    if _INTEGER.fullmatch(text):
        bare = digits.lstrip("+-")
        if bare.startswith("0") and not bare.startswith(("0b", "0x")):
            return int(digits, 8)
        return int(digits, 0)
    return text


def _no_include(parser: V1Parser, element: Element, target: str, offset: int) -> None:
    raise parser.error("@include cannot stand here", offset)

"""From fluent.conf to Fluentd's YAML form and back, without loss: values, order, embedded code, comments.

The texts are read by the same parsers that run them, but embedded code is not evaluated: a mark stands for
it, and the writer puts the code back. What was written is read again and compared, so a text that cannot be
said in the other form is refused, never changed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

from forwarder.api.errors import ConfigError
from forwarder.config.diagnostics import ConfigSyntaxError, Diagnostics
from forwarder.config.element import Element, Parameter, Position, Source
from forwarder.config.embedded import Embedded
from forwarder.config.render import PLAIN, PLAIN_ARGUMENT, PLAIN_NAME, is_json, quote
from forwarder.config.syntax import V1Parser
from forwarder.config.yaml_syntax import YamlReader, _Value, plain_scalar

INCLUDE: Final = "@include"
_CODE: Final = re.compile("\ue000(\\d+)\ue001")
_BARE: Final = re.compile('"\ue000(\\d+)\ue002"')
_MARKS: Final = re.compile("[\ue000-\ue002]")
_COMMENT: Final = re.compile(r"#[^\r\n]*")
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")
_RESERVED: Final = {"@type": "$type", "@id": "$id", "@label": "$label", "@log_level": "$log_level"}
_ARGUMENTS: Final = {"label": "$name", "filter": "$tag", "match": "$tag"}
_NESTED: Final = ("label", "worker")
_ORDERED: Final = ("ROOT", *_NESTED)
_TYPED: Final = (
    "source", "filter", "match", "store", "system", "log", "parse", "format", "buffer", "secondary",
    "transport", "security", "inject", "extract", "server", "client", "user", "service_discovery", "service",
)  # fmt: skip
"""Sections whose parameters have declared types: there a number in YAML is the same as its text."""


class Converted(NamedTuple):
    """A configuration in the other form."""

    text: str
    notes: list[str]
    """What a reader should know, each with file and line."""


class _Marks(Embedded):
    """Gives a mark for every piece of embedded code."""

    def __init__(self) -> None:
        super().__init__({})
        self.codes: list[str] = []

    def text(self, source: str) -> str:
        self.codes.append(source)
        return f"\ue000{len(self.codes) - 1}\ue001"

    def plain(self, text: str | None) -> str | None:
        """The text with its code in place; None for `use_nil`."""
        if text is None or (self.whole(text) or "").strip() == "use_nil":
            return None
        return _CODE.sub(lambda found: f"#{{{self.codes[int(found[1])]}}}", text)

    def whole(self, text: str) -> str | None:
        """The code, where the text is nothing else."""
        found = _CODE.fullmatch(text)
        return None if found is None else self.codes[int(found[1])]

    def quoted(self, text: str) -> str:
        """The content of double quotes that means the text."""
        parts = _CODE.split(text)
        return "".join(
            f"#{{{self.codes[int(part)]}}}" if index % 2 else quote(part)[1:-1]
            for index, part in enumerate(parts)
        )


class _Comments:
    """Comments and empty lines by the item that they stand before or behind."""

    def __init__(self, found: list[tuple[int, str, bool]], anchors: list[int]) -> None:
        self.before: dict[int, list[str]] = {}
        self.after: dict[int, str] = {}
        self.tail: list[str] = []
        for line, text, alone in found:
            if not alone:
                index = bisect_right(anchors, line) - 1
                if index >= 0 and anchors[index] == line:
                    self.after[line] = text
                    continue
            index = bisect_left(anchors, line + 1)
            where = self.before.setdefault(anchors[index], []) if index < len(anchors) else self.tail
            where.append(text)


class _Conf(V1Parser):
    """Keeps comments and includes."""

    comments: list[tuple[int, str, bool]]

    def skip(self, pattern: re.Pattern[str]) -> str | None:
        start = self.at
        found = super().skip(pattern)
        if found is not None and "#" in found and found.lstrip().startswith("#"):
            for comment in _COMMENT.finditer(self.text, start, self.at):
                self._comment(comment.start(), comment[0])
        return found

    def _comment(self, offset: int, text: str) -> None:
        position = self.source.position(offset)
        alone = not self.source.line(position.line)[: position.column - 1].strip()
        self.comments.append((position.line, text.rstrip(), alone))

    def json_hash_sign(self, parts: list[str], start: int, *, in_string: bool) -> str:
        before = self.at
        found = super().json_hash_sign(parts, start, in_string=in_string)
        if found.startswith("\ue000") and not in_string:
            return f'"{found[:-1]}\ue002"'  # code that stands for a value, not for a part of a text
        if not found:
            self._comment(before, self.text[before : self.at])
        return found

    def json_value(self, text: str, start: int, what: str) -> str:
        return _BARE.sub("\ue000\\1\ue001", super().json_value(text, start, what))


class _Included(list[_Value]):
    """What `!include` gave, and its pattern."""

    pattern = ""


class _Yaml(YamlReader):
    """Keeps includes where sections stand."""

    def value(self, node: Any, source: Source, depth: int) -> _Value:
        if node.tag == "!include":
            found = _Included()
            found.pattern = str(node.value)
            return _Value(found, source.position(node.start_mark.index))
        return super().value(node, source, depth)

    def sections(self, value: _Value) -> Iterator[Element]:
        if isinstance(value.data, _Included):
            yield Element(INCLUDE, value.data.pattern, value.position)
        elif isinstance(value.data, list):
            for entry in value.data:
                single = isinstance(entry.data, _Included)
                yield from (
                    self.sections(entry) if single else super().sections(_Value([entry], value.position))
                )
        else:
            yield from super().sections(value)

    def entry(self, element: Element, name: str, position: Position, value: _Value) -> None:
        if isinstance(value.data, _Included):
            raise ConfigSyntaxError("an !include can be converted in a list of sections only", position)
        super().entry(element, name, position, value)


def _read_conf(source: Source, marks: _Marks) -> tuple[Element, list[tuple[int, str, bool]]]:
    root = Element("ROOT", "", source.position(0))

    def include(parser: V1Parser, element: Element, target: str, offset: int) -> None:
        if element.name not in _ORDERED:
            raise parser.error("an @include inside of this section has no counterpart in YAML", offset)
        element.elements.append(Element(INCLUDE, target, source.position(offset)))

    parser = _Conf(source, marks, Diagnostics(), include)
    parser.comments = []
    parser.body(root, top=True)
    return root, parser.comments


def _read_yaml(source: Source, marks: _Marks) -> tuple[Element, list[tuple[int, str, bool]]]:
    root = Element("ROOT", "", source.position(0))
    reader = _Yaml(marks, Diagnostics(), lambda pattern, position: [])
    value = reader.load(source)
    if value is not None and isinstance(value.data, list):
        root.elements.extend(reader.sections(value))  # a file that others include
    else:
        reader.read(source, root)
    comments: list[tuple[int, str, bool]] = []
    last = 0
    for token in yaml.scan(source.text, Loader=yaml.SafeLoader):
        for found in _COMMENT.finditer(source.text, last, max(last, token.start_mark.index)):
            position = source.position(found.start())
            alone = not source.line(position.line)[: position.column - 1].strip()
            comments.append((position.line, found[0].rstrip(), alone))
        last = max(last, min(token.end_mark.index, len(source.text)))
    return root, comments


def _anchors(root: Element, source: Source) -> list[int]:
    lines = {
        position.line
        for element in root.walk()
        for position in (element.position, *(param.position for param in element.params.values()))
        if position.source is source and not (element is root and position is root.position)
    }
    return sorted(lines)


def _shape(element: Element, marks: _Marks) -> Any:
    """What must be the same in both forms."""
    params = {name: marks.plain(param.value) for name, param in element.params.items()}
    children = [_shape(child, marks) for child in element.elements if child.name != INCLUDE]
    if element.name not in _ORDERED:
        children.sort(key=lambda child: str(child[0]))
    if element.name == "ROOT":
        children.sort(key=lambda child: child[0] != "system")
        params = {}
    return element.name, marks.plain(element.argument), params, children


def to_yaml(text: str, path: str = "<text>", *, suffix: str = ".yaml") -> Converted:
    """A configuration in YAML. `suffix`: what included files are called instead of `.conf`.

    Raises:
        ConfigError: the text is no configuration, or says what YAML cannot.
    """
    return _convert(text, path, suffix, yaml_form=True)


def to_conf(text: str, path: str = "<text>", *, suffix: str = ".conf") -> Converted:
    """A YAML configuration as fluent.conf. Raises as `to_yaml`."""
    return _convert(text, path, suffix, yaml_form=False)


def _convert(text: str, path: str, suffix: str, *, yaml_form: bool) -> Converted:
    source = Source(path, text)
    if (found := _MARKS.search(text)) is not None:
        raise ConfigSyntaxError(
            f"the private character U+{ord(found[0]):04X} cannot be converted", source.position(found.start())
        )
    marks = _Marks()
    read, again = (_read_conf, _read_yaml) if yaml_form else (_read_yaml, _read_conf)
    root, comments = read(source, marks)
    writer = (_YamlWriter if yaml_form else _ConfWriter)(
        marks, _Comments(comments, _anchors(root, source)), suffix
    )
    written = "\n".join([*writer.root(root), *writer.comments.tail]) + "\n"
    marks_again = _Marks()
    result, _ = again(Source("<converted>", written), marks_again)
    if _shape(result, marks_again) != _shape(root, marks):
        raise ConfigError(f"{path}: this configuration cannot be said in the other form without loss")
    return Converted(written, writer.notes)


class _Writer:
    def __init__(self, marks: _Marks, comments: _Comments, suffix: str) -> None:
        self.marks = marks
        self.comments = comments
        self.suffix = suffix
        self.notes: list[str] = []

    def note(self, text: str, position: Position) -> None:
        self.notes.append(f"{position.source.path}:{position.line}: {text}")

    def before(self, position: Position, indent: str) -> list[str]:
        return [indent + text for text in self.comments.before.pop(position.line, ())]

    def after(self, position: Position) -> str:
        text = self.comments.after.pop(position.line, "")
        return f"  {text}" if text else ""

    def target(self, element: Element) -> str:
        """What an include is called in the other form."""
        old = (".conf",) if self.suffix != ".conf" else (".yaml", ".yml")
        stem = next(
            (element.argument.removesuffix(end) for end in old if element.argument.endswith(end)), None
        )
        if stem is None:
            self.note(f"the included file {element.argument} must be converted too", element.position)
            return element.argument
        self.note(f"included: {stem}{self.suffix}; convert {element.argument} too", element.position)
        return stem + self.suffix

    def top_level(self, root: Element) -> None:
        for param in root.params.values():
            self.note(f"{param.name} at top level is used by nothing and left out", param.position)


class _YamlWriter(_Writer):
    def root(self, root: Element) -> list[str]:
        self.top_level(root)
        systems = [element for element in root.elements if element.name == "system"][:1]
        lines: list[str] = []
        for system in systems:
            lines += self.before(system.position, "")
            lines += self.named("system:", system, "  ")
        lines += ["config:", *self.listed([each for each in root.elements if each not in systems], "  ")]
        return lines if len(root.elements) > len(systems) else lines[:-1] or ["config: []"]

    def listed(self, elements: list[Element], indent: str) -> list[str]:
        lines: list[str] = []
        for element in elements:
            lines += self.before(element.position, indent)
            if element.name == INCLUDE:
                lines.append(
                    f"{indent}- !include {_scalar(self.target(element))}{self.after(element.position)}"
                )
            else:
                lines += self.named(f"{indent}- {element.name}:", element, indent + "    ")
        return lines

    def named(self, head: str, element: Element, indent: str) -> list[str]:
        after = self.after(element.position)
        body = self.body(element, indent)
        return (
            [head + after, *body]
            if any(line.strip()[:1] not in ("", "#") for line in body)
            else [f"{head} {{}}{after}", *body]
        )

    def body(self, element: Element, indent: str) -> list[str]:
        lines: list[str] = []
        keys: set[str] = set()

        def key(name: str, position: Position) -> str:
            if name in keys or _CODE.search(name):
                raise ConfigSyntaxError(f"YAML has no way to say a second {name!r} in one section", position)
            keys.add(name)
            return _scalar(name)

        if element.argument:
            name = key(_ARGUMENTS.get(element.name, "$arg"), element.position)
            lines.append(f"{indent}{name}: {self.value(element.argument, element.position)}")
        for param in element.params.values():
            lines += self.before(param.position, indent)
            name = key(_RESERVED.get(param.name, param.name), param.position)
            value = self.param(element, param)
            lines.append(f"{indent}{name}: {value}{self.after(param.position)}")
        if element.name in _NESTED:
            if element.elements:
                lines += [
                    f"{indent}{key('config', element.position)}:",
                    *self.listed(element.elements, indent + "  "),
                ]
            return lines
        for child_name in dict.fromkeys(child.name for child in element.elements):
            same = element.children(child_name)
            name = key(child_name, same[0].position)
            if len(same) == 1:
                lines += self.before(same[0].position, indent)
                lines += self.named(f"{indent}{name}:", same[0], indent + "  ")
                continue
            lines.append(f"{indent}{name}:")
            for child in same:
                lines += self.before(child.position, indent + "  ")
                if after := self.after(child.position).strip():
                    lines.append(f"{indent}  {after}")
                body = self.body(child, indent + "    ") or [f"{indent}    {{}}"]
                lines += [f"{indent}  - {body[0].lstrip()}", *body[1:]]
        return lines

    def param(self, element: Element, param: Parameter) -> str:
        text = param.value
        if text is None or (self.marks.whole(text) or "").strip() == "use_nil":
            return "null"
        if element.name in _TYPED and (text in ("true", "false") or _NUMBER.fullmatch(text)):
            return text
        if _CODE.search(text) is None and text[:1] in ("[", "{") and is_json(text):
            return (
                f"!fluent/json {text}"
                if yaml.safe_load(text) is not None and _same_json(text)
                else _scalar(text)
            )
        return self.value(text, param.position)

    def value(self, text: str, position: Position) -> str:
        if _CODE.search(text) is None:
            return _scalar(text)
        inner = self.marks.quoted(text)
        if "use_nil" in inner:
            self.note("where use_nil is reached, YAML gives an empty text", position)
        return f"!fluent/s {_scalar(inner, plain=False)}"


class _ConfWriter(_Writer):
    def root(self, root: Element) -> list[str]:
        self.top_level(root)
        lines: list[str] = []
        for element in root.elements:
            lines += self.section(element, "")
        return lines

    def section(self, element: Element, indent: str) -> list[str]:
        lines = self.before(element.position, indent)
        after = self.after(element.position)
        if element.name == INCLUDE:
            target = self.target(element)
            if PLAIN_ARGUMENT.fullmatch(target) is None:
                target = quote(target)
            return [*lines, f"{indent}@include {target}{after}"]
        if re.fullmatch(r"[a-zA-Z0-9_]+", element.name) is None:
            raise ConfigSyntaxError(f"{element.name!r} is no name for a section", element.position)
        argument = element.argument
        if _CODE.search(argument):
            argument = f'"{self.marks.quoted(argument)}"'
        elif argument and PLAIN_ARGUMENT.fullmatch(argument) is None:
            argument = quote(argument)
        lines.append(f"{indent}<{element.name}{' ' if argument else ''}{argument}>{after}")
        for param in element.params.values():
            lines += self.before(param.position, indent + "  ")
            name = param.name
            if PLAIN_NAME.fullmatch(name) is None and name not in _RESERVED:
                name = quote(name)
            if param.native is not None and not isinstance(param.native, list) and element.name not in _TYPED:
                self.note(
                    f"{param.name}: a {type(param.native).__name__} in YAML, a text in fluent.conf",
                    param.position,
                )
            lines.append(f"{indent}  {name} {self.value(param.value)}{self.after(param.position)}")
        for child in element.elements:
            lines += self.section(child, indent + "  ")
        return [*lines, f"{indent}</{element.name}>"]

    def value(self, text: str | None) -> str:
        if text is None:
            return '"#{use_nil}"'
        if _CODE.search(text):
            return f'"{self.marks.quoted(text)}"'
        if text[:1] in ("[", "{"):
            return text if is_json(text) else quote(text)
        return text if PLAIN.fullmatch(text) else quote(text)


def _same_json(text: str) -> bool:
    """Whether YAML reads the JSON as JSON does."""
    import json  # noqa: PLC0415

    try:
        return (
            bool(yaml.safe_load(text) == json.loads(text))
            and _MARKS.search(text) is None
            and text.isprintable()
        )
    except yaml.YAMLError:
        return False


def _scalar(text: str, *, plain: bool = True) -> str:
    """A text as a YAML scalar on one line."""
    if plain and text and text.isprintable():
        try:
            found = yaml.safe_load(f"- k: {text}")
            if found == [{"k": text}] and plain_scalar(text) == text and text != "<<":
                return text
        except (yaml.YAMLError, ValueError):
            pass
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or f"\\U{ord(char):08x}"

"""The effective configuration as text, with secrets masked: what `forwarder run` logs at its start."""

from __future__ import annotations

import re
from typing import Final

from forwarder.config.element import Element, Parameter
from forwarder.config.secrets import MASK, mask_value, secret_name

PLAIN: Final = re.compile(r"[^\s\"'\[{#][^\s#]*(?:[ \t]+[^\s#]+)*")
PLAIN_NAME: Final = re.compile(r"(?!include$)[^\s\"'<#@][^\s]*")
PLAIN_ARGUMENT: Final = re.compile(r"[^\s\"'>#][^\s>#]*(?: [^\s>#]+)*")
_ESCAPES: Final = {
    "\\": "\\\\",
    '"': '\\"',
    "\r": "\\r",
    "\t": "\\t",
    "\f": "\\f",
    "\b": "\\b",
    "\0": "\\0",
    "#": "\\#",
    "\n": "\\n",
}


def render(element: Element, *, masked: bool = True) -> str:
    """The configuration text of an element tree; reading it again gives the same tree.

    Args:
        masked: parameters declared secret, parameters with telling names, and credentials inside values
            are replaced by `xxxxxx`. Bind first: only then the declarations are known.
    """
    lines: list[str] = []
    if element.name == "ROOT":
        _body(element, 0, lines, masked=masked)
    else:
        _section(element, 0, lines, masked=masked)
    return "".join(line + "\n" for line in lines)


def _section(element: Element, depth: int, lines: list[str], *, masked: bool) -> None:
    indent = "  " * depth
    argument = mask_value(element.argument) if masked else element.argument
    if argument and PLAIN_ARGUMENT.fullmatch(argument) is None:
        argument = quote(argument)
    lines.append(f"{indent}<{element.name} {argument}>" if argument else f"{indent}<{element.name}>")
    _body(element, depth + 1, lines, masked=masked)
    lines.append(f"{indent}</{element.name}>")


def _body(element: Element, depth: int, lines: list[str], *, masked: bool) -> None:
    indent = "  " * depth
    for param in element.params.values():
        name = param.name
        if PLAIN_NAME.fullmatch(name) is None and not re.fullmatch(r"@[^\s\"']*", name):
            name = quote(name)
        lines.append(f"{indent}{name} {_value(element, param, masked=masked)}".rstrip(" "))
    for child in element.elements:
        _section(child, depth, lines, masked=masked)


def _value(element: Element, param: Parameter, *, masked: bool) -> str:
    if param.use_default:
        return '"#{use_default}"'
    if param.value is None:
        return '"#{use_nil}"'
    text = param.value
    if masked:
        if text and (param.name in element.secrets or secret_name(param.name)):
            return MASK
        text = mask_value(text)
    if not text:
        return '""' if param.position != param.value_position else ""
    if text[0] in "[{":
        # Either JSON that was JSON, or text that was quoted because it is none.
        return text if is_json(text) else quote(text)
    return text if PLAIN.fullmatch(text) else quote(text)


def masked(element: Element, param: Parameter) -> str | None:
    """A parameter's value as it may be shown."""
    if param.value and (param.name in element.secrets or secret_name(param.name)):
        return MASK
    return param.value and mask_value(param.value)


def is_json(text: str) -> bool:
    import json  # noqa: PLC0415

    try:
        return (
            json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) == text
            and "#" not in text
        )
    except (ValueError, RecursionError):
        return False


def quote(text: str) -> str:
    """The text in double quotes, so that it reads back the same."""
    return '"' + "".join(_ESCAPES.get(char, char) for char in text) + '"'

"""From a value's text to the declared type, as Fluentd converts.

Fluentd takes doubtful numbers silently ("12abc" is 12, "abc" is 0, "100ms" is 100 minutes). Here they give
the same value, and a remark that the caller shows as a warning (an error with `strict_config_value`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from forwarder.api.errors import ConfigError
from forwarder.api.parameters import Param
from forwarder.config.regexps import compile_regexp, idle_flags
from forwarder.config.ruby_json import loads

_INTEGER: Final = re.compile(r"[ \t]*[+-]?[0-9]+(?:_[0-9]+)*[ \t]*")
_LEADING_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+(?:_[0-9]+)*)")
_FLOAT: Final = re.compile(
    r"[ \t]*[+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*"
)
_LEADING_FLOAT: Final = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+(?:_[0-9]+)*)?|\.[0-9]+(?:_[0-9]+)*)"
    r"(?:[eE][+-]?[0-9]+(?:_[0-9]+)*)?)"
)
_SIZE: Final = re.compile(r"[0-9]+[kmgtKMGT][bB]?")
_SIZES: Final = (("k", 1024), ("m", 1024**2), ("g", 1024**3), ("t", 1024**4))
_TIME: Final = re.compile(r"[0-9]+[smhd]")
_TIMES: Final = (("s", 1), ("m", 60), ("h", 3600), ("d", 86400))
_COMMA: Final = re.compile(r"\s*,\s*")
_MAX_DIGITS: Final = 4000  # Python refuses longer ones


class Converted(NamedTuple):
    """A value, and what is odd about its text ("" if nothing)."""

    value: Any
    remark: str = ""


def convert(param: Param[Any], text: str) -> Converted:
    """The value of `text` for a declared parameter.

    Raises:
        ConfigError: the text cannot be such a value; the message says what was expected.
    """
    kind = param.kind
    if kind in ("string", "any"):
        return Converted(text)
    if kind == "enum":
        if text not in param.values:
            raise ConfigError(f"valid options are {', '.join(param.values)}, but got {text!r}")
        return Converted(text)
    if kind == "array":
        return _array(text, param.of)
    if kind == "hash":
        return _hash(text, param.of)
    if kind == "regexp":
        return Converted(compile_regexp(text), idle_flags(text))
    if kind == "expression":
        return Converted(text, idle_flags(text))
    return _scalar(kind, text)


def _scalar(kind: str, text: str) -> Converted:
    if kind == "bool":
        return _bool(text)
    if kind == "integer":
        return _integer(text)
    if kind == "float":
        return _float(text)
    if kind == "size":
        return _size(text)
    if kind == "time":
        return _time(text)
    if kind == "string":
        return Converted(text)
    raise ConfigError(f"plugin declares the unknown type {kind!r}")


def _bool(text: str) -> Converted:
    if text in ("true", "yes") or not text or text.startswith("#"):
        return Converted(True)
    if text in ("false", "no"):
        return Converted(False)
    raise ConfigError(f"expected a bool (true, false, yes, no), but got {text!r}")


def _integer(text: str) -> Converted:
    found = _LEADING_INTEGER.match(text)
    value = int(found[1][:_MAX_DIGITS]) if found else 0
    return Converted(
        value, "" if _INTEGER.fullmatch(text) else f"{text!r} is no integer; {value} is used, as in Fluentd"
    )


def _float(text: str) -> Converted:
    found = _LEADING_FLOAT.match(text)
    value = float(found[1]) if found else 0.0
    if value in (float("inf"), float("-inf")):
        raise ConfigError(f"the number {text} is too large")
    return Converted(
        value, "" if _FLOAT.fullmatch(text) else f"{text!r} is no number; {value} is used, as in Fluentd"
    )


def _size(text: str) -> Converted:
    for letter, factor in _SIZES:
        found = re.search(f"([0-9]+)[{letter}{letter.upper()}]", text)
        if found is not None:
            value = int(found[1][:_MAX_DIGITS]) * factor
            clean = _SIZE.fullmatch(text) is not None
            return Converted(value, "" if clean else _size_remark(text, value))
    value, remark = _integer(text)
    return Converted(value, remark and _size_remark(text, value))


def _size_remark(text: str, value: int) -> str:
    return f"{text!r} is no size (like 65536, 64k, 8m, 1g); {value} bytes is used, as in Fluentd"


def _time(text: str) -> Converted:
    for letter, factor in _TIMES:
        found = re.search(f"([0-9]+){letter}", text)
        if found is not None:
            value = float(found[1][:300]) * factor
            return Converted(value, "" if _TIME.fullmatch(text) else _time_remark(text, value))
    value, remark = _float(text)
    return Converted(value, remark and _time_remark(text, value))


def _time_remark(text: str, value: float) -> str:
    unit = "; milliseconds are written as 0.1" if text.strip().endswith("ms") else ""
    return f"{text!r} is no time (like 0.5, 10s, 5m, 1h, 1d); {value:g} s is used, as in Fluentd{unit}"


def _array(text: str, of: str | None) -> Converted:
    if text.startswith("["):
        items = _json(text)
    else:
        items = _COMMA.split(text.strip())
        while items and not items[-1]:
            items.pop()
    if not isinstance(items, list):
        raise ConfigError(f"array required, but got {text!r}")
    if of is None:
        return Converted(items)
    done = [_element(of, item) for item in items]
    return Converted([each.value for each in done], next((each.remark for each in done if each.remark), ""))


def _hash(text: str, of: str | None) -> Converted:
    items: Any
    if text.startswith("{"):
        items = _json(text)
        if not isinstance(items, dict):
            raise ConfigError(f"hash required, but got {text!r}")
    else:
        items = {}
        pairs = _COMMA.split(text.strip())
        while pairs and not pairs[-1]:
            pairs.pop()
        for pair in pairs:
            if not pair:
                raise ConfigError(f"expected a key and a value between two commas: {text!r}")
            key, colon, value = pair.partition(":")
            items[key] = value if colon else None
    if of is None:
        return Converted(items)
    for key, item in items.items():
        if item is None:
            raise ConfigError(f"{key!r} has no value: expected a hash like {key}:{of}")
    done = {key: _element(of, item) for key, item in items.items()}
    remark = next((each.remark for each in done.values() if each.remark), "")
    return Converted({key: each.value for key, each in done.items()}, remark)


def _json(text: str) -> Any:
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"expected JSON or a comma-separated list, but got {text!r}: {error}") from error


def _element(of: str, item: Any) -> Converted:
    """One item of a typed array or hash; JSON items come with a type of their own."""
    if item is None:
        return Converted(None)
    if of == "string":
        return Converted(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False))
    if isinstance(item, bool):
        if of == "bool":
            return Converted(item)
        raise ConfigError(f"expected {of}, but got {json.dumps(item)}")
    if isinstance(item, int | float):
        if of in ("float", "time"):
            return Converted(float(item))
        if of in ("integer", "size"):
            return Converted(int(item))
    if of == "regexp" and isinstance(item, str):
        return Converted(compile_regexp(item))
    if not isinstance(item, str):
        raise ConfigError(f"expected {of}, but got {json.dumps(item)}")
    return _scalar(of, item)

"""Values as Fluentd converts them, and Ruby regexps as Python ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.api import ConfigError
from forwarder.api.parameters import Param
from forwarder.config.regexps import compile_regexp
from forwarder.config.types import convert


def param(kind: str, of: str | None = None) -> Param[Any]:
    return Param(kind, "", None, of=of, values=("one", "two") if kind == "enum" else ())


CLEAN = [
    ("string", "12 a", "12 a"),
    ("integer", "12", 12),
    ("integer", "-1_000", -1000),
    ("float", ".5", 0.5),
    ("float", "-.5e1", -5.0),
    ("time", ".5", 0.5),
    ("float", "1.5e3", 1500.0),
    ("float", "3", 3.0),
    ("bool", "true", True),
    ("bool", "yes", True),
    ("bool", "", True),
    ("bool", "# a comment", True),
    ("bool", "false", False),
    ("bool", "no", False),
    ("enum", "two", "two"),
    ("size", "100", 100),
    ("size", "8k", 8192),
    ("size", "8M", 8 << 20),
    ("size", "1g", 1 << 30),
    ("size", "2t", 2 << 40),
    ("size", "5MB", 5 << 20),
    ("time", "10", 10.0),
    ("time", "0.5", 0.5),
    ("time", "10s", 10.0),
    ("time", "2m", 120.0),
    ("time", "1h", 3600.0),
    ("time", "1d", 86400.0),
    ("array", "a, b ,c", ["a", "b", "c"]),
    ("array", "a", ["a"]),
    ("array", "", []),
    ("array", "a,,", ["a"]),
    ("array", '["a", 1, null]', ["a", 1, None]),
    ("hash", "a:1, b:x:y", {"a": "1", "b": "x:y"}),
    ("hash", "", {}),
    ("hash", "a", {"a": None}),
    ("hash", '{"a": {"b": 1}}', {"a": {"b": 1}}),
    ("expression", "/^(?<a>.)$/mi", "/^(?<a>.)$/mi"),
    ("any", "x", "x"),
]


@pytest.mark.parametrize(("kind", "text", "expected"), CLEAN)
def test_converted(kind: str, text: str, expected: Any) -> None:
    value, remark = convert(param(kind), text)
    assert value == expected
    assert type(value) is type(expected)
    assert remark == ""


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("integer", "12abc", 12),
        ("integer", "abc", 0),
        ("integer", "", 0),
        ("integer", "0x1f", 0),
        ("integer", "1.5", 1),
        ("float", "1.5x", 1.5),
        ("float", "x", 0.0),
        ("float", ".5x", 0.5),
        ("float", "1e1_0", 1e10),
        ("size", "lots", 0),
        ("size", "1.5k", 5120),
        ("size", "12 bytes", 12),
        ("time", "soon", 0.0),
        ("time", "100ms", 6000.0),
        ("time", "1.5s", 5.0),
        ("time", "1h30m", 1800.0),
    ],
)
def test_doubtful_numbers_are_fluentds_with_a_remark(kind: str, text: str, expected: float) -> None:
    value, remark = convert(param(kind), text)
    assert value == expected
    assert repr(text) in remark


@pytest.mark.parametrize(
    ("of", "kind", "text", "expected"),
    [
        ("integer", "array", "1,2", [1, 2]),
        ("integer", "array", "[1, 2.7, null]", [1, 2, None]),
        ("string", "array", '["a", 1, true]', ["a", "1", "true"]),
        ("bool", "hash", "a:true,b:no", {"a": True, "b": False}),
        ("size", "array", "1k", [1024]),
        ("time", "hash", '{"a":"5m"}', {"a": 300.0}),
        ("float", "hash", '{"a":1}', {"a": 1.0}),
    ],
)
def test_typed_items(of: str, kind: str, text: str, expected: Any) -> None:
    assert convert(param(kind, of), text) == (expected, "")


@pytest.mark.parametrize(
    ("kind", "of", "text", "mention"),
    [
        ("bool", None, "maybe", "maybe"),
        ("bool", None, "True", "True"),
        ("float", None, "1e400", "too large"),
        ("time", None, "1e400", "too large"),
        ("enum", None, "three", "one, two"),
        ("enum", None, "ONE", "ONE"),
        ("array", None, "[1", "JSON"),
        ("hash", None, "{x", "JSON"),
        ("array", "integer", "[true]", "integer"),
        ("hash", "string", "ninteger", "'ninteger' has no value"),
        ("array", "integer", "[[1]]", "integer"),
        ("regexp", None, "/(/", "regexp"),
        ("regexp", None, "/a", "slash"),
        ("expression", None, "/a", "slash"),
        ("strange", None, "x", "strange"),
    ],
)
def test_refused(kind: str, of: str | None, text: str, mention: str) -> None:
    with pytest.raises(ConfigError, match=mention):
        convert(param(kind, of), text)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        ["integer", "float", "bool", "size", "time", "array", "hash", "regexp", "enum", "expression"]
    ),
    st.none() | st.sampled_from(["integer", "size", "time", "bool", "string", "float"]),
    st.text(st.sampled_from('0123456789kmgtshd.,:-_e[]{}"/()\\?<>a^$ '), max_size=12) | st.text(max_size=12),
)
def test_any_text_converts_or_is_a_config_error(kind: str, of: str | None, text: str) -> None:
    expected = {
        "integer": int,
        "size": int,
        "float": float,
        "time": float,
        "bool": bool,
        "array": list,
        "hash": dict,
    }
    try:
        value, _ = convert(param(kind, of), text)
    except ConfigError as error:
        problem = error.message
        assert problem
    else:
        assert isinstance(value, expected.get(kind, object))


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("/^a$/", "x\na\ny", "ab"),
        ("a.b", "a.b", "a\nb"),
        ("/a.b/m", "a\nb", "ab"),
        ("/AB/i", "xab", "b"),
        ("/a b/x", "a b", "ab"),
        ("/(?x)a b # c/", "ab", "a b"),
        ("/AB/gi", "ab", "b"),
        (r"/\A\h+\z/", "09af", "g"),
        (r"/\A[\h-]+\z/", "0-f", "g"),
        (r"/\A[[:alpha:]_]+\z/", "ab_", "a1"),
        (r"/\A\p{Digit}\P{Digit}\z/", "1a", "11"),
        (r"/(?<x>.)\k<x>/", "aa", "ab"),
        (r"/\A(?:a(?i)b)c\z/", "aBc", "aBC"),
        (r"/\A(?i:a)b\z/", "Ab", "AB"),
        (r"/\A(?m:.)\z/", "\n", ""),
        (r"/\A(?>a+)b\z/", "aab", "aa"),
        (r"/(?<!a)b/", "cb", "ab"),
        (r"/\Aa(?# comment)b\z/", "ab", "a"),
        ("/[+--]/", ",", "."),
        (r"/a\/b/", "a/b", "a\\/b"),
        (r"/\A\d\w\s\z/", "1_ ", "\u0661_ "),
        (r"/\A[^]]\z/", "a", "]"),
        (r"/\A\R\z/", "\r\n", "a"),
        (r"/a\Z/", "a\n", "a\nb"),
    ],
)
def test_regexp(text: str, matching: str, other: str) -> None:
    pattern = compile_regexp(text)
    assert pattern.search(matching)
    assert not pattern.search(other)


@pytest.mark.parametrize(
    "text", [r"/\g<a>/", r"/\K/", "/(?~a)/", "/[a&&b]/", "/[[:nope:]]/", r"/\p{Han}/", "/*/"]
)
def test_regexp_that_python_has_not(text: str) -> None:
    with pytest.raises(ConfigError, match="regexp"):
        compile_regexp(text)

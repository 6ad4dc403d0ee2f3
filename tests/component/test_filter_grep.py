"""Filter `grep` through configuration text."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run


def driver(parameters: str) -> Driver:
    return run(
        f"""
        <filter t>
          @type grep
          {parameters}
        </filter>
        <match t>
          @type test
        </match>
        """
    )


def one(kind: str, key: str, pattern: str) -> str:
    return f"<{kind}>\nkey {key}\npattern {pattern}\n</{kind}>\n"


A = one("regexp", "a", "/1/")
B = one("regexp", "b", "/2/")
NOT_A = one("exclude", "a", "/1/")
NOT_B = one("exclude", "b", "/2/")
BOTH, ONLY_A, ONLY_B, NONE = {"a": "1", "b": 2}, {"a": "1", "b": "x"}, {"b": 12}, {"c": 1}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", [BOTH, ONLY_A, ONLY_B, NONE]),
        (A, [BOTH, ONLY_A]),
        (A + B, [BOTH]),
        (f"<and>\n{A}{B}</and>", [BOTH]),
        (f"<or>\n{A}{B}</or>", [BOTH, ONLY_A, ONLY_B]),
        (NOT_A, [ONLY_B, NONE]),
        (NOT_A + NOT_B, [NONE]),
        (f"<or>\n{NOT_A}{NOT_B}</or>", [NONE]),
        (f"<and>\n{NOT_A}{NOT_B}</and>", [ONLY_A, ONLY_B, NONE]),
        (A + NOT_B, [ONLY_A]),
        ("regexp1 a 1\nregexp20 b ^2$", [BOTH]),
        ("exclude1 a 1\nexclude2 b 2", [NONE]),
        (one("regexp", "c", "^$"), [BOTH, ONLY_A, ONLY_B]),
    ],
)
def test_conditions(parameters: str, expected: list[dict[str, Any]]) -> None:
    with driver(parameters) as engine:
        for record in (BOTH, ONLY_A, ONLY_B, NONE):
            engine.emit("t", record)
        assert engine.records() == expected


def test_keys_may_be_accessors() -> None:
    with driver(one("regexp", "$.k.l[1]", "/^b$/")) as engine:
        engine.emit("t", {"k": {"l": ["a", "b"]}})
        engine.emit("t", {"k": {"l": ["b"]}, "$.k.l[1]": "b"})
        assert engine.records() == [{"k": {"l": ["a", "b"]}}]


@pytest.mark.parametrize(
    ("parameters", "mention"),
    [
        ("regexp1 a", "regexp1"),
        ("regexp1 a 1\nregexp2 a 2", "regexp2"),
        ("exclude1 a 1\n" + NOT_A, "duplicate key: a"),
        (A + A, "duplicate key: a"),
        (f"<and>\n{A}{NOT_B}</and>", "<and>"),
        (f"<or>\n{A}{NOT_B}</or>", "<or>"),
        (f"<or>\n{A}{A}</or>", "duplicate key in <or>: a"),
        (one("regexp", "a", "/(/"), "regexp"),
        (one("regexp", "$.a[", "/a/"), "$.a["),
        ("<regexp>\nkey a\n</regexp>", "pattern"),
    ],
)
def test_refused(parameters: str, mention: str) -> None:
    with pytest.raises(ConfigError) as refused:
        driver(parameters)
    assert mention in str(refused.value)

"""The shared conformance suite: what real Fluentd did with a configuration and an input.

Runs the cases whose configuration uses only plugins that exist here, so the coverage grows with the plugins.
The suite is beside the checkout (`../shared/conformance`), or where FORWARDER_SHARED says.
A few cases run by default; all of them with `-m ''` (`make test-all`).
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.core.registry import KINDS, Registry

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FORWARDER_SHARED", ROOT.parent / "shared"))
SUITE = SHARED / "conformance"
FORWARDER = Path(sys.executable).parent / "forwarder"

# Section -> kind of plugin that its @type names.
SECTIONS = {
    "source": "input",
    "match": "output",
    "store": "output",
    "secondary": "output",
    "filter": "filter",
    "parse": "parser",
    "format": "formatter",
    "buffer": "buffer",
    "storage": "storage",
    "service_discovery": "service_discovery",
}
BUFFERS = {"memory", "file", "file_single"}

# Differences from Fluentd that are meant, by case, with the reason. A case here must fail: one that passes
# again is taken out.
DIFFERENT: dict[str, str] = {}

# Every so-manieth case runs by default: a sample of all areas that fits the default suite's time.
DEFAULT_STEP = 5


def types_in(text: str, yaml: bool) -> set[tuple[str, str]]:
    """(kind, type) of every plugin that a configuration names; kind is "" where the text does not tell."""
    if yaml:
        return {("", name) for name in re.findall(r"^[\s-]*\$type:\s*[\"']?(\w+)", text, re.MULTILINE)}
    found = set()
    stack: list[str] = []
    for line in text.splitlines():
        if opened := re.match(r"\s*<(\w+)[^>]*>", line):
            stack.append(opened[1])
        elif re.match(r"\s*</", line) and stack:
            stack.pop()
        elif named := re.match(r"\s*(?:@type|type)\s+[\"']?([\w-]+)", line):
            section = stack[-1] if stack else ""
            if section in SECTIONS and (section != "store" or "match" in stack):
                found.add((SECTIONS[section], named[1]))
    return found


def fluentd_types() -> set[tuple[str, str]]:
    """What Fluentd and its common plugins have; another type is a mistake that a case makes on purpose."""
    parameters = SHARED / "fluentd-params.json"
    if not parameters.exists():
        return set()
    known = set()
    for package in json.loads(parameters.read_text())["plugins"].values():
        for kind, names in package.items():
            known |= {(kind, name) for name in names}
    return known


def missing_types(case: Path, registry: Registry, known: set[tuple[str, str]]) -> list[str]:
    """The plugin types of a case that do not exist here (but do in Fluentd)."""
    files = [*case.glob("fluent.*"), *(path for path in case.glob("files/**/*") if path.is_file())]
    missing = set()
    for file in files:
        yaml = file.suffix in (".yaml", ".yml")
        for kind, name in types_in(file.read_text(errors="replace"), yaml):
            if kind == "buffer":
                there = name in BUFFERS
            else:
                kinds = [kind] if kind in KINDS else list(KINDS) if not kind else []
                there = any(name in registry.names(each) for each in kinds)
            if not there and (not known or not kind or (kind, name) in known):
                missing.add(f"{kind or 'plugin'} {name}")
    return sorted(missing)


def applicable() -> list[str]:
    if not SUITE.is_dir():
        return []
    registry, known = Registry(), fluentd_types()
    cases = sorted(path for path in (SUITE / "cases").iterdir() if (path / "expected.json").exists())
    return [case.name for case in cases if not missing_types(case, registry, known)]


CASES = applicable()


@pytest.mark.skipif(bool(CASES), reason="the suite is there")
def test_the_suite_is_there() -> None:
    pytest.skip(f"no conformance suite at {SUITE}; set FORWARDER_SHARED to the folder that has it")


@pytest.mark.skipif(not CASES, reason="no conformance suite")
def test_listed_differences_exist() -> None:
    names = {path.name for path in (SUITE / "cases").iterdir()}
    assert set(DIFFERENT) <= names


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.slow] if i % DEFAULT_STEP else [])
        for i, name in enumerate(CASES)
    ],
)
def test_case(case: str) -> None:
    command = shlex.join([str(FORWARDER), "run", "-c", "{conf}"])
    done = subprocess.run(
        # One retry: the cases send over the real network and wait for a limited time.
        [sys.executable, SUITE / "run.py", "--cmd", command, "--jobs", "1", "--retry", "1", "--only", case],
        check=False,
        capture_output=True,
        text=True,
    )
    outcome = done.stdout + done.stderr
    assert re.search(r"^\d+ passed, \d+ failed$", outcome, re.MULTILINE), outcome
    if case in DIFFERENT:
        assert done.returncode != 0, f"behaves as Fluentd now: take it out of DIFFERENT ({DIFFERENT[case]})"
        return
    assert done.returncode == 0, outcome


@pytest.mark.parametrize(
    ("text", "yaml", "types"),
    [
        (
            "<source>\n  @type udp\n  <parse>\n    @type 'json'\n",
            False,
            {("input", "udp"), ("parser", "json")},
        ),
        (
            "<match **>\n @type file\n <buffer>\n  @type file\n",
            False,
            {("output", "file"), ("buffer", "file")},
        ),
        (
            "<match **>\n @type copy\n <store>\n  @type null\n",
            False,
            {("output", "copy"), ("output", "null")},
        ),
        ("<filter **>\n @type grep\n <regexp>\n  key type\n", False, {("filter", "grep")}),
        ("# @type udp\n<system>\n  @type x\n</system>", False, set()),
        ("- source:\n    $type: udp\n- match:\n    $type: 'null'\n", True, {("", "udp"), ("", "null")}),
    ],
)
def test_types_are_found(text: str, yaml: bool, types: set[tuple[str, str]]) -> None:
    assert types_in(text, yaml) == types

"""Every parameter of Fluentd's plugins is implemented, or refused by an explicit reason.

The table is docs/fluentd-parameters.json, made by docs/tools/fluentd_parameters.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forwarder.core.refused import PLUGINS
from forwarder.core.registry import KINDS, Registry

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FORWARDER_SHARED", ROOT.parent / "shared")) / "fluentd-params.json"


def tool(name: str) -> ModuleType:
    """A module of docs/tools."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


compatibility = tool("compatibility")
FOUND = compatibility.compare(Registry())


@pytest.mark.parametrize("plugin", sorted(name for name, found in FOUND.items() if found is not None))
def test_every_parameter_is_declared_as_in_fluentd(plugin: str) -> None:
    wrong = [
        f"{each.path}: {each.state} {each.detail}"
        for each in FOUND[plugin]
        if each.state in ("missing", "type", "default") and compatibility.meant(each) is None
    ]
    assert wrong == [], f"{plugin}: declare them (with unsupported='why' where they cannot be honoured)"


def test_every_plugin_exists_or_is_refused_by_name() -> None:
    absent = {name for name, found in FOUND.items() if found is None}
    refused = {f"{kind} {name}" for kind, name in PLUGINS}
    assert absent - refused == set(), "neither built nor in forwarder/core/refused.py"
    assert refused - absent == set(), "exists: take it out of forwarder/core/refused.py"


def test_every_refusal_has_a_reason() -> None:
    refused = [each for found in FOUND.values() for each in found or () if each.state == "refused"]
    assert refused
    assert [each.path for each in refused if len(each.detail) < 10] == []
    # that nobody has done it so far is no reason
    excuses = ("yet", "not implemented", "not built", "not available")
    assert [each for each in refused if any(excuse in each.detail for excuse in excuses)] == []


def test_every_meant_difference_exists() -> None:
    findings = [
        each
        for found in FOUND.values()
        for each in found or ()
        if each.state in ("missing", "type", "default")
    ]
    used = {compatibility.meant(each) for each in findings}
    assert [why for _, _, why in compatibility.MEANT if why not in used] == []


@pytest.mark.parametrize(("kind", "name"), sorted(PLUGINS))
def test_a_refused_plugin_is_refused_by_its_reason(kind: str, name: str) -> None:
    with pytest.raises(Exception, match="is not supported: "):
        Registry().load(kind, name)


def test_the_table_is_made_of_the_shared_one() -> None:
    if not SHARED.exists():
        pytest.skip(f"no {SHARED}")
    made = tool("fluentd_parameters").compact(json.loads(SHARED.read_text()))
    assert compatibility.table() == made


def test_the_comparison_sees_what_is_missing_or_different() -> None:
    table = compatibility.table()
    table["plugins"] = {
        "input udp": {
            "package": "fluentd",
            "params": {
                "port": ["string", 5160], "bind": ["string", "::"], "tag": ["string", "x"],
                "new": ["bool", True],
            },
            "sections": {"parse": "parse", "nothing": "parse"},
        }
    }  # fmt: skip
    found = compatibility.compare(Registry(), table)["input udp"]
    assert {(each.path, each.state) for each in found} == {
        ("port", "type"), ("bind", "default"), ("tag", "default"), ("new", "missing"),
        ("<nothing>", "missing"),
    }  # fmt: skip


def test_kinds_are_known() -> None:
    kinds = {name.split()[0] for name in FOUND} - {"system"}
    assert kinds == {*KINDS, "buffer", "storage", "service_discovery", "metrics"}


def test_the_generated_pages_have_every_plugin_and_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "tools"))
    registry = Registry()
    pages = tool("generate").pages(registry)
    for kind in KINDS:
        page = pages[f"reference/{kind}s.md"]
        assert [name for name in registry.names(kind) if f"\n## {name}\n" not in page] == []
    assert "| `message_length_limit` | size | `2048` |" in pages["reference/inputs.md"]
    assert all(f"| {plugin} |" in pages["compatibility.md"] for plugin in FOUND)
    assert json.loads(pages["reference/forwarder.schema.json"])["definitions"]["input.udp"]["properties"][
        "port"
    ]
    assert (ROOT / "docs" / "compatibility.md").exists()

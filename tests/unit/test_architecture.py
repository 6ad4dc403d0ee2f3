"""The arrows of ARCHITECTURE.md: which room may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# room -> what of ours it may import besides itself. Rooms without an entry are not restricted.
ALLOWED = {
    "api": {"_native"},
    "config": {"api"},
    "core": {"_native", "api", "buffer", "config", "telemetry"},
    "buffer": {"_native", "api"},
    "telemetry": {"api"},
    "runtime": {"_native", "api", "buffer", "config", "core", "telemetry"},
    "cli": {"_native", "api", "buffer", "config", "core", "runtime", "telemetry"},
    "parsers": {"_native", "api"},
    "plugins": {"_native", "api"},
}
PLUGIN_ROOMS = {"parsers", "plugins"}
# The test driver for plugin authors runs whole configurations; only tests import it, never the engine.
DRIVERS = {"forwarder/api/testing.py"}
# Tests of the examples that `forwarder new` makes packages of; the engine imports none of them.
EXAMPLES = "forwarder/cli/templates/test_"


def folder(room: str) -> Path:
    return ROOT / room if room in PLUGIN_ROOMS else ROOT / "forwarder" / room


def imported_rooms(text: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of `forwarder` in `text`, which is a module in `package`."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            # `from forwarder import core` names the room in the list of names
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "forwarder" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "forwarder" and len(parts) > 1 and parts[1] in {*ALLOWED, "_native"}:
                yield node.lineno, parts[1]


def violations(room: str) -> list[str]:
    found = []
    for file in sorted(folder(room).rglob("*.py")):
        if str(file.relative_to(ROOT)) in DRIVERS:
            continue
        relative = file.relative_to(folder(room)).parent.parts
        package = ".".join(["forwarder", room, *relative])
        for line, target in imported_rooms(file.read_text(), package):
            if target != room and target not in ALLOWED[room]:
                found.append(f"{file.relative_to(ROOT)}:{line} imports forwarder.{target}")
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert list(folder(room).rglob("*.py")), f"{room} has no modules: is the room's name still right?"
    assert violations(room) == []


def test_only_tests_import_a_driver() -> None:
    found = []
    for file in sorted((ROOT / "forwarder").rglob("*.py")):
        name = str(file.relative_to(ROOT))
        exempt = name in DRIVERS or name.startswith(EXAMPLES)
        for node in () if exempt else ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("api.testing"):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_every_room_is_known() -> None:
    rooms = {path.name for path in (ROOT / "forwarder").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ALLOWED)


def test_no_plugin_imports_another_kind_of_plugin() -> None:
    """Different kinds meet through the engine; a plugin may build on its neighbour in the folder, and on
    parts of its own in a folder below."""
    found = []
    for room in sorted(PLUGIN_ROOMS):
        for file in sorted(folder(room).rglob("*.py")):
            package = ".".join(["forwarder", room, *file.relative_to(folder(room)).parent.parts])
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.ImportFrom):
                    continue
                module = "" if node.level else node.module or ""
                ours = module.startswith(("forwarder.parsers", "forwarder.plugins"))
                near = module.rpartition(".")[0]
                if ours and package not in (near, module) and not near.startswith(f"{package}."):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno} imports {module}")
    assert found == []


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("import forwarder.core.engine", ["core"]),
        ("from forwarder import core, api", ["core", "api"]),
        ("from forwarder.buffer.memory import X", ["buffer"]),
        ("from ..core import engine", ["core"]),
        ("from . import helper", ["cli"]),
        ("def f():\n    from forwarder.plugins.inputs import in_udp", ["plugins"]),
        ("import os, forwarderish", []),
    ],
)
def test_the_check_sees_imports(text: str, rooms: list[str]) -> None:
    assert [room for _, room in imported_rooms(text, "forwarder.cli")] == rooms

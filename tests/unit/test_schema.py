"""`forwarder schema`: what runs is valid, what is wrong is not, and everything declared is in it."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from forwarder.api import ConfigError
from forwarder.api.parameters import Param, SectionParam, declarations
from forwarder.cli.main import main
from forwarder.cli.schema import schema
from forwarder.config import Diagnostics, parse_text, read_structure
from forwarder.config.convert import to_yaml
from forwarder.config.system import SystemConfig
from forwarder.core.build import build
from forwarder.core.registry import KINDS, Registry

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FORWARDER_SHARED", ROOT.parent / "shared")) / "conformance" / "cases"
REGISTRY = Registry()
REGISTRY.add_directory(str(ROOT / "docs" / "examples"))  # the plugin guide uses them
SCHEMA = schema(REGISTRY)
VALIDATOR = Draft7Validator(SCHEMA)


class Loader(yaml.SafeLoader):
    """Reads Fluentd's tags as what they hold, as an editor does that was told their names."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


yaml.add_multi_constructor("!", _tagged, Loader)


def errors(text: str) -> list[str]:
    loaded = yaml.load(text, Loader)  # a SafeLoader
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in VALIDATOR.iter_errors(loaded)]


def of_pages() -> dict[str, str]:
    """Configurations of the documentation and of docker/, as YAML."""
    found: dict[str, str] = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            if text.startswith(("system:", "config:")):
                found[f"{page.name} {number}"] = text
        for number, text in enumerate(re.findall(r"```\n(<\w+.*?)```", page.read_text(), re.DOTALL)):
            if "..." not in text:
                found[f"{page.name} conf {number}"] = text
    for path in sorted((ROOT / "docker").rglob("*.conf")):
        found[str(path.relative_to(ROOT))] = path.read_text()
    return {
        name: text if text.startswith(("system:", "config:")) else to_yaml(text, "fluent.conf").text
        for name, text in found.items()
    }


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


PAGES = of_pages()


@pytest.mark.parametrize("name", PAGES)
def test_documented_configurations_are_valid(name: str) -> None:
    assert errors(PAGES[name]) == []


def test_shared_configurations_that_run_without_a_remark_are_valid() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no conformance suite at {SHARED}")
    checked, wrong = 0, {}
    for path in sorted(SHARED.glob("*/fluent.conf")):
        diagnostics = Diagnostics()
        config = re.sub(r"@PORT\d?@", "24224", path.read_text()).replace("0.3s", "3s")
        try:
            root = parse_text(config, str(path), diagnostics)
            structure = read_structure(root, diagnostics)
            build(root, diagnostics=diagnostics, structure=structure, registry=Registry(), check_only=True)
            text = to_yaml(config, str(path)).text
        except ConfigError:
            continue
        if diagnostics.items:
            continue  # an unknown name, an old form: the schema is narrower on purpose
        checked += 1
        if found := errors(text):
            wrong[path.parent.name] = found
    assert wrong == {}
    assert checked > 15


def source(text: str) -> str:
    return f"config:\n  - source: {{$type: udp, tag: t, parse: {{$type: none}}, {text}}}\n"


@pytest.mark.parametrize("text", [
    "port: 5140", "port: '5140'", 'port: !fluent/s "#{ENV[\'PORT\']}"',
    "$id: a", "$label: '@L'", "$log_level: warn",
    "message_length_limit: 64k", "source_hostname_key: null",
    "transport: {$arg: udp}",
])  # fmt: skip
def test_right_values(text: str) -> None:
    assert errors(source(text)) == []


@pytest.mark.parametrize("text", [
    "port: many", "prt: 5140", "message_length_limit: 5q", "$log_level: loud", "port: {a: 1}", "port: null",
    "buffer: {timekey: 1d}", "parse: none",
])  # fmt: skip
def test_wrong_values(text: str) -> None:
    assert errors(source(text))


@pytest.mark.parametrize("text", [
    "config: {source: {}}",
    "configs: []",
    "config: [{source: {$type: nowhere}}]",
    "config: [{source: {tag: t}}]",
    "config: [{source: {$type: stdout}}]",  # an output
    "config: [{match: {$type: copy}}]",  # without a <store>
    "config: [{label: {config: []}}]",
    "config: [{label: {$name: '@L', config: [{source: {$type: sample, tag: t}}]}}]",
    "config: [{match: {$type: file, path: x, buffer: {flush_mode: never}}}]",
    "config: [{match: {$type: file, path: x, secondary: {$type: secondary_file, directory: x, tag: y}}}]",
    "system: {workers: few}",
    "system: {wrkers: 2}",
])  # fmt: skip
def test_wrong_structure(text: str) -> None:
    assert errors(text)


@pytest.mark.parametrize("text", [
    "",
    "system: {workers: 2, log: {format: json}}",
    "config: [!include more/*.yaml]",
    "config: [{worker: {$arg: 0-1, config: [{source: {$type: sample, tag: t}}]}}]",
    "config: [{match: {$tag: [a.*, b], $type: copy, store: [{$type: stdout}, {$type: file, path: x}]}}]",
    "config: [{match: {$type: copy, store: {$type: stdout, $arg: ignore_error}}}]",
    "config: [{filter: {$type: record_transformer, record: {a: 1, b: [c], d: null}}}]",
    "config: [{match: {$type: file, path: x, buffer: {$type: file, $arg: [tag, time], timekey: 1d}}}]",
    "config: [{match: {$type: file, path: x, secondary: {path: y}}}]",  # of its owner's type
])  # fmt: skip
def test_right_structure(text: str) -> None:
    assert errors(text) == []


def check_declared(cls: type[Any], definition: dict[str, Any]) -> int:
    """That every parameter is there, with type, default and description, below `definition`; how many."""
    count = 0
    for name, value in declarations(cls).items():
        written = (value.section_name or name) if isinstance(value, SectionParam) else name
        made = definition["properties"][written]
        made = next(
            each
            for each in [*made.get("anyOf", []), made]
            if each.get("description", "").startswith(value.doc)
        )
        if isinstance(value, Param):
            assert ("default" in made) == (not value.required and value.obsolete is None), (cls, name)
            assert {"allOf", "anyOf", "enum", "not"} & set(made), (cls, name)
            if value.alias is not None:
                assert definition["properties"][value.alias.replace("@", "$")] == made
            count += 1
        elif value.section is not None:
            (target, *_) = re.findall(r"#/definitions/(section[.\w]+)", json.dumps(made))
            count += check_declared(value.section, SCHEMA["definitions"][target])
    return count


def test_every_parameter_is_there_with_type_default_and_description() -> None:
    count = check_declared(SystemConfig, SCHEMA["definitions"]["section.SystemConfig"])
    for kind in KINDS:
        for name in REGISTRY.names(kind):
            definition = SCHEMA["definitions"][f"{kind}.{name}"]
            assert definition["description"], name
            count += check_declared(REGISTRY.load(kind, name), definition)
    assert count > 800


def test_the_command_takes_plugins_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "-p", str(ROOT / "docs" / "examples")]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["definitions"]["parser.pairs"]["properties"]["separator"]["default"] == ";"
    assert "pairs" in made["definitions"]["parser"]["properties"]["$type"]["enum"]


@pytest.mark.parametrize("words", [["check"], ["convert"]])
def test_without_pyyaml_the_message_says_what_to_install(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("forwarder.config.yaml_syntax", "forwarder.config.convert"):
        importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "fluent.yaml"
    path.write_text("config: []\n")
    assert main([*words, str(path)]) == 1
    done = capsys.readouterr()
    assert "needs PyYAML: pip install 'forwarder[yaml]'" in done.out + done.err

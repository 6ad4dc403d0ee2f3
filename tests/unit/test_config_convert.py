"""`forwarder convert`: what is read from the converted text is what was read before."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.api import ConfigError
from forwarder.cli.main import main
from forwarder.config import Element, parse_text
from forwarder.config.convert import to_conf, to_yaml
from forwarder.config.diagnostics import ConfigSyntaxError
from forwarder.config.render import quote

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FORWARDER_SHARED", ROOT.parent / "shared")) / "conformance" / "cases"
ENV = {"T_Y": "yes!", "T_EMPTY": ""}
ORDERED = ("ROOT", "label", "worker")


def tree(element: Element) -> Any:
    """What must not change. The order of sections counts at top level and in labels."""
    params = {name: (param.value, param.use_default) for name, param in element.params.items()}
    children = [tree(child) for child in element.elements]
    if element.name not in ORDERED:
        children.sort(key=lambda child: child[0])
    if element.name == "ROOT":
        params = {}
        children.sort(key=lambda child: child[0] != "system")
    return element.name, element.argument, params, children


def parse(text: str, name: str) -> Any:
    return tree(parse_text(text, name, env=ENV))


CASES = sorted(path for path in SHARED.glob("*/fluent.*")) if SHARED.is_dir() else []


def test_all_shared_configurations_there_and_back() -> None:
    if not CASES:
        pytest.skip(f"no conformance suite at {SHARED}")
    converted = 0
    wrong = []
    for path in CASES:
        text = path.read_text()
        yaml = path.suffix != ".conf"
        try:
            before = parse(text, str(path))
            there, notes = (to_conf if yaml else to_yaml)(text, str(path))
            back = (to_yaml if yaml else to_conf)(there, str(path)).text
        except ConfigError:
            continue  # the case is about an error, or see test_what_cannot_be_said
        if "include" in text:
            continue  # would read files of the other form
        if any("where use_nil is reached" in note for note in notes):
            continue  # Fluentd's YAML has no nil inside of an expression: said, not hidden
        converted += 1
        other = str(path.with_suffix(".conf" if yaml else ".yaml"))
        if parse(there, other) != before or parse(back, str(path)) != before:
            wrong.append(path.parent.name)
    assert wrong == []
    assert converted > len(CASES) * 0.85


names = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}", fullmatch=True).filter(lambda name: name != "include")
ODD = (
    "5", "0644", "true", "no", "null", "~", "1.0", "[1, 2]", '{"a":1}', "a: b", "- x", "# c", "2026-01-01",
    "#{x}", "'", '"', "\\", "a\nb", "<<", "!x", "&a", "*", "%", "@", "`", "=",
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Co", "Cn"]), max_size=20)
texts |= st.sampled_from(ODD)


@st.composite
def sections(draw: st.DrawFn, depth: int = 0, name: str = "") -> str:
    name = name or draw(st.sampled_from(["parse", "record", "store", "buffer", "match2"]))
    argument = draw(st.just("") | texts)
    lines = [f"<{name} {quote(argument)}>" if argument else f"<{name}>"]
    used = set()
    for each in draw(st.lists(names, max_size=4, unique=True)):
        used.add(each)
        comment = draw(st.sampled_from(["", "  # why", "\n# own line"]))
        lines.append(f"{quote(each)} {quote(draw(texts))}{comment}")
    if depth < 2:
        for child in draw(st.lists(sections(depth + 1), max_size=3)):
            if re.match(r"<(\w+)", child)[1] not in used:  # type: ignore[index]
                lines.append(child)
    return "\n".join([*lines, f"</{name}>"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["source", "filter", "match", "system2"]).flatmap(lambda n: sections(name=n)),
        max_size=4,
    )
)
def test_any_tree_there_and_back(parts: list[str]) -> None:
    text = "\n".join(parts) + "\n"
    before = parse(text, "x.conf")
    there = to_yaml(text, "x.conf").text
    assert parse(there, "x.yaml") == before
    back = to_conf(there, "x.yaml").text
    assert parse(back, "x.conf") == before
    assert back.count("# why") == text.count("# why") - text.count('# why"')
    assert back.count("# own line") == text.count("# own line")


CONF = """\
# What it is for.
<source>
  @type udp          # the input
  port 5140
  # the tag
  tag "#{ENV['T_Y']}.x"
  keys ["a","#{ENV['T_Y']}"]
  nothing "#{use_nil}"
</source>

<match **>   # all
  @type copy
  <store>
    @type stdout
  </store>
  <store>
    # second
    @type null
  </store>
</match>
# the end
"""


def test_comments_and_code_stay() -> None:
    there = to_yaml(CONF).text
    assert (
        there
        == """\
config:
  # What it is for.
  - source:
      $type: udp  # the input
      port: 5140
      # the tag
      tag: !fluent/s '#{ENV[''T_Y'']}.x'
      keys: !fluent/s '[\\"a\\",\\"#{ENV[''T_Y'']}\\"]'
      nothing: null
  - match:  # all
      $tag: '**'
      $type: copy
      store:
        - $type: stdout
        - # second
          $type: 'null'
# the end
"""
    )
    assert parse(there, "x.yaml") == parse(CONF, "x.conf")
    back = to_conf(there).text
    assert parse(back, "x.conf") == parse(CONF, "x.conf")
    for comment in re.findall("# .*", CONF):
        assert comment in back


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<match a>\nformat json\n<format>\n@type json\n</format>\n</match>\n", "second 'format'"),
        ("<match a>\n@type x\n@include y.conf\n</match>\n", "no counterpart"),
        ("<match a>\n@type x\n", "not closed"),
        ("<match a>\nk \ue000\n</match>\n", "U[+]E000"),
    ],
)
def test_what_cannot_be_said_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigSyntaxError, match=words):
        to_yaml(text)


def test_typed_values_and_includes_are_noted() -> None:
    done = to_conf("config:\n  - filter:\n      record:\n        n: 5\n  - !include d/*.yaml\n", "x.yaml")
    assert done.notes == [
        "x.yaml:4: n: a int in YAML, a text in fluent.conf",
        "x.yaml:5: included: d/*.conf; convert d/*.yaml too",
    ]
    assert "@include d/*.conf" in done.text


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.conf").write_text(CONF)
    assert main(["convert", str(tmp_path / "f.conf")]) == 0
    assert capsys.readouterr().out == to_yaml(CONF).text
    assert main(["convert", str(tmp_path / "f.conf"), "-o", str(tmp_path / "f.yaml")]) == 0
    assert main(["convert", str(tmp_path / "f.conf"), "-o", str(tmp_path / "f.yaml")]) == 1
    assert main(["convert", str(tmp_path / "f.yaml")]) == 0
    assert main(["convert", str(tmp_path / "f.yaml"), "--to", "yaml"]) == 1

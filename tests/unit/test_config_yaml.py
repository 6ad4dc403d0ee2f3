"""YAML configurations give the same tree as fluent.conf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.api import ConfigError
from forwarder.config import Diagnostics, Element, load, parse_text, read_structure
from forwarder.config.diagnostics import ConfigSyntaxError

ENV = {"T_Y": "yes!"}


LEVELS = ("".join(f"k{n}: &k{n} [{','.join([f'*k{n - 1}'] * 8)}]\n") for n in range(1, 10))
BOMB = "k0: &k0 [x, x]\n" + "".join(LEVELS)


def parse(text: str, diagnostics: Diagnostics | None = None) -> Element:
    return parse_text(text, "fluent.yaml", diagnostics, env=ENV)


def tree(element: Element) -> Any:
    params = {name: param.value for name, param in element.params.items()}
    return element.name, element.argument, params, [tree(child) for child in element.elements]


def test_the_same_tree() -> None:
    text = """
system:
  log_level: debug
  log:
    format: json
config:
  - source:
      $type: udp
      $id: u
      $label: '@L'
      $log_level: warn
      port: 5140
      flag: true
      nothing: null
      keys: [a, b]
      parse:
        $type: none
  - label:
      $name: '@L'
      config:
        - filter:
            $tag: t.*
            $type: record_transformer
            record:
              - added: value
                num: 5
        - match:
            $tag: '**'
            $type: copy
            store:
              - $type: stdout
              - $type: file
                buffer:
                  $arg: [tag, time]
                  timekey: 1d
"""
    conf = """
<system>
  log_level debug
  <log>
    format json
  </log>
</system>
<source>
  @type udp
  @id u
  @label @L
  @log_level warn
  port 5140
  flag true
  nothing "#{use_nil}"
  keys ["a","b"]
  <parse>
    @type none
  </parse>
</source>
<label @L>
  <filter t.*>
    @type record_transformer
    <record>
      added value
      num 5
    </record>
  </filter>
  <match **>
    @type copy
    <store>
      @type stdout
    </store>
    <store>
      @type file
      <buffer tag,time>
        timekey 1d
      </buffer>
    </store>
  </match>
</label>
"""
    root = parse(text)
    assert tree(root) == tree(parse_text(conf))
    source = root.elements[1]
    assert (source.line, source.params["port"].position.line, source.params["port"].native) == (7, 12, 5140)
    diagnostics = Diagnostics()
    structure = read_structure(root, diagnostics)
    assert (diagnostics.errors, structure.system.log_level) == ([], "debug")


def test_tags() -> None:
    (filter_,) = parse(
        "config:\n  - filter:\n      a: !fluent/s \"#{ENV['T_Y']}-x\"\n      b: \"#{ENV['T_Y']}\"\n"
        '      c: !fluent/json {"k": [1, true, null]}\n      d: !fluent/s "#{use_nil}"\n'
    ).elements
    assert [param.value for param in filter_.params.values()] == [
        "yes!-x",
        "#{ENV['T_Y']}",
        '{"k":[1,true,null]}',
        "",
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5), ("1,000", 1000), ("1_000", 1000), ("010", 8), ("08", "08"), ("0x1F", 31), ("0b11", 3),
        ("1__0", "1__0"), ("+1", 1), ("-.5", -0.5), ("5.", 5.0), (".", "."), ("1e3", "1e3"),
        ("1.0e+3", 1000.0),
        ("12:30", 45000), ("12:30:45", 45045), ("yEs", True), ("oN", True), ("OFF", False), ("y", "y"),
        ("Null", None), ("~", None), ("None", "None"), (":a", "a"), (":'a b'", "a b"), ('":a"', ":a"),
        ("!foo x", "x"), ("!foo 5", 5), ("!!str 5", "5"), ('!!int "5"', 5), ("!fluent/json 5", "5"),
        ("2020-01-01", "2020-01-01"), ("a:b", "a:b"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_by_fluentd(written: str, value: object) -> None:
    (section,) = parse(f"config:\n  - match:\n      k: {written}\n").elements
    found = section.params["k"]
    assert (found.native if found.native is not None else found.value) == value
    assert type(found.native if found.native is not None else found.value) is type(value)


@pytest.mark.parametrize("text", ["config:\n", "config: {}\n", "system: []\nconfig: []\n", "system:\n"])
def test_sections_without_content(text: str) -> None:
    assert all(not element.params and not element.elements for element in parse(text).elements)


def test_merge_keys() -> None:
    (source,) = parse("config:\n  - source:\n      <<: &x {a: 1, b: 2}\n      b: 3\n").elements
    assert {name: param.value for name, param in source.params.items()} == {"a": "1", "b": "3"}


def test_include(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.yaml").write_text("- source: {$type: b}\n- !include c.yml\n")
    (tmp_path / "d" / "a.yaml").write_text("- source: {$type: a}\n")
    (tmp_path / "d" / "c.yml").write_text("- match: {$type: c}\n")
    (tmp_path / "fluent.yml").write_text("config:\n  - !include d/*.yaml\n  - match: {$type: z}\n")
    root = load(str(tmp_path / "fluent.yml"))
    assert [element.get("@type") for element in root.elements] == ["a", "b", "c", "z"]
    (tmp_path / "d" / "c.yml").write_text("- !include b.yaml\n")
    with pytest.raises(ConfigSyntaxError, match="cycle"):
        load(str(tmp_path / "fluent.yml"))


@pytest.mark.parametrize(
    ("text", "line", "mention"),
    [
        ("config:\n  - source: [\n", 3, "YAML"),
        ("config:\n  - 5\n", 2, "section"),
        ("config: 5\n", 1, "list"),
        ("5\n", 1, "hash"),
        ("config:\n  - source: 5\n", 2, "source"),
        ("config:\n  - source:\n      a: !fluent/s \"#{nope}\"\n", 3, "nope"),
        ("config:\n  - source:\n      [a]: 1\n", 3, "key"),
        (BOMB, 1, "too many"),
    ],
)  # fmt: skip
def test_refused(text: str, line: int, mention: str) -> None:
    with pytest.raises(ConfigSyntaxError, match=mention) as caught:
        parse(text)
    assert caught.value.position.line == line


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["config:", "system:", "- ", "  ", "\n", "source:", "$type: ", "a: ", "!include x", "!fluent/s ",
             "&a ", "*a", "[", "]", "{", "}", '"', "<<: ", "1", "~", "!fluent/json ", ":", "\t"]
        ),
        max_size=30,
    ).map("".join)
    | st.text(max_size=40)
)  # fmt: skip
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        root = parse(text)
    except ConfigError:
        return
    assert root.name == "ROOT"

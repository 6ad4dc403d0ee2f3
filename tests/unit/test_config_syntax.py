"""The grammar of fluent.conf: texts, what they mean, and what is refused."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.api import ConfigError
from forwarder.config import ConfigSyntaxError, Diagnostics, Element, load, parse_text, render

ENV = {"HOME_TAG": "t", "PORT": "5140", "EMPTY": "", "LIST": '"a","b"', "HOST": "a.example.com"}


def parse(text: str, diagnostics: Diagnostics | None = None) -> Element:
    return parse_text(text, "fluent.conf", diagnostics, env=ENV)


def value(line: str) -> str | None:
    """What the value of the parameter `k` in `line` is."""
    (section,) = parse(f"<s>\n{line}\n</s>\n").elements
    return section.params["k"].value


def tree(element: Element) -> Any:
    params = {name: (param.value, param.use_default) for name, param in element.params.items()}
    return element.name, element.argument, params, [tree(child) for child in element.elements]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("k v", "v"),
        ("  k\t v  ", "v"),
        ("k several words", "several words"),
        ("k one # comment", "one"),
        ("k one\t# comment", "one"),
        ("k one#two", "one#two"),
        ("k # only", "# only"),
        ("k #x", "#x"),
        ("k #a # b", "#a"),
        ("k", ""),
        ("k   ", ""),
        ("k /a b/ # c", "/a b/"),
        ("k /a #b/", "/a"),
        ("k a\\nb", "a\\nb"),
        ("k #{ENV['PORT']}", "#{ENV['PORT']}"),
        ('k "v"', "v"),
        ('k "v" # comment', "v"),
        ('k "a # b"', "a # b"),
        (r'k "a\"b\\c\n\t\r\f\b\0\'\#{x}"', "a\"b\\c\n\t\r\f\b\0'#{x}"),
        ('k "two\nlines"', "two\nlines"),
        ('k "two\n\nlines"', "two\n\nlines"),
        ('k "joined\\\n lines"', "joined lines"),
        ('k "joined\\\r\n lines"', "joined lines"),
        ("k ''", ""),
        ("k 'a # b' # c", "a # b"),
        (r"k 'it\'s \\ \n'", r"it's \ \n"),
        ("k '#{ENV}'", "#{ENV}"),
        ("k []", "[]"),
        ('k ["a", "b"]', '["a","b"]'),
        ('k [\n  "a", # first\n  "b#c" # last\n]', '["a","b#c"]'),
        ('k {"a": 1,\n # whole line\n "b": [true, null, 1.5]}', '{"a":1,"b":[true,null,1.5]}'),
        ('k {"a": "}]"} # c', '{"a":"}]"}'),
        (r'k {"a": "\"}"}', r'{"a":"\"}"}'),
        ('k {"é": "ü"}', '{"é":"ü"}'),
        ('k [ // "a" ]\n "b", /* c ] */ "//d"\n]', '["b","//d"]'),
        (r'k ["\d+\\d\/", "\u00e9\ud83d\ude00"]', r'["d+\\d/","é😀"]'),
        (r'k ["\ud83d\n", "\udc00"]', '["\ufffd\\n","\ufffd"]'),
        ('"k" v', "v"),
        ("'k' v", "v"),
        ("k v\r", "v"),
        ('k "v"\r', "v"),
    ],
)
def test_value(line: str, expected: str) -> None:
    assert value(line) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ENV['PORT']", "5140"),
        ('ENV["PORT"]', "5140"),
        ("ENV['NOPE']", ""),
        ("ENV['NOPE'] || 'd'", "d"),
        ("ENV['NOPE'] || ENV['NOPE2'] || \"x\"", "x"),
        ("ENV['EMPTY'] || 'd'", ""),
        ("ENV.fetch('PORT')", "5140"),
        ("ENV.fetch('NOPE', 'd')", "d"),
        ("ENV.fetch('NOPE') { 'd' }", "d"),
        ("ENV.key?('PORT') ? 'yes' : 'no'", "yes"),
        ("ENV['PORT'].to_i + 1", "5141"),
        ("ENV['HOST'].split('.').first", "a"),
        ("ENV['HOST'].split('.')[-1].upcase", "COM"),
        ("ENV['HOST'].sub('example', 'x').capitalize", "A.x.com"),
        ("'a' + 'b'", "ab"),
        ("('a')", "a"),
        ("nil", ""),
        ("nil.to_s", ""),
        ("'}'", "}"),
        ("\"#{ENV['PORT']}!\"", "5140!"),
        ("worker_id", "0"),
        ("ENV['PORT'] == '5140' ? use_nil : 1", None),
        ("use_nil", None),
        ("ENV['NOPE'] || use_nil", None),
        ("ENV['PORT'] && 'set'", "set"),
        ("ENV['NOPE'] && 'set' || 'not'", "not"),
        ("!ENV['NOPE'].nil?", "false"),
        ("!!ENV['PORT'] == true", "true"),
        ("", ""),
    ],
)
def test_embedded_code(code: str, expected: str | None) -> None:
    assert value(f'k "#{{{code}}}"') == expected


def test_embedded_code_stands_anywhere() -> None:
    root = parse(
        "<match \"#{ENV['HOME_TAG']}.**\">\n"
        "  a \"x#{ENV['PORT']}y#{ENV['HOME_TAG']}\"\n"
        "  b [#{ENV['LIST']}]\n"
        '  c {"p":"#{ENV[\'PORT\']}","n":#{ENV[\'PORT\']}}\n'
        "  d \"#{ENV['NOPE'] || use_default}\"\n"
        "</match>\n".replace("  b [#{ENV['LIST']}]\n", "")
    )
    (match,) = root.elements
    assert match.argument == "t.**"
    assert match.params["a"].value == "x5140yt"
    assert match.params["c"].value == '{"p":"5140","n":5140}'
    assert match.params["d"].use_default


def test_hostname() -> None:
    name = socket.gethostname()
    assert value('k "#{hostname}"') == name
    assert value('k "x-#{Socket.gethostname}"') == f"x-{name}"


def test_file_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3\n")
    assert value(f"k \"#{{File.read('{tmp_path}/secret').strip}}\"") == "s3"


@pytest.mark.parametrize(
    ("text", "line", "mention"),
    [
        ("<match **>\n", 1, "match"),
        ("<match>\n</source>\n", 2, "unmatched end tag"),
        ("</match>\n", 1, "without a start tag"),
        ("<match a>b>\n</match>\n", 1, "end of line"),
        ("<match a\n b\n</match>", 2, "expected '>'"),
        ("<>\n</>\n", 1, "section name"),
        ('<s>\nk "x\n</s>\n', 2, "quote"),
        ("<s>\nk 'x\n</s>\n", 2, "quote"),
        ("<s>\nk 'two\nlines'\n</s>\n", 2, "quote"),
        ('<s>\nk "x"y\n</s>\n', 2, "end of line"),
        ('<s>\nk ["x"] y\n</s>\n', 2, "end of line"),
        ('<s>\nk "\\q"\n</s>\n', 2, "escape character 'q'"),
        ("<s>\nk {x\n</s>\n", 2, "JSON"),
        ("<s>\nk {x}\n</s>\n", 2, "JSON"),
        ("<s>\nk [1,]\n</s>\n", 2, "JSON"),
        ("<s>\nk [NaN]\n</s>\n", 2, "JSON"),
        ("<s>\nk " + "[" * 5000 + "]" * 5000 + "\n</s>\n", 2, "JSON"),
        ("<s>\nk \"#{ENV.fetch('NOPE')}\"\n</s>\n", 2, "NOPE"),
        ('<s>\nk "#{`id`}"\n</s>\n', 2, "`id`"),
        ("<s>\nk \"#{system('id')}\"\n</s>\n", 2, "system('id')"),
        ('<s>\nk "#{ENV[1]}"\n</s>\n', 2, "ENV[1]"),
        ("<s>\nk \"#{ENV['X'\n</s>\n", 2, "}"),
        ('<s>\nk {"a":"#{use_nil}"}\n</s>\n', 2, "use_nil"),
        ("<source>\n@typo x\n</source>\n", 2, "@typo"),
        ("@foo x\n", 1, "@foo"),
        ("@include http://example.com/x.conf\n", 1, "http"),
    ],
)
def test_refused(text: str, line: int, mention: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse(text)
    assert caught.value.position.line == line
    assert mention in str(caught.value)
    assert "fluent.conf" in str(caught.value)


def test_sections_nest_and_keep_order_and_places() -> None:
    root = parse(
        "# first\n<match a b.**> # c\r\n  @type x\r\n  <store one>\r\n    k v\r\n  </store>\r\n"
        "  <store>\r\n  </store>\r\n</match>\r\n\r\n<empty>\n</empty>"
    )
    match, empty = root.elements
    assert (match.name, match.argument, match.line) == ("match", "a b.**", 2)
    assert [store.argument for store in match.children("store")] == ["one", ""]
    found = match.elements[0].params["k"]
    assert (found.position.line, found.position.column, found.value_position.column) == (5, 5, 7)
    assert found.position.source.line(5) == "    k v"
    assert empty.line == 11


def test_old_reserved_names() -> None:
    (source,) = parse("<source>\ntype udp\nid x\n</source>").elements
    assert (source.get("@type"), source.get("@id"), source.get("@label")) == ("udp", "x", None)
    assert source.used == {"type", "id"}


def test_a_parameter_given_twice_counts_last_and_warns() -> None:
    diagnostics = Diagnostics()
    (section,) = parse("<s>\nk 1\nk 2\n</s>", diagnostics).elements
    assert section.params["k"].value == "2"
    assert "given twice" in diagnostics.render()


def test_embedded_code_without_quotes_warns() -> None:
    diagnostics = Diagnostics()
    parse("<s>\nport #{ENV['PORT']}\n</s>", diagnostics)
    assert "double quotes" in diagnostics.render()


def write(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder / "fluent.conf")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"fluent.conf": "@include a.conf\n<z>\n</z>", "a.conf": "<a>\n</a>"}, ["a", "z"]),
        ({"fluent.conf": "include a.conf\n", "a.conf": "<a>\n</a>"}, ["a"]),
        ({"fluent.conf": "@include d/*.conf", "d/b.conf": "<b>\n</b>", "d/a.conf": "<a>\n</a>"}, ["a", "b"]),
        ({"fluent.conf": "@include {z,b,a}.conf", "b.conf": "<b>\n</b>", "a.conf": "<a>\n</a>"}, ["a", "b"]),
        ({"fluent.conf": "@include d/x.conf", "d/x.conf": "@include y.conf", "d/y.conf": "<y>\n</y>"}, ["y"]),
        ({"fluent.conf": "@include a%20b.conf # c\n", "a b.conf": "<a>\n</a>"}, ["a"]),
        ({"fluent.conf": '@include "#{ENV[\'HOME_TAG\']}.conf"\n', "t.conf": "<t>\n</t>"}, ["t"]),
        ({"fluent.conf": "@include nosuch.conf\n<z>\n</z>"}, ["z"]),
        ({"fluent.conf": "@include a.conf\n@include a.conf\n", "a.conf": "<a>\n</a>"}, ["a", "a"]),
    ],
)  # fmt: skip
def test_include(tmp_path: Path, files: dict[str, str], names: list[str]) -> None:
    diagnostics = Diagnostics()
    root = load(write(tmp_path, files), diagnostics, env=ENV)
    assert [element.name for element in root.elements] == names
    assert ("no such file" in diagnostics.render()) == ("nosuch" in files["fluent.conf"])


def test_include_inside_a_section(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"fluent.conf": "<match **>\n  @include in.conf\n  k 1\n</match>", "in.conf": "@type x\n"}
    )
    (match,) = load(path).elements
    assert {name: param.value for name, param in match.params.items()} == {"@type": "x", "k": "1"}
    assert match.params["@type"].position.source.path.endswith("in.conf")


def test_include_cycle(tmp_path: Path) -> None:
    path = write(tmp_path, {"fluent.conf": "@include a.conf\n", "a.conf": "<x>\n@include fluent.conf\n</x>"})
    with pytest.raises(ConfigSyntaxError, match="cycle"):
        load(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch\.conf"):
        load(str(tmp_path / "nosuch.conf"))
    (tmp_path / "latin.conf").write_bytes(b"<a>\n k \xff\n</a>")
    with pytest.raises(ConfigError, match=r"latin\.conf:2"):
        load(str(tmp_path / "latin.conf"))
    (tmp_path / "bom.conf").write_bytes(b"\xef\xbb\xbf<a>\n</a>")
    assert load(str(tmp_path / "bom.conf")).elements[0].name == "a"


PIECES = st.sampled_from(
    (
        *("<a>", "</a>", "<match ", ">", "\n", " ", "k", "v", '"', "'", "\\", "#", "#{", "}", "{", "[", "]"),
        *(",", ":", "1", "@include ", "include", "@type", "ENV['X']", "||", "use_nil", "use_default"),
        *("\r\n", "\t", "\0", "é", "(", ")", ".to_i", "\f", "\x85"),
    )
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        root = parse(text)
    except ConfigError:
        return
    assert tree(parse(render(root, masked=False))) == tree(root)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_embedded_code_is_text_or_a_config_error(code: str) -> None:
    text = code.replace("File", "").replace('"', "'")
    with contextlib.suppress(ConfigError):
        found = parse(f'<s>\nk "#{{{text}}}"\n</s>').elements[0].params["k"]
        assert found.value is None or isinstance(found.value, str)


NAMES = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8"), max_size=20)
TREES = st.recursive(
    st.tuples(NAMES, VALUES, st.dictionaries(NAMES, VALUES, max_size=3), st.just([])),
    lambda children: st.tuples(
        NAMES, VALUES, st.dictionaries(NAMES, VALUES, max_size=3), st.lists(children, max_size=3)
    ),
    max_leaves=6,
)


def build(node: Any) -> Element:
    name, argument, params, children = node
    position = parse("").position
    element = Element(name, argument, position, elements=[build(child) for child in children])
    for key, text in params.items():
        element.params[key] = parse(f"<s>\n{key} x\n</s>").elements[0].params[key]._replace(value=text)
    return element


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_a_rendered_tree_reads_back(node: Any) -> None:
    element = build(node)
    (again,) = parse(render(element, masked=False)).elements
    assert tree(again) == tree(element)

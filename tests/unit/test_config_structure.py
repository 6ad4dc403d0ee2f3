"""The top level: sources, routes, labels, <system>, and advice about routes that no event takes."""

from __future__ import annotations

import pytest

from forwarder.config import Diagnostics, InvalidConfiguration, Structure, parse_text, read_structure
from forwarder.config.advice import advise, check_patterns
from forwarder.config.patterns import TagPattern, covers


def read(text: str) -> tuple[Structure, Diagnostics]:
    diagnostics = Diagnostics()
    return read_structure(parse_text(text, "fluent.conf", diagnostics), diagnostics), diagnostics


def plugin(section: str, more: str = "") -> str:
    return f"<{section}>\n  @type x\n  {more}\n</{section.partition(' ')[0]}>\n"


def test_sources_routes_and_labels_in_order() -> None:
    text = (
        plugin("source", "@id in\n@label @A\n@log_level debug")
        + plugin("filter a.**")
        + plugin("match a b")
        + plugin("match")
        + f"<label @A>\n{plugin('filter')}{plugin('match **')}</label>\n"
        + "<worker 0>\n" + plugin("match w") + "</worker>\n"
    )  # fmt: skip
    structure, diagnostics = read(text)
    assert diagnostics.items == []
    (source,) = structure.sources
    assert (source.kind, source.type_name, source.id, source.label) == ("input", "x", "in", "@A")
    assert (source.log_level, source.pattern) == ("debug", "")
    assert [(spec.kind, spec.pattern) for spec in structure.routes] == [
        ("filter", "a.**"),
        ("output", "a b"),
        ("output", "**"),
        ("output", "w"),
    ]
    assert [(spec.kind, spec.pattern) for spec in structure.labels["@A"].routes] == [
        ("filter", "**"),
        ("output", "**"),
    ]
    assert len(list(structure.plugins())) == 7


@pytest.mark.parametrize(
    ("text", "line", "mention"),
    [
        ("<source>\nport 1\n</source>", 1, "@type"),
        ("<source>\ntpye x\n@typ x\n</source>".replace("@typ x\n", ""), 1, "@type"),
        ("<label>\n</label>", 1, "label"),
        ("<label @ROOT>\n</label>", 1, "@ROOT"),
        ("<label @A>\n<match>\n@type x\n</match>\n</label>\n<label @A>\n</label>", 6, "@A"),
        ("<label @A>\n<filter>\n@type x\n</filter>\n</label>", 1, "missing <match> in <label @A>"),
        ("<system>\n</system>\n<system>\n</system>", 3, "system"),
        (plugin("source", "@id a") + plugin("match **", "@id a"), 7, "@id a"),
        (plugin("source", "@label @NOPE"), 3, "@NOPE"),
        (plugin("match **", "<store>\n@type relabel\n@label @NOPE\n</store>"), 5, "@NOPE"),
        ("<worker>\n</worker>", 1, "worker"),
        ("<worker 1>\n</worker>", 1, "worker 0"),
        ("<worker 0>\n<system>\n</system>\n</worker>", 2, "system"),
        ("<worker 0-1>\n</worker>", 1, "only worker 0"),
        ("<worker 1-0>\n</worker>", 1, "smaller number"),
        ("<system>\nworkers 2\n</system>\n<worker 2>\n</worker>", 4, "workers are 0 to 1"),
        (
            "<system>\nworkers 3\n</system>\n<worker 0-1>\n</worker>\n<worker 1-2>\n</worker>",
            6,
            "worker 1 has",
        ),
        ("<system>\nworkers 0\n</system>", 2, "workers"),
        ("<system>\n<log>\nrotate_age hourly\n</log>\n</system>", 3, "rotate_age"),
        ("<system>\nlog_level loud\n</system>", 2, "log_level"),
        ("<system>\nrpc_endpoint 24444\n</system>", 2, "rpc_endpoint"),
        ("<system>\numask 9\n</system>", 2, "umask"),
        ("<system>\n<counter_server>\nscope x\n</counter_server>\n</system>", 3, "counter"),
        ("<system>\n<metrics>\n@type prometheus\n</metrics>\n</system>", 2, "prometheus"),
    ],
)
def test_errors(text: str, line: int, mention: str) -> None:
    _, diagnostics = read(text)
    error = diagnostics.errors[0]
    assert error.position is not None
    assert error.position.line == line
    assert mention in error.render()
    with pytest.raises(InvalidConfiguration, match=r"fluent\.conf"):
        diagnostics.raise_errors()


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("<sorce>\n</sorce>", "did you mean <source>?"),
        ("port 1\n", "'port' at top level is not used"),
        ("<label @A>\nx 1\n<match>\n@type x\n</match>\n</label>", "'x' in <label @A>"),
        (
            "<label @A>\n<source>\n@type x\n</source>\n<match>\n@type x\n</match>\n</label>",
            "<source> is not used in <label @A>",
        ),
        ("<label @A>\n<match>\n@type x\n</match>\n</label>", "label @A is not used"),
        ("<system>\nfoo 1\n</system>", "'foo' in <system> is not used"),
        ("<worker one>\n</worker>", "expected a number such as 0, or two such as 0-1; taken for 0-0"),
    ],
)
def test_warnings(text: str, mention: str) -> None:
    _, diagnostics = read(text)
    assert diagnostics.errors == []
    assert mention in "\n".join(item.render() for item in diagnostics.warnings)


def test_system() -> None:
    structure, diagnostics = read(
        "<system>\nlog_level debug\nprocess_name p\nsuppress_config_dump true\nemit_error_log_interval 5s\n"
        "workers 1\nfile_permission 0640\nroot_dir /tmp/x\nstrict_config_value true\nenable_jit false\n"
        "<log>\nformat json\ntime_format %Y\n</log>\n</system>\n"
    )
    system = structure.system
    assert diagnostics.items == []
    assert diagnostics.strict
    assert (system.log_level, system.process_name, system.suppress_config_dump) == ("debug", "p", True)
    assert (system.emit_error_log_interval, system.root_dir) == (5.0, "/tmp/x")
    assert (system.log.format, system.log.time_format) == ("json", "%Y")
    assert (system.mode("file_permission"), system.mode("umask")) == (0o640, None)


def test_fields_of_a_record_are_no_ids_or_labels() -> None:
    _, diagnostics = read(
        plugin("filter **", "<record>\n@id a\n@label @X\n</record>") + plugin("match **", "@id a")
    )
    assert diagnostics.errors == []


def advice(text: str) -> str:
    structure, diagnostics = read(text)
    assert diagnostics.errors == []
    advise(structure, diagnostics)
    return diagnostics.render()


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        (plugin("source") + plugin("match **") + plugin("match a"), "<match a> is unreachable"),
        (
            plugin("source") + plugin("match a.**") + plugin("filter a.b") + plugin("match **"),
            "<filter a.b> is unreach",
        ),
        (plugin("source") + plugin("match a") + plugin("filter **"), "after the last <match> at top level"),
        (plugin("source"), "no <match>"),
        (plugin("match **"), "no <source>"),
    ],
)
def test_advice(text: str, mention: str) -> None:
    assert mention in advice(text)


def test_no_advice_for_what_is_sound() -> None:
    assert advice(plugin("source") + plugin("filter **") + plugin("match a") + plugin("match **")) == ""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("**", "a.b", True),
        ("**", "/x/", True),
        ("a.**", "a", True),
        ("a.**", "a.b.*", True),
        ("a.**", "ab", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.**", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a*", "abc", True),
        ("a*", "*", False),
        ("a b", "b", True),
        ("a", "a b", False),
        ("{a,b}.c", "a.c b.c", True),
        ("a.c", "{a,b}.c", False),
        ("**.z", "a.b.z", True),
        ("a.**.z", "a.z", True),
        ("/a/", "a", False),
        ("/a/", "/a/", True),
        ("a**", "ab", False),
    ],
)
def test_covers(first: str, second: str, expected: bool) -> None:
    assert covers(first, second) is expected


def test_a_rendered_finding_points_at_the_column() -> None:
    _, diagnostics = read("<system>\n\tworkers 0\n</system>")
    assert diagnostics.render() == (
        "error: 0 is no number of workers: expected 1 or more\n"
        "  --> fluent.conf:2:2 in <system>\n 2 | \tworkers 0\n   | \t^"
    )


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a", ["a"], ["b", "a.b", ""]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("a.**", ["a", "a.b", "a.b.c"], ["ab", "b.a"]),
        ("**", ["", "a", "a.b"], []),
        ("**.a", ["a", "b.a", "c.b.a"], ["ba"]),
        ("a.**.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "ab"]),
        ("a**", ["a", "ab", "a.b"], ["b"]),
        ("a*c.d", ["abc.d", "ac.d"], ["a.c.d"]),
        ("{a,b.*}.c", ["a.c", "b.x.c"], ["b.c", "c"]),
        ("a.{b,{c,d}}", ["a.b", "a.c", "a.d"], ["a.e"]),
        ("a b.*", ["a", "b.c"], ["c"]),
        ("/a.+/", ["ab", "a.b"], ["a", "bab"]),
        ("/(?<x>a|b)/", ["a", "b"], ["c", "ab"]),
        ("/a|b/", ["a", "b"], ["ax", "xb"]),
        ("a-b_c", ["a-b_c"], ["a"]),
        (r"a\*", ["a*"], ["ab"]),
        ("{a,b", ["a", "b"], ["c"]),
    ],
)
def test_tag_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = TagPattern(pattern)
    assert [tag for tag in matching + others if compiled.matches(tag)] == matching


@pytest.mark.parametrize("pattern", ["/a", "/", "/(/"])
def test_a_broken_pattern_is_an_error(pattern: str) -> None:
    structure, diagnostics = read(plugin(f"match {pattern}"))
    check_patterns(structure, diagnostics)
    assert pattern in diagnostics.errors[0].message

"""What Fluentd 1.19.3 said to configurations: started or refused, and what embedded code gave there."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarder.api.testing import run
from forwarder.cli.check import check
from forwarder.config import ConfigSyntaxError, Diagnostics, parse_text

TIME = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC


def match(plugin: str, inside: str) -> str:
    return f"<match **>\n@type {plugin}\n{inside}\n</match>\n"


def stdout(buffer: str) -> str:
    return match("stdout", f"<buffer>\n{buffer}\n</buffer>")


def udp(parser: str) -> str:
    return f"<source>\n@type udp\nport 0\ntag t\n<parse>\n{parser}\n</parse>\n</source>\n{match('null', '')}"


# Configuration, and what the error names; None: Fluentd starts with it.
CONFIGURATIONS = [
    (match("copy", "<store>\n@type null\n</store>\n<buffer>\n</buffer>"), None),
    (match("roundrobin", "<store>\n@type null\n</store>\n<buffer>\n</buffer>"), None),
    (match("relabel", "@label @ROOT\n<buffer>\n</buffer>"), "buffer"),
    (match("roundrobin", "<store>\n@type null\nweight -1\n</store>\n<store>\n@type null\n</store>"), None),
    (match("roundrobin", "<store>\n@type null\nweight 0\n</store>"), "weight"),
    (stdout("retry_secondary_threshold 1"), None),
    (stdout("retry_secondary_threshold 0"), None),
    (stdout("chunk_full_threshold 2"), None),
    (stdout("chunk_full_threshold 0"), None),
    (match("file", "path /@/x\n<secondary>\n@type file\npath /@/${tag}\n</secondary>"), None),
    (match("file", "path /@/${tag}"), "tag"),
    (match("stdout", "<format>\n@type out_file\ntime_type mixed\n</format>"), "time_type"),
    (match("stdout", "<format>\n@type out_file\ntime_type mixed\ntime_format %Y\n</format>"), None),
    (match("http", "endpoint http://127.0.0.1/%Y"), "endpoint"),
    (match("http", "endpoint http://127.0.0.1/a b"), "endpoint"),
    (match("http", "endpoint http://127.0.0.1/%41?a|b=${tag}\n<buffer tag>\n</buffer>"), None),
    *((udp(f"@type none\ntimezone {zone}"), "timezone") for zone in ("UTC", "Z", "JST", "EST", "A/Nope")),
    (udp("@type json\ntimezone Etc/UTC"), None),
    (match("stdout", "<format>\n@type json\ntimezone UTC\n</format>"), "timezone"),
    (match("stdout", "<inject>\ntimezone UTC\n</inject>"), None),
    (match("stdout", "<buffer time>\ntimekey 1d\ntimekey_zone UTC\n</buffer>"), "timekey_zone"),
    (match("stdout", "<buffer tag>\ntimekey_zone UTC\n</buffer>"), None),
    (match("forward", "<service_discovery>\n</service_discovery>"), "'@type'"),
    (match("http", "endpoint http://127.0.0.1/\nproxy a b"), "proxy"),
    (udp("@type none\nlocaltime maybe"), "localtime"),
    (udp('@type none\nutc "#{use_nil}"'), "utc"),
    (match("stdout", "<inject>\nutc maybe\n</inject>"), "utc"),
    (match("stdout", "<format>\n@type json\nlocaltime maybe\n</format>"), "localtime"),
    ("<filter>\n@type record_transformer\nkeep_keys []\n</filter>", "keep_keys"),
    ("<source>\n@type sample\ntag t\n<storage>\n</storage>\n</source>", "@type"),
    (udp("@type regexp\nexpression /(?<a>.*)/im"), None),
    (udp("@type regexp\nexpression /(?<a>.*)/imx"), "right slash"),
    ("<system>\nfile_permission 0640\n</system>", None),
    ('<filter>\n@type record_transformer\n<record>\na "#{use_default}"\n</record>\n</filter>', None),
]


@pytest.mark.parametrize(("config", "names"), CONFIGURATIONS)
def test_starts_or_is_refused(tmp_path: Path, config: str, names: str | None) -> None:
    path = tmp_path / "fluent.conf"
    path.write_text(config.replace("/@/", f"{tmp_path}/"))
    diagnostics = Diagnostics()
    check(str(path), diagnostics)
    errors = [error.message for error in diagnostics.errors]
    assert errors == [] if names is None else any(names in error for error in errors)


@pytest.mark.parametrize("name", ["file_permission", "dir_permission", "umask"])
def test_a_mode_that_is_none_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "fluent.conf"
    path.write_text(f"<system>\n{name} 0abc\n</system>\n{match('null', '')}")
    diagnostics = Diagnostics()
    check(str(path), diagnostics)
    assert [error.param for error in diagnostics.errors] == [name]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1024*1024*8", "8388608"), ("10/4", "2"), ("10.0/4", "2.5"), ("'%02d' % 5", "05"), ("'a'*3", "aaa"),
        ("[1, 2].join(',')", "1,2"), ("'x' if ENV['FORWARDER_NOT_SET']", ""), ("ENV['ROOM'][1..2]", "bc"),
        ("if ENV['ROOM'] then 'y' else 'n' end", "y"), ("ENV['ROOM'][/c(.)/, 1]", "d"), ("nil.to_s", ""),
        ("ENV['ROOM'] =~ /z/ ? 1 : 0", "0"), ("format('%s-%d', 'a', 1)", "a-1"), ("'}'.length", "1"),
        ("{'a' => 'b'}[\"a\"]", "b"),
    ],
)  # fmt: skip
def test_embedded_code_beyond_the_usual(code: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOM", "abcd")
    assert parse_text(f'k "-#{{{code}}}-"').params["k"].value == f"-{text}-"


@pytest.mark.parametrize("code", ["tag", "record['a']", "time.to_i", "system('id')", "1.upcase(2)", "1 +"])
def test_embedded_code_that_is_refused(code: str) -> None:
    with pytest.raises(ConfigSyntaxError, match="not supported"):
        parse_text(f'k "#{{{code}}}"')


def test_a_carriage_return_alone_ends_no_line() -> None:
    assert parse_text("k \rv\r\nk2\r\n").params["k"].value == "v"


def test_values_in_paths_are_written_as_in_ruby(tmp_path: Path) -> None:
    config = f"path {tmp_path}/${{k}}\nappend true\n<buffer k>\n@type memory\n</buffer>"
    with run(match("file", config)) as driver:
        for value in (1.0, 1e20, True, None, {"x": [1, "y", None]}):
            driver.emit("t", {"k": value}, time_ns=TIME)
    names = {path.name.removesuffix(".log") for path in tmp_path.iterdir()}
    assert names == {"1.0", "1.0e+20", "true", "", '{"x"=>[1, "y", nil]}'}

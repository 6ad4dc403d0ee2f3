"""`@type tail` on the files of Fluentd's own tests (test_in_tail.rb): what comes out is what Fluentd's gives.

Parameters of the parser stand in `<parse>`, or as of old beside those of the input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwarder.api.testing import run

CONFIG = """
<source>
  @type tail
  path {folder}/tail.txt
  tag t1
  pos_file {folder}/pos
  read_from_head true
  {lines}
</source>
<match **>
  @type test
</match>
"""
SINGLE = ["/(?<message>.*)/"]
MULTILINE = [
    "multiline",
    r"format1 /^s (?<message1>[^\n]+)(\nf (?<message2>[^\n]+))?(\nf (?<message3>.*))?/",
    "format_firstline /^[s]/",
]
NEWLINE = [
    "multiline",
    r"format1 /^s (?<message1>[^\n]+)(\nf (?<message2>[^\n]+))?(\nf (?<message3>.[^\n]+))?/",
    "format_firstline /^[s]/",
]
FORMATS = [
    "multiline",
    r"format1 /^s (?<message1>[^\n]+)\n?/",
    r"format2 /(f (?<message2>[^\n]+)\n?)?/",
    r"format3 /(f (?<message3>.*))?/",
    "format_firstline /^[s]/",
]
NO_FIRST = [
    "multiline",
    r"format1 /(?<var1>foo \d)\n/",
    r"format2 /(?<var2>bar \d)\n/",
    r"format3 /(?<var3>baz \d)/",
]
EIGHT = b"f test1\ns test2\nf test3\nf test4\ns test5\ns test6\nf test7\ns test8\n"
KANA = "はろーわーるど"
FOUR = [
    {"message1": "test2", "message2": "test3", "message3": "test4"},
    {"message1": "test5"},
    {"message1": "test6", "message2": "test7"},
    {"message1": "test8"},
]


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "parse"])
@pytest.mark.parametrize(
    ("parse", "extra", "text", "expected"),
    [
        (
            SINGLE,
            "",
            b"    \n    4 spaces\n4 spaces    \n\t\n\ttab\ntab\t\n",
            [{"message": text} for text in ("    ", "    4 spaces", "4 spaces    ", "\t", "\ttab", "tab\t")],
        ),
        (SINGLE, "from_encoding cp932\nencoding utf-8", f"{KANA}\n".encode("cp932"), [{"message": KANA}]),
        (
            SINGLE,
            "from_encoding utf-16le\nencoding utf-8",
            f"{KANA}\n".encode("utf-16le"),
            [{"message": KANA}],
        ),
        (SINGLE, "from_encoding ASCII-8BIT\nencoding utf-8", b"te\x86st\n", [{"message": "te\ufffdst"}]),
        (["/^あ(?<name>.*)お$/"], "encoding utf-8", "あいうえお\n".encode(), [{"name": "いうえ"}]),
        (MULTILINE, "", EIGHT, FOUR),
        (MULTILINE, "emit_unmatched_lines true", EIGHT, [{"unmatched_line": "f test1"}, *FOUR]),
        (MULTILINE, "multiline_flush_interval 0.2", EIGHT, FOUR),
        (FORMATS, "", EIGHT, FOUR),
        (
            NEWLINE,
            "emit_unmatched_lines true",
            b"s test0\nf test1\nf test2\nf test3\ns test4\nf test5\nf test6\n",
            [
                {"message1": "test0", "message2": "test1", "message3": "test2"},
                {"unmatched_line": "f test3"},
                {"message1": "test4", "message2": "test5", "message3": "test6"},
            ],
        ),
        (
            MULTILINE,
            "multiline_flush_interval 0.2\nfrom_encoding cp932\nencoding utf-8",
            f"s {KANA}\n".encode("cp932"),
            [{"message1": KANA}],
        ),
        (
            ["multiline", "format1 /^[s|f] (?<message>.*)/", "format_firstline /^[s]/"],
            "path_key path",
            b"f ignored\ns test1\nf test2\nf test3\ns test4\n",
            [
                {"message": "test1\nf test2\nf test3", "path": "tail.txt"},
                {"message": "test4", "path": "tail.txt"},
            ],
        ),
        (
            NO_FIRST,
            "path_key path",
            b"foo 1\nbar 1\nbaz 1\nfoo 2\nbar 2\nbaz 2\n",
            [
                {f"var{i}": f"{word} {n}" for i, word in enumerate(("foo", "bar", "baz"), 1)}
                | {"path": "tail.txt"}
                for n in (1, 2)
            ],
        ),
        (
            ["json"],
            "emit_unmatched_lines true\npath_key path",
            b'{"a":1}\nno json\n{"a":2,"path":"own"}\n',
            [
                {"a": 1, "path": "tail.txt"},
                {"unmatched_line": "no json", "path": "tail.txt"},
                {"a": 2, "path": "own"},
            ],
        ),
    ],
)
def test_lines(  # noqa: PLR0917 - one row of the table
    tmp_path: Path, parse: list[str], extra: str, text: bytes, expected: list[dict[str, Any]], flat: bool
) -> None:
    kind, *more = parse
    lines = [f"format {kind}", *more] if flat else ["<parse>", f"@type {kind}", *more, "</parse>"]
    (tmp_path / "tail.txt").write_bytes(text)
    held = sum("multiline" in kind and "firstline" in line for line in more)
    with run(CONFIG.format(folder=tmp_path, lines="\n".join([extra, *lines]))) as driver:
        # what is held comes at the stop, where nothing else makes it come
        waits = len(expected) - (held if "flush_interval" not in extra else 0)
        driver.wait_for(lambda: len(driver.records()) >= waits)
        driver.stop()
        records = driver.records()
    for record in records:
        if isinstance(record.get("path"), str):
            record["path"] = record["path"].removeprefix(f"{tmp_path}/")
    assert records == expected


def test_move_truncate_move_back(tmp_path: Path) -> None:
    file, other = tmp_path / "tail.txt", tmp_path / "tail2.txt"
    file.write_text("test1\ntest2\n")
    config = CONFIG.format(folder=tmp_path, lines="rotate_wait 1s\nformat none")
    with run(config) as driver:
        driver.wait_for(lambda: len(driver.records()) == 2)
        file.rename(other)
        with other.open("r+") as writer:
            writer.truncate(6)
        other.rename(file)
        driver.wait_for(lambda: len(driver.records()) == 3)
        assert [record["message"] for record in driver.records()] == ["test1", "test2", "test1"]

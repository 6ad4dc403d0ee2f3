"""The examples of docs/forward.md, each sender against its receiver."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forwarder_process import free_port

from forwarder.api.testing import run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "forward.md").read_text()
EXAMPLE = re.compile(r"<!-- example: (\S+) (\S+) -->\n```\w*\n(.*?)```\n", re.DOTALL)
EXAMPLES: dict[str, dict[str, str]] = {}
for _name, _part, _text in EXAMPLE.findall(PAGE):
    EXAMPLES.setdefault(_name, {})[_part] = _text
PAIRS = sorted(name for name, parts in EXAMPLES.items() if "sender" in parts)


def test_every_example_is_known() -> None:
    assert PAGE.count("<!-- example:") == sum(map(len, EXAMPLES.values()))
    assert {*PAIRS, "certificates", "cat"} == set(EXAMPLES)
    # every configuration on the page is one of them
    assert PAGE.count("\n<source>") + PAGE.count("\n<match **>\n  @type forward") == sum(
        part in ("receiver", "sender") for parts in EXAMPLES.values() for part in parts
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    """Made as the page says."""
    tools.need("openssl")
    folder = tmp_path_factory.mktemp("forward-certificates")
    subprocess.run(
        ["sh", "-ec", EXAMPLES["certificates"]["shell"]], cwd=folder, check=True, capture_output=True
    )
    return folder


def here(text: str, folder: Path, port: int) -> str:
    """An example with this machine's address, a free port, and files of the test."""
    text = text.replace("/etc/forwarder/", f"{folder}/")
    text = re.sub(r"host (aggregator)\.example", r"host 127.0.0.1\n    name \1.example", text)
    text = text.replace("host spare.example", "host 127.0.0.1").replace('"aggregator.example"', '"127.0.0.1"')
    text = text.replace("24224", str(port)).replace("  @type stdout", "  @type test")
    return re.sub(r"flush_interval \w+", "flush_interval 0.05", text)


@pytest.mark.parametrize("name", PAIRS)
def test_sender_and_receiver(name: str, certificates: Path, tmp_path: Path) -> None:
    parts, port = EXAMPLES[name], free_port()
    for path in certificates.iterdir():
        shutil.copy(path, tmp_path)
    for part, text in parts.items():
        if part.startswith("/"):
            (tmp_path / Path(part).name).write_text(here(text, tmp_path, port))
    with (
        run(here(parts["receiver"], tmp_path, port)) as receiver,
        run(here(parts["sender"], tmp_path, port)) as sender,
    ):
        sender.emit("app.test", {"n": 1}, {"n": 2})
        receiver.wait_for_events(2)
        sender.wait_for(lambda: sender["out_forward"].delivered == 2)
        assert sender.diagnostics.items == receiver.diagnostics.items == []
    assert [(event.tag, event.record) for event in receiver.events()] == [
        ("app.test", {"n": 1}), ("app.test", {"n": 2})
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), [
    ("tls", ("name aggregator.example", "name other.example")),
    ("shared-key", ("shared_key a-long-random-text", "shared_key wrong")),
    ("shared-key", ("password another-random-text", "password wrong")),
])  # fmt: skip
def test_a_wrong_sender_gets_nowhere(
    name: str, change: tuple[str, str], certificates: Path, tmp_path: Path
) -> None:
    """So that the examples prove something."""
    port = free_port()
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    text = here(EXAMPLES[name]["sender"], tmp_path, port)
    assert change[0] in text
    text = text.replace(*change).replace("<buffer tag>", "<buffer tag>\n retry_max_times 0")
    with (
        run(here(EXAMPLES[name]["receiver"], tmp_path, port)) as receiver,
        run(text) as sender,
    ):
        sender.emit("app.test", {"n": 1})
        sender.wait_for(lambda: sender["out_forward"].lost == {"retry_limit": 1})
        assert receiver.events() == []


def test_cat(tmp_path: Path) -> None:
    port = free_port()
    command = EXAMPLES["cat"]["shell"].replace("aggregator.example", f"127.0.0.1 --port {port}")
    folder = Path(sys.executable).parent
    with run(here(EXAMPLES["cat"]["receiver"], tmp_path, port)) as receiver:
        done = subprocess.run(
            ["sh", "-ec", command],
            check=False, capture_output=True, text=True, timeout=30,
            env={"PATH": f"{folder}:/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        (event,) = receiver.wait_for_events(1)
    assert (event.tag, event.record) == ("app.test", {"message": "hello"})

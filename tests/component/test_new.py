"""`forwarder new`: its packages are sound as they are, and what they are made of is in the guide.

The examples' own tests are beside them, in forwarder/cli/templates.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.cli.main import main
from forwarder.cli.new import TEMPLATES, package
from forwarder.core.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "forwarder" / "cli" / "templates"
GUIDE = (ROOT / "docs" / "plugin-guide.md").read_text()
KINDS = sorted(TEMPLATES)


def new(kind: str, folder: Path, name: str = "acme_x2") -> Path:
    target = folder / kind
    assert main(["new", kind, name, "-o", str(target)]) == 0
    return target


def python(*words: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python elsewhere, with `path` to import from."""
    env = {**os.environ, "PYTHONPATH": str(path or ""), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)], check=False, capture_output=True, text=True, cwd=cwd, env=env
    )


def test_every_example_is_in_the_guide_as_it_is() -> None:
    examples = [path for path in EXAMPLES.glob("*_*.py") if not path.name.startswith(("_", "test_"))]
    assert len(examples) > len(TEMPLATES)
    for path in examples:
        assert path.read_text().strip() in GUIDE, path.name
        assert (EXAMPLES / f"test_{path.name}").exists()
    for template in TEMPLATES.values():
        assert template.used in GUIDE, template.name


def test_the_folder_that_the_guide_names_is_a_folder_of_plugins() -> None:
    registry = Registry()
    registry.add_directory(str(ROOT / "docs" / "examples"))
    for kind, template in TEMPLATES.items():
        assert registry.load(kind, template.name).__name__.endswith(template.suffix)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_the_example(kind: str) -> None:
    template = TEMPLATES[kind]
    text = "\n".join(package(kind, "acme_x2").values())
    for left in (
        f"`{template.name}`", f"@type {template.name}", f"_{template.name}", "forwarder.cli",
        f"{template.name.capitalize()}{template.suffix}", f'"{template.name}"',
    ):  # fmt: skip
        assert left not in text
    assert f"class AcmeX2{template.suffix}" in text


@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass_as_generated(kind: str, tmp_path: Path) -> None:
    folder = new(kind, tmp_path)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, path=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_and_is_found(kind: str, tmp_path: Path) -> None:
    folder, target = new(kind, tmp_path), tmp_path / "site"
    done = python("-m", "pip", "install", "-q", "--no-deps", "--target", target, folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = python("-m", "forwarder.cli.main", "plugins", "show", "acme_x2", cwd=tmp_path, path=target)
    assert f"{kind} acme_x2" in shown.stdout, shown.stderr


@pytest.mark.slow
def test_the_packages_are_typed_and_formatted(tmp_path: Path) -> None:
    for kind in KINDS:
        new(kind, tmp_path)
    for words in ("format --check", "check --ignore I001"):  # whose import block is whose
        done = python(
            "-m", "ruff", *words.split(), "--config", ROOT / "pyproject.toml", tmp_path, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for kind in KINDS:
        done = python(
            "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", ".", cwd=tmp_path / kind, path=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (["parser", "Upper"], "'Upper' is no name for a plugin"),
    (["parser", "json"], "a parser plugin called 'json' already"),
    (["parser", "mine", "-o", "."], ". exists already"),
    (["parser", "mine", "-o", "/proc/none"], "cannot write /proc/none: "),
])  # fmt: skip
def test_what_it_refuses(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", *words]) == 1
    assert said in capsys.readouterr().err


def test_the_folder_is_named_after_kind_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "input", "acme_x2"]) == 0
    assert "forwarder-input-acme-x2/tests/test_in_acme_x2.py" in capsys.readouterr().out
    assert (tmp_path / "forwarder-input-acme-x2" / "forwarder_input_acme_x2" / "in_acme_x2.py").exists()

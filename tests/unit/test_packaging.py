"""What is installed: all packages, under `forwarder` only, with the native module and the licence."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import quick_cargo

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]

# installed package -> where its folder is in the tree
TREES = {"forwarder": "forwarder", "forwarder.parsers": "parsers", "forwarder.plugins": "plugins"}


def packages_in_the_tree() -> dict[str, str]:
    """Every folder with an `__init__.py`, as package -> folder; symlinks are not followed."""
    found = {}
    for package, top in TREES.items():
        for init in sorted((ROOT / top).rglob("__init__.py")):
            folder = init.parent
            if any((ROOT / Path(*folder.relative_to(ROOT).parts[: n + 1])).is_symlink() for n in range(2)):
                continue
            parts = folder.relative_to(ROOT / top).parts
            found[".".join([package, *parts])] = str(folder.relative_to(ROOT))
    return found


def data_in_the_tree() -> set[str]:
    """Files that are installed besides modules, as paths below site-packages."""
    wanted = {"forwarder/py.typed", "forwarder/_native.pyi"}
    for pattern in sorted((ROOT / "parsers" / "patterns").glob("*")):
        if pattern.is_file():
            wanted.add(f"forwarder/parsers/patterns/{pattern.name}")
    return wanted


def test_the_package_list_names_every_folder() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_in_the_tree())


def test_the_directory_map_leads_to_the_folders() -> None:
    directories = SETUPTOOLS["package-dir"]
    for package, folder in packages_in_the_tree().items():
        mapped = directories.get(package)
        if mapped is None:
            parent, _, name = package.rpartition(".")
            while parent not in directories:
                parent, _, rest = parent.rpartition(".")
                name = f"{rest}/{name}"
            mapped = f"{directories[parent]}/{name}"
        assert mapped == folder, package


@pytest.mark.parametrize("name", ["parsers", "plugins"])
def test_the_folders_are_linked_into_the_package(name: str) -> None:
    link = ROOT / "forwarder" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


@pytest.mark.parametrize("name", ["parsers", "plugins"])
def test_they_are_not_top_level_modules(name: str, tmp_path: Path) -> None:
    # From another directory and without the checkout on the path, as a user's process would see it.
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import importlib.util as u; print(u.find_spec({name!r}))"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout.strip() == "None"


def test_every_entry_point_can_be_loaded() -> None:
    declared = {
        (group, name): value
        for group, names in PROJECT["project"]["entry-points"].items()
        for name, value in names.items()
    }
    assert declared
    installed = {
        (point.group, point.name): point
        for point in importlib.metadata.distribution("forwarder").entry_points
        if point.group.startswith("forwarder.")
    }
    assert {key: point.value for key, point in installed.items()} == declared, "run `make setup` again"
    for point in installed.values():
        assert isinstance(point.load(), type), point


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": "",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **quick_cargo.ENVIRONMENT,
    }
    done = subprocess.run([str(part) for part in command], check=False, cwd=cwd, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def checkout(target: Path) -> Path:
    """The tracked files, as a fresh clone has them, uncommitted changes included."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, names):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return target


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("fresh") / "forwarder-checkout")


def check_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = set(data_in_the_tree())
    for package, folder in packages_in_the_tree().items():
        for module in (ROOT / folder).glob("*.py"):
            expected.add(f"{package.replace('.', '/')}/{module.name}")
    assert expected - names == set()
    assert "forwarder/_native.abi3.so" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"forwarder"}
    assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]
    assert "-abi3-" in wheel.name


def check_installed(python: Path, elsewhere: Path) -> None:
    program = python.parent / "forwarder"
    assert run(program, "--version", cwd=elsewhere).strip() == f"forwarder {PROJECT['project']['version']}"
    listed = run(program, "plugins", cwd=elsewhere)
    for group, names in PROJECT["project"]["entry-points"].items():
        for name in names:
            assert name in listed, f"{group}: {name}"
    run(python, "-c", "import forwarder.parsers, forwarder.plugins.inputs, forwarder._native", cwd=elsewhere)


def virtual_environment(folder: Path) -> Path:
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("packaging")
class TestInstalls:
    """Each way of installing, from a fresh copy of the tracked files into an environment of its own."""

    def test_wheel(self, fresh: Path, tmp_path: Path) -> None:
        python = virtual_environment(tmp_path / "env")
        run(python, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "dist", fresh, cwd=tmp_path)
        (wheel,) = (tmp_path / "dist").glob("*.whl")
        check_wheel(wheel)
        run(python, "-m", "pip", "install", wheel, cwd=tmp_path)
        check_installed(python, tmp_path)

    def test_sdist_then_wheel(self, fresh: Path, tmp_path: Path) -> None:
        python = virtual_environment(tmp_path / "env")
        run(python, "-m", "pip", "install", "build", cwd=tmp_path)
        run(python, "-m", "build", "--sdist", "--outdir", tmp_path / "dist", fresh, cwd=tmp_path)
        (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            files = {name.partition("/")[2] for name in archive.getnames()}
        assert {"native/Cargo.toml", "native/Cargo.lock", "LICENSE", "setup.py"} <= files
        run(python, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "dist", sdist, cwd=tmp_path)
        (wheel,) = (tmp_path / "dist").glob("*.whl")
        check_wheel(wheel)

    def test_editable(self, fresh: Path, tmp_path: Path) -> None:
        python = virtual_environment(tmp_path / "env")
        run(python, "-m", "pip", "install", "-e", fresh, cwd=tmp_path)
        check_installed(python, tmp_path)

    def test_without_cargo_one_line_says_what_to_install(self, fresh: Path, tmp_path: Path) -> None:
        python = virtual_environment(tmp_path / "env")
        done = subprocess.run(
            [python, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, fresh],
            check=False, capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "CARGO": "/nowhere/cargo"},
        )  # fmt: skip
        assert done.returncode != 0
        told = [line for line in (done.stdout + done.stderr).splitlines() if "cargo not found" in line]
        assert len(told) == 1, done.stderr
        assert "install Rust" in told[0]

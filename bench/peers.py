"""Brings rsyslog and syslog-ng onto this machine without installing them.

Debian's packages of the two exclude each other, so both are unpacked side by side into `bench/.tools` and run
with explicit library and module paths. Libraries that the system already has are taken from the system.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent / ".tools"
ROOTS = {
    "rsyslog": ("rsyslog", "rsyslog-elasticsearch"),
    "syslog-ng": ("syslog-ng-core", "syslog-ng-mod-http"),
}


class UnavailableError(Exception):
    """A peer cannot be had on this machine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An unpacked peer.

    Attributes:
        version: Debian's version of the package.
        program: the daemon.
        modules: where its loadable modules are.
        environment: what the daemon needs to find its libraries.
    """

    version: str
    program: Path
    modules: Path
    environment: dict[str, str]


def fetch(name: str) -> Peer:
    """The peer `name` ("rsyslog" or "syslog-ng"), downloaded and unpacked if it is not there yet.

    Raises:
        UnavailableError: apt is missing, or it cannot download.
    """
    root = TOOLS / name
    complete = root / "complete"
    if not complete.exists() or complete.read_text().split()[1:] != list(ROOTS[name]):
        _download(name, root)
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(_library_folders(root))}
    program = next(iter(root.glob("**/sbin/rsyslogd" if name == "rsyslog" else "**/sbin/syslog-ng")))
    marker = "omjournal.so" if name == "rsyslog" else "libsyslogformat.so"
    modules = next(iter(root.glob(f"**/{marker}"))).parent
    return Peer(complete.read_text().split()[0], program, modules, environment)


def _library_folders(root: Path) -> list[str]:
    return sorted({str(file.parent) for file in root.glob("**/lib*.so*")})


def _download(name: str, root: Path) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-query"):
        if not shutil.which(tool):
            raise UnavailableError(
                f"{name}: {tool} not found: the peers are taken from Debian's or Ubuntu's packages"
            )
    if _run("apt-cache", "show", "--no-all-versions", ROOTS[name][0], check=False).returncode:
        _run("apt-get", "update", "--quiet")
    shutil.rmtree(root, ignore_errors=True)
    archives = root / "archives"
    archives.mkdir(parents=True)
    packages = sorted(_missing_packages(ROOTS[name]))
    # As root apt would download as the user _apt, who may not be able to write here.
    _run("apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", *packages, cwd=archives)
    for archive in archives.glob("*.deb"):
        _run("dpkg", "-x", str(archive), str(root))
    shown = _run("apt-cache", "show", "--no-all-versions", ROOTS[name][0]).stdout
    version = next(line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith("Version: "))
    shutil.rmtree(archives)
    (root / "complete").write_text("\n".join((version, *ROOTS[name])) + "\n")


def _missing_packages(roots: tuple[str, ...]) -> set[str]:
    """`roots` and what they depend on, less what is installed."""
    wanted: set[str] = set()
    todo = list(roots)
    while todo:
        package = todo.pop()
        if package in wanted or (package not in roots and _installed(package)):
            continue
        wanted.add(package)
        listing = _run("apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts",
                       "--no-breaks", "--no-replaces", "--no-enhances", package).stdout  # fmt: skip
        for line in listing.splitlines():
            kind, _, target = line.strip().lstrip("|").partition(":")
            # Libraries only: init scripts and helpers are not needed to run a daemon in the foreground.
            if kind in ("Depends", "PreDepends") and target.strip().startswith("lib"):
                todo.append(target.strip())
    return wanted


def _installed(package: str) -> bool:
    status = _run("dpkg-query", "--show", "--showformat=${Status}", package, check=False).stdout
    return status.endswith(" installed")


def _run(*command: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True)
    if check and done.returncode:
        raise UnavailableError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-400:]}")
    return done

"""`forwarder new`: a package with a plugin, made of a worked example of docs/plugin-guide.md.

The package has the plugin, tests by the test driver, a README and a pyproject.toml with the entry point. Its
tests pass as they are, before anything is changed.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final, NamedTuple

from forwarder import __version__
from forwarder.api.errors import ConfigError
from forwarder.core.registry import Registry

HELP = "make a package for a plugin of your own"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TEMPLATES: Final = "forwarder.cli.templates"


class Template(NamedTuple):
    """A worked example: `templates/PREFIX_NAME.py`, which defines NAME as a class with this suffix."""

    prefix: str
    name: str
    suffix: str
    used: str
    """How a configuration uses it."""


TEMPLATES: Final = {
    "input": Template("in", "count", "Input", "<source>\n  @type count\n  tag app\n</source>"),
    "parser": Template(
        "parser", "pairs", "Parser",
        "<filter app.**>\n  @type parser\n  key_name message\n  <parse>\n    @type pairs\n  </parse>\n"
        "</filter>",
    ),
    "filter": Template(
        "filter", "mask", "Filter", "<filter app.**>\n  @type mask\n  fields password\n</filter>"
    ),
    "formatter": Template(
        "formatter", "keys", "Formatter",
        "<match app.**>\n  @type stdout\n  <format>\n    @type keys\n  </format>\n</match>",
    ),
    "output": Template(
        "out", "folder", "Output",
        "<match app.**>\n  @type folder\n  path /var/log/app\n  <buffer tag>\n    flush_interval 10s\n"
        "  </buffer>\n</match>",
    ),
}  # fmt: skip
"""By kind of plugin."""

_PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "{title} {name} for forwarder"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["forwarder>={version}"]

[project.optional-dependencies]
test = ["pytest>=8"]

# What `@type {name}` means.
[project.entry-points."forwarder.{kind}s"]
{name} = "{package}.{module}:{cls}"

[tool.setuptools]
packages = ["{package}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

_README: Final = """\
# {distribution}

The {kind} plugin `{name}` for forwarder.

```
{used}
```

`forwarder plugins show {name}` lists its parameters.

## Developing

    pip install -e '.[test]'      # the entry point in pyproject.toml makes `@type {name}` known
    pytest                        # the tests run the plugin in a configuration, within their own process
    forwarder check fluent.conf   # names what is wrong in a configuration that uses it

Without installing: `forwarder run -p {package} -c fluent.conf` takes the plugins of a folder.
The plugin author's guide (docs/plugin-guide.md) has the rest.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("kind", choices=tuple(TEMPLATES), help="what kind of plugin")
    parser.add_argument("name", help="its @type: lower-case letters, digits and _")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="folder to make (default: forwarder-KIND-NAME, here)"
    )


def run(args: argparse.Namespace) -> int:
    """Makes the package. Raises ConfigError: no name, a taken one; a folder that exists or cannot be made."""
    if not _NAME.fullmatch(args.name):
        raise ConfigError(f"{args.name!r} is no name for a plugin: expected lower-case letters, digits and _")
    if args.name in Registry().names(args.kind):
        raise ConfigError(f"there is a {args.kind} plugin called {args.name!r} already")
    files = package(args.kind, args.name)
    folder = Path(args.output or f"forwarder-{args.kind}-{args.name.replace('_', '-')}")
    try:
        folder.mkdir(parents=True)
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigError(f"{folder} exists already") from None
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from error
    print("\n".join(str(folder / name) for name in files))
    print(f"\nNext: cd {folder} && pip install -e '.[test]' && pytest")
    return 0


def package(kind: str, name: str) -> dict[str, str]:
    """The files of a new package: path -> text. `kind`: a key of `TEMPLATES`."""
    template = TEMPLATES[kind]
    words = {
        "name": name, "kind": kind, "title": kind.capitalize(), "version": __version__,
        "distribution": f"forwarder-{kind}-{name.replace('_', '-')}",
        "package": f"forwarder_{kind}_{name}", "module": f"{template.prefix}_{name}",
        "cls": "".join(part.capitalize() for part in name.split("_")) + template.suffix,
    }  # fmt: skip
    words["used"] = _renamed(template.used, template, words)
    module, example = words["module"], f"{template.prefix}_{template.name}"
    return {
        "pyproject.toml": _PYPROJECT.format(**words),
        "README.md": _README.format(**words),
        f"{words['package']}/__init__.py": f'"""The {kind} plugin `{name}` for forwarder."""\n',
        f"{words['package']}/{module}.py": _renamed(_read(f"{example}.py"), template, words),
        f"tests/test_{module}.py": _renamed(_read(f"test_{example}.py"), template, words),
    }


def _read(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _renamed(text: str, template: Template, words: dict[str, str]) -> str:
    """`text` with the example's name replaced, wherever it is the name rather than a word."""
    old, new = template.name, words["name"]
    for before, after in (
        (_TEMPLATES, words["package"]),
        (f"{template.prefix}_{old}", words["module"]),
        (f"{old.capitalize()}{template.suffix}", words["cls"]),
        (f"`{old}`", f"`{new}`"),
        (f'"{old}"', f'"{new}"'),
        (f"@type {old}\n", f"@type {new}\n"),
    ):
        text = text.replace(before, after)
    return text

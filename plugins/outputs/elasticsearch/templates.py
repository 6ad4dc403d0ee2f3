"""Index templates: put into the cluster before the first documents that need them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from forwarder.api import ConfigError, ForwarderError
from forwarder.plugins.outputs.elasticsearch.parameters import Setup

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

_HEADERS = {"content-type": "application/json", "accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Template:
    """One template as it is configured; name and replacements may hold placeholders."""

    name: str
    text: str
    """What its file holds."""
    replacements: Mapping[str, str] = field(default_factory=dict)
    """`customize_template`"""

    @property
    def fixed(self) -> bool:
        """Whether it is the same for every chunk."""
        return not any("${" in text or "%" in text for text in (self.name, *self.replacements.values()))

    def body(self, fill: Callable[[str], str]) -> bytes:
        """What is sent, with all texts replaced (by lower case, as Fluentd does). Raises ValueError."""
        text = self.text.replace("\n", "")
        for old, new in self.replacements.items():
            text = text.replace(old, fill(new).lower())
        return json.dumps(json.loads(text)).encode()


class Installer:
    """Puts templates into clusters, each once. May be used from several threads."""

    def __init__(self, templates: Sequence[Template], setup: Setup, log: Any) -> None:
        self._templates = templates
        self._folder = "_template" if setup.use_legacy_template else "_index_template"
        self._setup = setup
        self.log = log
        self._lock = threading.Lock()
        self._there: set[tuple[str, str, bytes]] = set()
        self._since = time.monotonic()
        self._failures = 0

    @property
    def fixed(self) -> bool:
        """Whether no template depends on the chunk."""
        return all(template.fixed for template in self._templates)

    def install(self, cluster: Cluster, fill: Callable[[str], str]) -> None:
        """Sees to it that the templates are there; `fill` fills in placeholders.

        Raises:
            UnreachableError, RefusedError: they could not be put there.
        """
        if not self._templates:
            return
        with self._lock:
            for template in self._templates:
                name, body = fill(template.name), template.body(fill)
                key = (cluster.name, name, body)
                if key not in self._there:
                    self.attempt(name, partial(self.put, cluster, name, body))
                    self._there.add(key)

    def due(self) -> bool:
        """Whether `truncate_caches_interval` is over since it last was; what is known is forgotten then."""
        interval = self._setup.truncate_caches_interval
        if interval is None:
            return False
        with self._lock:
            over = time.monotonic() - self._since >= interval
            if over:
                self._there.clear()
                self._since = time.monotonic()
            return over

    def attempt(self, name: str, put: Callable[[], None]) -> None:
        """Calls `put`. After `max_retry_putting_template` failures it is given up, unless
        `fail_on_putting_template_retry_exceed`.

        Raises:
            UnreachableError, RefusedError: of `put`, which is to be called again.
        """
        try:
            put()
        except ForwarderError as error:
            self._failures += 1
            patient = self._failures <= self._setup.max_retry_putting_template
            if patient or self._setup.fail_on_putting_template_retry_exceed:
                raise
            self.log.warning("an index template is given up", template=name, error=error)

    def put(self, cluster: Cluster, name: str, body: bytes) -> None:
        """Puts one template, where it is not there yet or `template_overwrite` is set.

        Raises:
            UnreachableError, RefusedError: it could not be put there.
        """
        # Here and not above: it loads the HTTP client.
        from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, explain  # noqa: PLC0415

        target = f"/{self._folder}/{quote(name, safe='')}"
        if not self._setup.template_overwrite:
            found = cluster.request("GET", target, headers=_HEADERS)
            if found.status == 200:
                return
            if found.status != 404:
                raise RefusedError(explain(found, f"GET {target}"), found.status)
        answer = cluster.request("PUT", target, body, _HEADERS)
        if answer.status not in (200, 201):
            raise RefusedError(explain(answer, f"PUT {target}"), answer.status)
        self.log.info("index template installed", template=name, cluster=cluster.name)


def configured(setup: Setup) -> tuple[list[Template], list[Template]]:
    """The template of `template_name`, if there is one, and those of `templates`.

    Raises:
        ConfigError: a file is missing or no JSON, or parameters do not go together.
    """
    if setup.max_retry_putting_template < 0:
        raise ConfigError(
            "max_retry_putting_template must not be negative", param="max_retry_putting_template"
        )
    if (setup.template_name is None) != (setup.template_file is None):
        raise ConfigError("template_name and template_file must be set together", param="template_name")
    found: list[Template] = []
    if setup.template_name is not None and setup.template_file is not None:
        replacements = {old: str(new) for old, new in (setup.customize_template or {}).items()}
        text = _read("template_file", setup.template_file)
        found.append(Template(setup.template_name, text, replacements))
    elif setup.customize_template is not None:
        raise ConfigError("customize_template needs template_file", param="customize_template")
    others = [Template(name, _read("templates", str(path))) for name, path in (setup.templates or {}).items()]
    for template in (*found, *others):
        try:
            if template.fixed:
                template.body(str)
        except ValueError as error:
            raise ConfigError(
                f"template {template.name!r} is no JSON: {error}", param="template_file"
            ) from None
    return found, others


def _read(param: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{param}: cannot read {path}: {error}", param=param) from None

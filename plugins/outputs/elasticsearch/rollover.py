"""Indices that are rolled over: an alias to write to, its first index, and with `enable_ilm` template and
policy.

Names are fluent-plugin-elasticsearch's: documents go to an alias, which has the name that the index would
have (or `deflector_alias`); behind it stands `<index_name>-<application_name>-{now/d}-000001`, or with
`logstash_format` `<logstash_prefix>-<application_name>-<date>-000001`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from forwarder.api import ConfigError
from forwarder.plugins.outputs.elasticsearch.parameters import Setup
from forwarder.plugins.outputs.elasticsearch.templates import Installer, Template

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import Cluster

_ORDER: Final = 50
_PRIORITY: Final = 100
"""What a template without `order` or `priority` counts from."""
_REMEMBERED: Final = 10_000
_ONLY_WITH: Final = {
    "enable_ilm": ("ilm_policy_id", "ilm_policy", "ilm_policies"),
    "rollover_index": ("deflector_alias",),
}


def wanted(setup: Setup) -> bool:
    """Whether indices are rolled over."""
    return setup.enable_ilm or rolls(setup)


def rolls(setup: Setup) -> bool:
    """`rollover_index`, which Fluentd declares as a text: any but "false" means yes."""
    return setup.rollover_index.lower() not in ("false", "no", "")


def check(setup: Setup, log: Any) -> None:
    """Raises ConfigError for parameters that do not go together."""
    if setup.ilm_policy and setup.ilm_policies:
        raise ConfigError("ilm_policy and ilm_policies exclude each other", param="ilm_policies")
    if setup.ilm_policy_overwrite and not (setup.ilm_policy or setup.ilm_policies):
        raise ConfigError(
            "ilm_policy_overwrite requires a non empty ilm_policy", param="ilm_policy_overwrite"
        )
    if setup.enable_ilm and setup.deflector_alias is not None:
        raise ConfigError("deflector_alias does not go with enable_ilm", param="deflector_alias")
    on = "enable_ilm" if setup.enable_ilm else "rollover_index"
    if wanted(setup) and (setup.template_name is None or setup.template_file is None):
        raise ConfigError(f"{on} needs template_name and template_file", param=on)
    for switch, names in _ONLY_WITH.items():
        if (switch == "enable_ilm" and setup.enable_ilm) or (switch == "rollover_index" and rolls(setup)):
            continue
        for name in names:
            if getattr(setup, name) not in (None, {}) and name in setup.given:
                log.warning(f"{name} has no effect without {switch}")


class Rollover:
    """Sees to aliases, each once. May be used from several threads."""

    def __init__(self, template: Template, setup: Setup, installer: Installer) -> None:
        self._template = template
        self._setup = setup
        self._installer = installer
        self._policies = dict(setup.ilm_policies)
        if setup.ilm_policy:
            self._policies[setup.ilm_policy_id] = setup.ilm_policy
        self._lock = threading.Lock()
        self._there: set[tuple[str, str]] = set()

    @property
    def texts(self) -> Sequence[str]:
        """Parameters that may hold placeholders."""
        setup = self._setup
        template = self._template
        names = (setup.application_name, setup.ilm_policy_id, setup.deflector_alias or "")
        return (*names, template.name, *template.replacements.values())

    @property
    def alias(self) -> str | None:
        """`deflector_alias`"""
        return self._setup.deflector_alias

    def forget(self) -> None:
        """Has all aliases looked for again (`truncate_caches_interval`)."""
        with self._lock:
            self._there.clear()

    def prepare(
        self, cluster: Cluster, alias: str, target: str, fill: Callable[[str], str], *, dated: bool
    ) -> None:
        """Sees to an alias and what it needs.

        Args:
            target: what the names of the indices behind it start with.
            dated: `target` holds application name and date already.

        Raises:
            UnreachableError, RefusedError: the cluster does not take a part of it.
        """
        with self._lock:
            if (cluster.name, alias) in self._there:
                return
            self._installer.attempt(alias, lambda: self._put(cluster, alias, target, fill, dated=dated))
            if len(self._there) >= _REMEMBERED:
                self._there.clear()
            self._there.add((cluster.name, alias))

    def _put(
        self, cluster: Cluster, alias: str, target: str, fill: Callable[[str], str], *, dated: bool
    ) -> None:
        setup = self._setup
        body = self._template.body(fill)
        if setup.enable_ilm:
            policy = fill(setup.ilm_policy_id)
            pattern = f"{target}{setup.index_separator}*"
            self._see_to_policy(cluster, policy, pattern)
            if cluster.opensearch:
                settings = {"plugins.index_state_management.rollover_alias": alias}
            else:
                settings = {"index.lifecycle.name": policy, "index.lifecycle.rollover_alias": alias}
            managed = self._managed(json.loads(body), settings, target, pattern)
            self._installer.put(cluster, alias, json.dumps(managed).encode())
        else:
            self._installer.put(cluster, fill(self._template.name), body)
        self._see_to_alias(cluster, alias, self._first(target, fill, dated=dated))

    def _see_to_policy(self, cluster: Cluster, name: str, pattern: str) -> None:
        # Here and not above: they load the HTTP client.
        from forwarder.plugins.outputs.elasticsearch import policies  # noqa: PLC0415
        from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError  # noqa: PLC0415

        own = self._policies.get(name)
        overwrite = self._setup.ilm_policy_overwrite and own is not None
        policy = own or policies.DEFAULT_POLICY
        if not policies.see_to(
            cluster, name, policy, overwrite=overwrite, pattern=pattern, param="ilm_policy"
        ):
            raise RefusedError(f"enable_ilm: {cluster.name} has no lifecycle management")

    def _managed(
        self, body: dict[str, Any], settings: dict[str, str], target: str, pattern: str
    ) -> Mapping[str, Any]:
        """The template with what lifecycle management needs, for one alias alone."""
        body["index_patterns"] = [pattern]
        # the longer the name, the more it counts: one pattern may be the start of another
        rank = target.count(self._setup.index_separator) + 1
        if self._setup.use_legacy_template:
            body.pop("template", None)
            body["settings"] = (body.get("settings") or {}) | settings
            body["order"] = (body.get("order") or _ORDER) + rank
        else:
            inner = body.setdefault("template", {})
            inner["settings"] = (inner.get("settings") or {}) | settings
            body["priority"] = (body.get("priority") or _PRIORITY) + rank
        return body

    def _first(self, target: str, fill: Callable[[str], str], *, dated: bool) -> str:
        """The first index's name, in date math."""
        if dated:
            return f"<{target}-000001>"
        setup = self._setup
        name = f"{target.lower()}{setup.index_separator}{fill(setup.application_name).lower()}"
        pattern = setup.index_date_pattern
        return f"<{name}-{{{pattern}}}-000001>" if pattern else f"<{name}-000001>"

    def _see_to_alias(self, cluster: Cluster, alias: str, index: str) -> None:
        from forwarder.plugins.outputs.elasticsearch import policies  # noqa: PLC0415 - as above
        from forwarder.plugins.outputs.elasticsearch.cluster import (  # noqa: PLC0415
            RefusedError,
            error_of,
            explain,
        )

        name = quote(alias, safe="")
        target = f"/{quote(index, safe='')}"
        if policies.get(cluster, f"/_alias/{name}") is not None:
            return
        # with the alias in one step: between two a document would make an index of the alias's name
        answer = policies.send(cluster, "PUT", target, {"aliases": {alias: {"is_write_index": True}}})
        if answer.status != 200 and error_of(answer.body)[0] in (
            "resource_already_exists_exception", "index_already_exists_exception",
        ):  # fmt: skip
            target = f"{target}/_alias/{name}"
            answer = policies.send(cluster, "PUT", target, {"is_write_index": True})
        if answer.status != 200:
            raise RefusedError(explain(answer, f"PUT {target}"), answer.status)
        self._installer.log.info("alias made", alias=alias, index=index, cluster=cluster.name)

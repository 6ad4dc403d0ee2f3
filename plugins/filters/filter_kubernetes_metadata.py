"""Filter `kubernetes_metadata`: says of which pod an event is, by the name of the log file in its tag.

Namespace, pod, container and container id are in the tag. With an API server (`kubernetes_url`, or the
service account of the pod that the forwarder runs in) labels, annotations, node, image and the namespace's
labels come from there.

*Delivery*: every event goes on. The API server is asked in a thread of its own, once per pod: a batch waits
for `lookup_wait` at most, and not at all while the API server does not answer; it goes on with what the tag
says.

*Differs from Fluentd* (fluent-plugin-kubernetes_metadata_filter): instead of a watch, a pod is asked for
again after `cache_ttl`, and when a container shows up that it did not have. Records of the journal are not
taken apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, array, boolean, duration, integer, string
from forwarder.api.metrics import Family, Sample
from forwarder.plugins.filters.kubernetes.client import Client
from forwarder.plugins.filters.kubernetes.lookups import Found, Lookups, Name

_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_TAG: Final = (
    rf"var\.log\.containers\.(?<pod_name>{_LABEL}(\.{_LABEL})*)_(?<namespace>[^_]+)_"
    r"(?<container_name>.+)-(?<docker_id>[a-z0-9]{64})\.log$"
)
_NO_JOURNAL: Final = "there is no input for the journal"
_NO_WATCH: Final = "pods are asked for rather than watched"


class _Container(NamedTuple):
    """What a tag says."""

    pod: Name
    name: str
    id: str


class KubernetesMetadataFilter(Filter):
    """Adds `kubernetes` and `docker`."""

    kubernetes_url = string(
        "The API server; not set: the one of the cluster, if the forwarder runs in a pod.", None
    )
    apiVersion = string("Version of the API.", "v1")  # noqa: N815 (Fluentd's name)
    tag_to_kubernetes_name_regexp = string(
        "Regexp with the groups `pod_name`, `namespace`, `container_name`, `docker_id` over the tag.", _TAG
    )
    bearer_token_file = string("File with the token.", None)
    ca_file = string("CA of the API server.", None)
    client_cert = string("Certificate for the API server.", None)
    client_key = string("Its key.", None)
    verify_ssl = boolean("Whether the API server's certificate must be valid.", True)
    secret_dir = string(
        "Where `token` and `ca.crt` of the service account are.",
        "/var/run/secrets/kubernetes.io/serviceaccount",
    )
    cache_size = integer("Pods that are remembered.", 1000)
    cache_ttl = integer("Seconds after which a pod is asked for again; below 0: never.", 3600)
    open_timeout = integer("Seconds for a connection to the API server.", 3)
    read_timeout = integer("Seconds for its answer.", 10)
    lookup_wait = duration("Not in Fluentd: how long a batch waits for pods that are not known yet.", 2.0)
    watch = boolean("Only `false` or the default: pods are asked for.", True)
    watch_retry_interval = integer("", 1, unsupported=_NO_WATCH)
    watch_retry_exponential_backoff_base = integer("", 2, unsupported=_NO_WATCH)
    watch_retry_max_times = integer("", 10, unsupported=_NO_WATCH)
    annotation_match = array("Regexps of the annotations that are taken.", [])
    skip_labels = boolean("No labels.", False)
    skip_container_metadata = boolean("No image.", False)
    skip_master_url = boolean("No `master_url`.", False)
    skip_namespace_metadata = boolean("Nothing of the namespace but its name.", False)
    de_dot = boolean("Dots in keys of labels and annotations are replaced.", True)
    de_dot_separator = string("By this.", "_")
    de_slash = boolean("Slashes in keys of labels and annotations are replaced.", False)
    de_slash_separator = string("By this.", "__")
    allow_orphans = boolean("A pod that is gone, with its namespace, gets the namespace below.", True)
    orphaned_namespace_name = string("Its name.", ".orphaned")
    orphaned_namespace_id = string("Its id.", "orphaned")
    stats_interval = integer("Has no effect: the numbers are on the page of `@type prometheus`.", 30)
    lookup_from_k8s_field = boolean(
        "Names in the record's own `kubernetes`.", False, unsupported="the tag has the names"
    )
    use_journal = boolean("Names in fields of the journal.", False, unsupported=_NO_JOURNAL)
    container_name_to_kubernetes_regexp = string("", None, unsupported=_NO_JOURNAL)
    ssl_partial_chain = boolean("", False, unsupported="give the whole chain in ca_file")

    def configure(self) -> None:
        """Raises ConfigError."""
        super().configure()
        for name, separator, forbidden in (
            ("de_dot", self.de_dot_separator, "."),
            ("de_slash", self.de_slash_separator, "/"),
        ):
            if getattr(self, name) and forbidden in separator:
                raise ConfigError(f"cannot be or contain {forbidden!r}", param=f"{name}_separator")
        self._pattern = _compile("tag_to_kubernetes_name_regexp", self.tag_to_kubernetes_name_regexp)
        if not {"pod_name", "namespace"} <= set(self._pattern.groupindex):
            raise ConfigError(
                "needs the groups pod_name and namespace, and may have container_name and docker_id",
                param="tag_to_kubernetes_name_regexp",
            )
        self._annotations = [_compile("annotation_match", text) for text in self.annotation_match]
        self._url = self.kubernetes_url or _cluster_url()
        self._lookups: Lookups | None = None
        self._containers: dict[str, _Container | None] = {}
        self._packed: dict[_Container, tuple[Found | None, list[bytes]]] = {}

    def start(self) -> None:
        """Starts the thread that asks."""
        if self._url is None:
            return
        client = Client(
            self._url, self.apiVersion, ca_file=self.ca_file or self._secret("ca.crt"),
            client_cert=self.client_cert, client_key=self.client_key, verify=self.verify_ssl,
            token_file=self.bearer_token_file or self._secret("token"),
            open_timeout=self.open_timeout, read_timeout=self.read_timeout,
        )  # fmt: skip
        self._lookups = Lookups(
            client, size=max(1, self.cache_size), ttl=self.cache_ttl,
            with_namespace=not self.skip_namespace_metadata,
            log=lambda why: self.log_repeated("cannot ask the Kubernetes API", error=why),
        )  # fmt: skip
        self._lookups.start()

    def close(self) -> None:
        """Ends the thread."""
        if self._lookups is not None:
            self._lookups.stop()

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The events with their pods."""
        containers = [self._container(tag) for tag in batch.tags]
        found: dict[Name, Found] = {}
        if self._lookups is not None:
            names = {container.pod for container in containers if container is not None}
            found = self._lookups.get(names, self.lookup_wait)
            if len(found) < len(names):
                self.log_repeated("events go on without what the Kubernetes API says", level="info")
        values = [container and self._values(container, found.get(container.pod)) for container in containers]
        if not any(values):
            return batch
        return _native.set_fields(batch, ["docker", "kubernetes"], values)

    def measure(self) -> Iterable[Family]:
        """Lookups by result."""
        if self._lookups is None:
            return
        results = {"answered": self._lookups.answered, "failed": self._lookups.failed}
        samples = [
            Sample(value, {"plugin_id": self.context.id, "result": name}) for name, value in results.items()
        ]
        text = "Pods asked for at the Kubernetes API, by result."
        yield Family("forwarder_kubernetes_metadata_lookups_total", "counter", text, samples)

    def _container(self, tag: str) -> _Container | None:
        if tag not in self._containers:
            if len(self._containers) >= 10 * self.cache_size:
                self._containers.clear()
            found = self._pattern.search(tag)
            groups = found.groupdict() if found else {}
            self._containers[tag] = (
                _Container(
                    (groups["namespace"], groups["pod_name"]),
                    groups.get("container_name") or "", groups.get("docker_id") or "",
                )
                if groups
                else None
            )  # fmt: skip
        return self._containers[tag]

    def _values(self, container: _Container, found: Found | None) -> list[bytes]:
        packed = self._packed.get(container)
        if packed is not None and packed[0] is found:
            return packed[1]
        namespace, pod = container.pod
        fields: dict[str, Any] = {
            "container_name": container.name,
            "namespace_name": namespace,
            "pod_name": pod,
        }
        if found is not None:
            self._add(fields, container, found)
        values = [_native.msgpack_pack({"container_id": container.id}), _native.msgpack_pack(fields)]
        if len(self._packed) >= 10 * self.cache_size:
            self._packed.clear()
        self._packed[container] = (found, values)
        return values

    def _add(self, fields: dict[str, Any], container: _Container, found: Found) -> None:
        if found.pod is not None:
            metadata, status = found.pod["metadata"], _dict(found.pod, "status")
            images = {
                str(each.get("containerID", "")).rpartition("://")[2]: each
                for each in status.get("containerStatuses") or ()
                if isinstance(each, dict)
            }
            image = images.get(container.id)
            if image is None and self._lookups is not None:
                self._lookups.refresh(container.pod)
            if image is not None and not self.skip_container_metadata:
                fields |= {"container_image": image.get("image"), "container_image_id": image.get("imageID")}
            fields |= {
                "pod_id": metadata.get("uid"),
                "pod_ip": status.get("podIP"),
                "host": _dict(found.pod, "spec").get("nodeName"),
                **self._described(metadata, ""),
            }
            if not self.skip_master_url:
                fields["master_url"] = self._url
        if found.namespace is not None:
            metadata = found.namespace["metadata"]
            fields |= {"namespace_id": metadata.get("uid"), **self._described(metadata, "namespace_")}
        elif found.pod is None and not self.skip_namespace_metadata and self.allow_orphans:
            fields["orphaned_namespace"] = fields["namespace_name"]
            fields["namespace_name"] = self.orphaned_namespace_name
            fields["namespace_id"] = self.orphaned_namespace_id
        for name in [name for name, value in fields.items() if value is None]:
            del fields[name]

    def _described(self, metadata: dict[str, Any], prefix: str) -> dict[str, Any]:
        annotations = {
            key: value
            for key, value in _dict(metadata, "annotations").items()
            if any(pattern.search(key) for pattern in self._annotations)
        }
        labels = {} if self.skip_labels else _dict(metadata, "labels")
        both = {f"{prefix}annotations": self._keys(annotations), f"{prefix}labels": self._keys(labels)}
        return {name: values for name, values in both.items() if values}

    def _keys(self, values: dict[str, Any]) -> dict[str, Any]:
        renamed = {}
        for key, value in values.items():
            name = key.replace(".", self.de_dot_separator) if self.de_dot else key
            renamed[name.replace("/", self.de_slash_separator) if self.de_slash else name] = value
        return renamed

    def _secret(self, name: str) -> str | None:
        path = os.path.join(self.secret_dir, name)
        return path if os.path.exists(path) else None


def _cluster_url() -> str | None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return None
    return f"https://[{host}]:{port}/api" if ":" in host else f"https://{host}:{port}/api"


def _dict(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _compile(param: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(re.sub(r"\(\?<(?![=!])", "(?P<", text))
    except re.error as error:
        raise ConfigError(f"{text}: {error}", param=param) from None

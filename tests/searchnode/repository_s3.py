"""OpenSearch's plugin repository-s3, put together from its jars: Maven Central has no zip of it."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as Tree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from searchnode.maven import CENTRAL, download

_GROUP: Final = "org.opensearch.plugin"
_NAME: Final = "repository-s3"
_POM: Final = "{http://maven.apache.org/POM/4.0.0}"
_DESCRIPTOR: Final = """\
description=The S3 repository plugin
name=repository-s3
version={version}
opensearch.version={version}
java.version=21
classname=org.opensearch.repositories.s3.S3RepositoryPlugin
has.native.controller=false
"""
_POLICY: Final = """\
grant {
  permission java.lang.RuntimePermission "accessDeclaredMembers";
  permission java.lang.RuntimePermission "getClassLoader";
  permission java.lang.reflect.ReflectPermission "suppressAccessChecks";
  permission java.net.SocketPermission "*", "connect";
  permission java.net.NetPermission "setDefaultAuthenticator";
  permission java.util.PropertyPermission "*", "read,write";
  permission java.io.FilePermission "config", "read";
};
"""


def add(home: Path, version: str, sha256: str) -> None:
    """Adds it to the distribution in `home`; `sha256`: over its jars, in the order of their names.

    Raises:
        Unavailable: no network. RuntimeError: the jars are not those that were expected.
    """
    folder = home / "plugins" / _NAME
    folder.mkdir()
    (folder / "plugin-descriptor.properties").write_text(_DESCRIPTOR.format(version=version))
    (folder / "plugin-security.policy").write_text(_POLICY)
    pom = folder / "pom"
    download(f"{_url(_GROUP, _NAME, version)}.pom", pom)
    jars = dict(_jars(pom))
    pom.unlink()
    jars[f"{_NAME}-{version}.jar"] = f"{_url(_GROUP, _NAME, version)}.jar"
    # what the server has itself must not be there twice
    jars = {name: url for name, url in jars.items() if not (home / "lib" / name).exists()}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: download(jars[name], folder / name), jars))
    digest = hashlib.sha256()
    for name in sorted(jars):
        digest.update((folder / name).read_bytes())
    if digest.hexdigest() != sha256:
        raise RuntimeError(f"{_NAME}-{version}: SHA-256 {digest.hexdigest()}, expected {sha256}")


def _jars(pom: Path) -> Iterator[tuple[str, str]]:
    """Name and address of each jar that the plugin needs."""
    for each in Tree.parse(pom).iter(f"{_POM}dependency"):
        group, name, version = (
            each.findtext(f"{_POM}{word}") or "" for word in ("groupId", "artifactId", "version")
        )
        yield f"{name}-{version}.jar", f"{_url(group, name, version)}.jar"


def _url(group: str, name: str, version: str) -> str:
    return f"{CENTRAL}/{group.replace('.', '/')}/{name}/{version}/{name}-{version}"

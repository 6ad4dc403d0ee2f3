"""`forwarder snapshot`: backups of a cluster's indices in an S3-compatible store, made by the cluster itself.

`register` tells the cluster where the store is, `policy` has it take and remove snapshots by a schedule,
`take` and `restore` do it now, `show` lists what is there.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any
from urllib.parse import urlsplit

from forwarder.api.errors import ConfigError
from forwarder.cli import snapshot_cluster as clusters
from forwarder.cli import snapshot_policy as policies
from forwarder.cli import snapshot_show as show
from forwarder.cli import snapshot_wait as wait
from forwarder.cli.bar import Bar
from forwarder.cli.snapshot_cluster import Client, part

HELP = "back up a cluster's indices into an S3-compatible store, and restore them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, text, add, run_it in (
        ("register", "tell the cluster about a bucket (a snapshot repository)", _register_options, _register),
        ("policy", "have the cluster take and remove snapshots by a schedule", _policy_options, _policy),
        ("show", "list repositories, policies and snapshots", _show_options, _show),
        ("take", "take a snapshot now", _take_options, _take),
        ("restore", "bring indices back from a snapshot", _restore_options, _restore),
    ):
        action = actions.add_parser(name, help=text, description=text)
        add(action)
        clusters.add_arguments(action)
        action.set_defaults(run_it=run_it)


def run(args: argparse.Namespace) -> int:
    """Does it; 1 where a snapshot or an index is not whole."""
    client = clusters.connect(args)
    try:
        return int(args.run_it(args, client))
    finally:
        client.close()


# ---------------------------------------------------------------- register


def _register_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY", help="its name in the cluster")
    add = parser.add_argument_group("the store").add_argument
    add("--bucket", help="the bucket; it must be there")
    add("--base-path", metavar="PREFIX", help="start of the objects' names")
    add("--endpoint", metavar="URL", help="of a store that is not AWS; http:// also sets the protocol")
    add("--path-style", action="store_true", help="the bucket in the path instead of in the host name")
    add("--region", help="the region that it expects in signatures")
    add("--protocol", choices=("http", "https"), help="where the endpoint does not say")
    add(
        "--client",
        metavar="NAME",
        help="whose keys: s3.client.NAME.* in the nodes' keystores (default: default)",
    )
    add("--no-chunked-encoding", action="store_true", help="for stores that do not know aws-chunked uploads")
    add("--storage-class", metavar="NAME", help="STANDARD, STANDARD_IA, ...")
    add("--canned-acl", metavar="NAME", help="access list of the objects")
    add("--server-side-encryption", action="store_true", help="have the store encrypt the objects (AES256)")
    add("--readonly", action="store_true", help="only restore from it: another cluster writes there")
    add("--type", default="s3", help="kind of repository: s3 (default), fs, ...")
    add("--setting", metavar="NAME=VALUE", action="append", default=[], help="any other setting of it")
    add = parser.add_argument_group("how").add_argument
    add("--reload-keys", action="store_true", help="first have the nodes read their keystores again")
    add("--unverified", action="store_true", help="do not have every node write to it and read from it")


def _register(args: argparse.Namespace, client: Client) -> int:
    body = {"type": args.type, "settings": _settings(args)}
    if args.reload_keys:
        _reload_keys(client)
    verify = str(not args.unverified).lower()
    path = f"/_snapshot/{part(args.repository)}"
    known = client.find(path)
    client.ask("PUT", f"{path}?verify={verify}", body)
    nodes = "not verified"
    if not args.unverified:
        found = client.ask("POST", f"{path}/_verify")["nodes"]
        nodes = f"verified by {', '.join(sorted(each['name'] for each in found.values()))}"
    print(
        f"repository {args.repository} {'replaced' if known else 'registered'} in {client.product}, {nodes}"
    )
    return 0


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    given = {
        "bucket": args.bucket, "base_path": args.base_path, "region": args.region, "protocol": args.protocol,
        "client": args.client, "storage_class": args.storage_class, "canned_acl": args.canned_acl,
    }  # fmt: skip
    if args.endpoint is not None:
        url = urlsplit(args.endpoint if "://" in args.endpoint else f"//{args.endpoint}")
        if url.scheme not in ("", "http", "https") or not url.netloc or url.path.strip("/"):
            raise ConfigError(f"--endpoint {args.endpoint}: expected http://HOST:PORT or https://HOST:PORT")
        settings["endpoint"] = url.netloc
        if url.scheme and args.protocol not in (None, url.scheme):
            raise ConfigError(f"--endpoint says {url.scheme}, --protocol {args.protocol}")
        given["protocol"] = args.protocol or url.scheme or None
    settings |= {name: value for name, value in given.items() if value is not None}
    for name, wanted in (
        ("path_style_access", args.path_style), ("disable_chunked_encoding", args.no_chunked_encoding),
        ("server_side_encryption", args.server_side_encryption), ("readonly", args.readonly),
    ):  # fmt: skip
        if wanted:
            settings[name] = True
    for each in args.setting:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigError(f"--setting {each}: expected NAME=VALUE")
        if name.rpartition(".")[2] in ("access_key", "secret_key", "session_token"):
            raise ConfigError(
                f"--setting {name}: keys belong into the nodes' keystores, see docs/snapshot.md"
            )
        settings[name] = value
    if args.type == "s3" and "bucket" not in settings:
        raise ConfigError("--bucket is missing")
    return settings


def _reload_keys(client: Client) -> None:
    found = client.ask("POST", "/_nodes/reload_secure_settings", {})
    for each in found.get("nodes", {}).values():
        if error := each.get("reload_exception"):
            raise ConfigError(f"{each.get('name')}: its keystore cannot be read: {error.get('reason')}")


# ---------------------------------------------------------------- policy


def _policy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="POLICY", help="its name in the cluster")
    add = parser.add_argument
    add("--repository", metavar="REPOSITORY", required=True, help="where the snapshots go")
    add("--schedule", metavar="CRON", required=True, help="when: the five fields of cron, '30 1 * * *'")
    add("--timezone", metavar="ZONE", default="UTC", help="of the schedule; OpenSearch only (default: UTC)")
    add(
        "--snapshot-name",
        metavar="NAME",
        help="Elasticsearch only; with date math (default: <POLICY-{now/d}>)",
    )
    add("--expire-after", metavar="AGE", help="remove older snapshots: 30d, 12h (default: never)")
    add("--min-count", metavar="N", type=int, help="but keep at least so many")
    add("--max-count", metavar="N", type=int, help="keep at most so many")
    _what_options(parser)


def _what_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--indices",
        metavar="NAMES",
        default="*",
        help="names and patterns with commas; -NAME leaves out (default: all)",
    )
    add("--global-state", action="store_true", help="also the cluster's settings, templates and policies")
    add("--partial", action="store_true", help="also where a shard is not there")


def _what(args: argparse.Namespace) -> dict[str, Any]:
    return {"ignore_unavailable": True, "include_global_state": args.global_state, "partial": args.partial}


def _policy(args: argparse.Namespace, client: Client) -> int:
    policy = policies.Policy(
        args.name, args.repository, args.schedule, args.timezone, args.indices, args.snapshot_name,
        args.expire_after, args.min_count, args.max_count, _what(args),
    )  # fmt: skip
    if client.find(f"/_snapshot/{part(args.repository)}") is None:
        raise ConfigError(f"no repository {args.repository}: forwarder snapshot register makes one")
    print(f"policy {args.name} {policies.put(client, policy)} in {client.product}")
    return 0


# ---------------------------------------------------------------- show


def _show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY", nargs="?", help="list its snapshots")
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs="?", help="what is in this one")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _show(args: argparse.Namespace, client: Client) -> int:
    if args.repository is None:
        return show.overview(client, as_json=args.json)
    if args.snapshot is None:
        return show.repository(client, args.repository, as_json=args.json)
    return show.snapshot(client, args.repository, args.snapshot, as_json=args.json)


# ---------------------------------------------------------------- take and restore


def _wait_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--no-wait", action="store_true", help="only start it")
    add("--progress", action=argparse.BooleanOptionalAction, default=None,
        help="show how far it is (default: where standard error is a terminal)")  # fmt: skip


def _bar(args: argparse.Namespace) -> Bar | None:
    if args.no_wait:
        return None
    return Bar(show=sys.stderr.isatty() if args.progress is None else args.progress)


def _take_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY", help="where it goes")
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs="?", help="its name (default: from the time)")
    _what_options(parser)
    _wait_options(parser)


def _take(args: argparse.Namespace, client: Client) -> int:
    config = {"indices": args.indices, **_what(args)}
    try:
        found = wait.take(client, args.repository, args.snapshot, config, _bar(args))
    except KeyboardInterrupt:
        print("the snapshot goes on in the cluster: forwarder snapshot show", file=sys.stderr)
        raise
    if args.no_wait:
        print(f"snapshot {found['snapshot']} started")
        return 0
    print(f"snapshot {found['snapshot']}: {found['state']}, {len(found['indices'])} indices, "
          f"{show.shards_of(found)} shards, {found.get('duration_in_millis', 0) / 1000:.1f} s")  # fmt: skip
    for line in show.failures(found):
        print(line, file=sys.stderr)
    return 0 if found["state"] == "SUCCESS" else 1


def _restore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY", help="where the snapshot is")
    parser.add_argument(
        "snapshot", metavar="SNAPSHOT", nargs="?", help="which (default: the newest that is whole)"
    )
    add = parser.add_argument
    add("--rename", nargs=2, metavar=("PATTERN", "REPLACEMENT"),
        help="other names for the indices: a regular expression, and what it becomes, with $1")  # fmt: skip
    add("--replicas", metavar="N", type=int, help="copies of each shard there (default: as they were)")
    add("--no-aliases", action="store_true", help="without the indices' aliases")
    _what_options(parser)
    _wait_options(parser)


def _restore(args: argparse.Namespace, client: Client) -> int:
    body = {"indices": args.indices, **_what(args), "include_aliases": not args.no_aliases}
    if args.rename:
        body |= {"rename_pattern": args.rename[0], "rename_replacement": args.rename[1]}
    if args.replicas is not None:
        body["index_settings"] = {"index.number_of_replicas": args.replicas}
    name = args.snapshot or wait.latest(client, args.repository)
    try:
        indices, shards = wait.restore(client, args.repository, name, body, _bar(args))
    except KeyboardInterrupt:
        print("the restore goes on in the cluster; deleting its indices ends it", file=sys.stderr)
        raise
    print(f"snapshot {name}: {'restore started' if args.no_wait else 'restored'}, {len(indices)} indices: "
          f"{wait.some(indices)}")  # fmt: skip
    broken = [
        f"{index}: {there} of {total} shards" for index, (there, total) in shards.items() if there < total
    ]
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0

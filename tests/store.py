"""S3-compatible stores for tests, over real sockets, and buckets in them."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from forwarder_process import free_port
from waiting import wait_for

StartStore = Callable[[str], AbstractContextManager[str]]
"""Name of a server ("moto", "versitygw") -> what runs it in `with` and gives its URL."""
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@contextmanager
def moto() -> Iterator[str]:
    """moto's server, in a thread of this process; takes any keys. Gives its URL."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - costs a second

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def versitygw(program: str, folder: Path) -> Iterator[str]:
    """Versity's gateway over files in `folder`; checks signatures against KEYS. Gives its URL."""
    for name in ("data", "metadata"):
        (folder / name).mkdir()
    port = free_port()
    command = [
        program, "--port", f"127.0.0.1:{port}", "--access", KEYS["aws_access_key_id"],
        "--secret", KEYS["aws_secret_access_key"], "--region", KEYS["region_name"],
        "posix", "--sidecar", str(folder / "metadata"), str(folder / "data"),
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_for(answers, lambda: log.read_text(errors="replace"), process=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Bucket:
    """A bucket of the test's own, and a configuration that writes to it."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"bucket-{secrets.token_hex(4)}"
        self.endpoint = endpoint
        self.client: Any = boto3.client(
            "s3", endpoint_url=endpoint, **KEYS, config=Config(s3={"addressing_style": "path"})
        )

    @property
    def account(self) -> str:
        """Which store, which bucket and who we are."""
        return f"""
              s3_bucket {self.name}
              s3_endpoint {self.endpoint}
              force_path_style true
              aws_key_id {KEYS["aws_access_key_id"]}
              aws_sec_key {KEYS["aws_secret_access_key"]}
        """

    def config(self, more: str = "", keys: str = "tag,time", form: str = "@type json") -> str:
        return f"""
            <match **>
              @type s3
              @id s3
              {self.account}
              path logs/${{tag}}/
              {more}
              <format>
                {form}
              </format>
              <buffer {keys}>
                timekey 1d
                timekey_use_utc true
                flush_mode interval
                retry_wait 0.01
                retry_max_times 1
                flush_interval 1h
              </buffer>
            </match>
        """

    def create(self) -> Bucket:
        self.client.create_bucket(Bucket=self.name)
        return self

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def objects(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {each["Key"]: self.get(each["Key"])["Body"].read() for each in found}

    def get(self, key: str) -> Any:
        return self.client.get_object(Bucket=self.name, Key=key)

"""in_http while the configuration is reloaded: no request fails."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

from forwarder_process import ForwarderProcess, free_port


def test_no_request_fails_over_reloads(tmp_path: Path) -> None:
    port = free_port()
    config = f"""
<source>
  @type http
  port {port}
  bind 127.0.0.1
</source>
<match t>
  @type file
  path {tmp_path}/got
  append true
  <format>
    @type json
  </format>
  <buffer []>
    flush_interval 0.05
    flush_at_shutdown true
  </buffer>
</match>
"""
    sent: list[int] = []
    failed: list[str] = []
    ended = Event()

    def post() -> None:
        while not ended.is_set():
            number = len(sent) + len(failed)
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
                    headers = {"Content-Type": "application/json"}
                    client.request("POST", "/t", json.dumps({"n": number}), headers)
                    response = client.getresponse()
                    response.read()
                    (sent if response.status == 200 else failed).append(number)  # type: ignore[arg-type]
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{number}: {error!r}")

    with ForwarderProcess(tmp_path, config) as process:
        sender = Thread(target=post)
        sender.start()
        try:
            for _ in range(3):
                before = len(sent)
                process.wait(lambda before=before: len(sent) > before + 20)
                process.reload()
        finally:
            ended.set()
            sender.join()
        assert process.stop() == 0
    assert failed == []
    got = [json.loads(line)["n"] for line in (tmp_path / "got.log").read_text().splitlines()]
    assert sorted(got) == sent

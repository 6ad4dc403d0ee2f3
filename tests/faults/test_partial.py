"""An output that takes a part of a chunk: what it took does not come again after a kill."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from check import MEMORY_KIB
from daemon import Sender
from forwarder_process import ForwarderProcess, free_port

KILLS = 4
PER_MESSAGE = 100
PLUGIN = '''
import os

from forwarder.api import Chunk, EventStream, Output, PartialWrite


class PartlyOutput(Output):
    """Writes the first half of a chunk to a file, and leaves the rest for later."""

    multi_workers_ready = True

    def write(self, chunk: Chunk) -> None:
        events = list(chunk.stream())
        half = events[: max(1, len(events) // 2)]
        with open(os.environ["PARTLY"], "a") as file:
            file.write("".join(f"{record['i']}\\n" for _, record in half) + "written\\n")
        rest = events[len(half) :]
        if rest:
            raise PartialWrite("half", bytes(EventStream.from_events(rest)), len(rest))
'''
CONFIG = """
<source>
  @type forward
  bind 127.0.0.1
  port {port}
</source>
<match a>
  @type partly
  <buffer>
    @type file
    path {folder}/buffer
    flush_interval 0.02
    flush_thread_count 1
    retry_wait 0.001
    retry_max_interval 0.01
    retry_forever true
  </buffer>
</match>
<match **>
  @type null
</match>
"""


def test_kill_between_parts(tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin/out_partly.py").write_text(PLUGIN)
    out = tmp_path / "partly"
    out.touch()
    port = free_port()
    process = ForwarderProcess(
        tmp_path, CONFIG.format(port=port, folder=tmp_path),
        options=("--no-supervisor", "-p", str(tmp_path / "plugin")), env={"PARTLY": str(out)},
    )  # fmt: skip
    chance = random.Random(3)
    sender = Sender(port, "a", per_message=PER_MESSAGE).start()

    def writes() -> list[list[int]]:
        """The numbers by write; the last one is still open, and its last line may be half written."""
        parts: list[list[int]] = [[]]
        for line in out.read_text().split("\n")[:-1]:
            if line == "written":
                parts.append([])
            else:
                parts[-1].append(int(line))
        return parts

    def delivered() -> Counter[int]:
        return Counter(number for part in writes() for number in part)

    may_repeat: set[int] = set()

    with process:
        for kill in range(KILLS):
            if kill:
                process.start()
            reached = len(sender.acknowledged)
            process.wait(lambda reached=reached: len(sender.acknowledged) > reached + 2000)
            time.sleep(chance.uniform(0, 0.1))
            assert process.process is not None
            process.process.kill()
            process.process.wait()
            # what the killed process was at, or had just done without a note of it; and what is sent again:
            # the message without an acknowledgement (the next one, if the last answer has yet to be read)
            *_, done, begun = [[], *writes()]
            unanswered = len(sender.acknowledged)
            may_repeat.update(done, begun, range(unanswered, unanswered + 2 * PER_MESSAGE))
            whole, newline, _ = out.read_text().rpartition("\n")
            out.write_text(f"{whole}{newline}written\n")
        process.start()
        sender.stop()
        process.wait(lambda: not set(sender.acknowledged) - delivered().keys())
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        assert next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) < MEMORY_KIB
        assert process.stop() == 0
        assert "Traceback" not in process.log
    again = {number for number, times in delivered().items() if times > 1}
    assert again <= may_repeat

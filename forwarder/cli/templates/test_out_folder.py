"""Output `folder`: chunks in, files out, and what becomes of a chunk that cannot be written."""

from pathlib import Path

from forwarder.api import EventStream
from forwarder.api.testing import Driver, run
from forwarder.cli.templates.out_folder import FolderOutput

CONFIG = """
<match **>
  @type folder
  path {folder}
  <buffer tag>
    flush_mode immediate
    retry_wait 0.01
    retry_randomize false
    disable_chunk_backup true
  </buffer>
</match>
"""


def drive(folder: Path) -> Driver:
    return run(CONFIG.format(folder=folder), plugins={("output", "folder"): FolderOutput})


def test_a_chunk_is_a_file(tmp_path: Path) -> None:
    with drive(tmp_path) as driver:
        driver.emit("a", {"n": 1}, {"n": 2})
    (written,) = tmp_path.glob("a.*.msgpack")
    assert [record for _, record in EventStream(written.read_bytes())] == [{"n": 1}, {"n": 2}]


def test_what_fails_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with drive(folder) as driver:
        driver.emit("a", {"n": 1})
        driver.wait_for(lambda: "No such file" in driver.log)
        folder.mkdir()
        driver.wait_for(lambda: list(folder.glob("a.*.msgpack")))
        driver.wait_for(lambda: driver["out_folder"].delivered == 1)


def test_what_cannot_be_written_is_not_tried_again(tmp_path: Path) -> None:
    with drive(tmp_path) as driver:
        driver.emit("a/b", {"n": 1})
        driver.wait_for(lambda: sum(driver["out_folder"].rejected.values()) == 1)

"""`@type prometheus_tail_monitor`: what the position files of `tail` say, as metrics."""

from __future__ import annotations

from pathlib import Path

from forwarder.api import Input, string
from forwarder.api.testing import run


class Tail(Input):
    """Stands for in_tail: only its `pos_file` counts here."""

    pos_file = string("The positions.", None)


def test_positions_and_inodes(tmp_path: Path) -> None:
    positions = tmp_path / "a.pos"
    config = f"""
    <source>
      @type tail
      @id app
      pos_file {positions}
    </source>
    <source>
      @type tail
      @id none
    </source>
    <source>
      @type prometheus_tail_monitor
      @id monitor
      <labels>
        worker ${{worker_id}}
      </labels>
    </source>
    <match **>
      @type test
    </match>
    """
    with run(config, plugins={("input", "tail"): Tail}) as engine:

        def numbers() -> list[list[tuple[str, float]]]:
            families = list(engine.plugin("monitor").measure())
            assert [each.name for each in families] == [
                "fluentd_tail_file_position",
                "fluentd_tail_file_inode",
            ]
            labels = [sample.labels for each in families for sample in each.samples]
            assert all(
                (each["plugin_id"], each["type"], each["worker"]) == ("app", "tail", "0") for each in labels
            )
            return [[(sample.labels["path"], sample.value) for sample in each.samples] for each in families]

        assert numbers() == [[], []]
        positions.write_text(
            "/var/log/a\t0000000000000010\t00000000000000ff\n"
            "/var/log/b\tffffffffffffffff\t0000000000000001\n"
            "/var/log/a\t0000000000000020\t00000000000000fe\n"
            "/var/log/c\t00"
        )
        assert numbers() == [[("/var/log/a", 0x20)], [("/var/log/a", 0xFE)]]

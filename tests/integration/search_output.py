"""The configuration of an output to a search node, which flushes and tries again soon."""

from __future__ import annotations

from searchnode import Node

_TEXT = """
<match **>
  @type {output}
  @id es
  hosts {url}
  {settings}
  <buffer {keys}>
    flush_mode interval
    flush_interval 0.1
    flush_thread_interval 0.05
    retry_wait 0.2
    retry_max_interval 1s
    {buffer}
  </buffer>
</match>
<label @ERROR>
  <match **>
    @type test
    @id rejected
  </match>
</label>
"""


def config(
    node: Node, settings: str, *, output: str = "", url: str = "", keys: str = "tag", buffer: str = ""
) -> str:
    """Everything goes to `node` (by way of `url`, where that is given), rejected events to `rejected`.

    `output`: default is the one named like the node's product. `buffer`: more parameters of `<buffer>`.
    """
    return _TEXT.format(
        output=output or node.release.product,
        url=url or node.url,
        settings=settings,
        keys=keys,
        buffer=buffer,
    )

"""The configuration that real syslog senders send to."""

from __future__ import annotations

CONFIG = """
<source>
  @type syslog
  bind 127.0.0.1
  port 0
  tag sys
  {extra}
  <parse>
    message_format {message_format}
  </parse>
</source>
<match sys.**>
  @type test
</match>
"""


def config(message_format: str, extra: str = "") -> str:
    """An input `syslog` on a free port; `extra`: more of its parameters."""
    return CONFIG.format(message_format=message_format, extra=extra)

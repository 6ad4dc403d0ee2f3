"""The apache parser: Apache's common and combined access logs; all fields are text.

Fields: host, user, method, path, code, size, referer, agent. The parser `apache2` gives numbers and nil.

*Delivery*: as the regexp parser.
"""

from __future__ import annotations

from forwarder.api import expression, string
from forwarder.parsers.regexp import RegexpParser


class ApacheParser(RegexpParser):
    """One event for each line of the log."""

    expression = expression(
        "Another regular expression, with at least one named group.",
        r"/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "
        r'"(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" '
        r'(?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>[^"]*)" "(?<agent>[^"]*)")?$/',
    )
    time_format = string("strptime format of the time.", "%d/%b/%Y:%H:%M:%S %z")

"""The nginx parser: nginx's default access log (`combined`, with or without `$http_x_forwarded_for`).

Fields: remote, host, user, method, path, code, size, referer, agent, http_x_forwarded_for; all of them text.

*Delivery*: as the regexp parser.
"""

from __future__ import annotations

from forwarder.api import expression, string
from forwarder.parsers.regexp import RegexpParser


class NginxParser(RegexpParser):
    """One event for each line of the log."""

    expression = expression(
        "Another regular expression, with at least one named group.",
        r"/^(?<remote>[^ ]*) (?<host>[^ ]*) (?<user>[^ ]*) \[(?<time>[^\]]*)\] "
        r'"(?<method>\S+)(?: +(?<path>[^"]*?)(?: +\S*)?)?" (?<code>[^ ]*) (?<size>[^ ]*)'
        r'(?: "(?<referer>[^"]*)" "(?<agent>[^"]*)"(?:\s+"?(?<http_x_forwarded_for>[^"]*)"?)?)?$/',
    )
    time_format = string("strptime format of the time.", "%d/%b/%Y:%H:%M:%S %z")

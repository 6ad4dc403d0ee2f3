"""The apache_error parser: Apache's error log. Fields: level, pid, client, message.

*Delivery*: as the regexp parser.
"""

from __future__ import annotations

from forwarder.api import expression
from forwarder.parsers.regexp import RegexpParser


class ApacheErrorParser(RegexpParser):
    """One event for each line of the log."""

    expression = expression(
        "Another regular expression, with at least one named group.",
        r"/^\[[^ ]* (?<time>[^\]]*)\] \[(?<level>[^\]]*)\](?: \[pid (?<pid>[^\]]*)\])?"
        r"(?: \[client (?<client>[^\]]*)\])? (?<message>.*)$/",
    )

"""Keeping secrets out of everything that is printed.

By name: parameters that a plugin declares `secret`. By value: what looks like a credential wherever it
stands: user information in a URL, an authorisation header, an access key. Fluentd masks by name only.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "xxxxxx"

_PATTERNS: Final = (
    # user:password@ in a URL: the user stays, the password goes; a lone token before @ goes too.
    (re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s/@:\"']*):([^\s/\"']*)@"), rf"\1\2:{MASK}@"),
    (re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)([^\s/@:\"']{16,})@"), rf"\1{MASK}@"),
    # A token has a digit or padding in it: "basic authentication" is none.
    (re.compile(r"\b((?i:bearer|basic|apikey|splunk)\s+)(?=\S*[0-9=])[A-Za-z0-9+/_.=~-]{8,}"), rf"\1{MASK}"),
    (
        re.compile(r"(?i)(\"[^\"]*(?:password|passwd|secret|token|api_?key)\"\s*:\s*\")(?:[^\"\\]|\\.)*"),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|$)"), rf"\1{MASK}\2"),
)

_NAME: Final = re.compile(
    r"(?i)(?:^|_)(?:password|passwd|passphrase|secret|shared_key|token|api_key|apikey|access_key|secret_key|"
    r"aws_sec_key|aws_key_id|private_key_passphrase|sas|credentials?)(?:$|_key$|_id$)"
)
_LINE: Final = re.compile(r"^(\s*)([^\s<#]+)(\s+)(\S.*)$", re.DOTALL)


def secret_name(name: str) -> bool:
    """Whether a parameter of this name is treated as secret though nothing declares it so."""
    return _NAME.search(name) is not None


def mask_value(text: str) -> str:
    """The text without what looks like a credential in it."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_text(line: str, secret: str | None = None) -> str:
    """A line of a configuration as it may be printed; `secret` names one more secret parameter."""
    found = _LINE.match(line)
    if found is not None and (secret is not None or secret_name(found[2])):
        return f"{found[1]}{found[2]}{found[3]}{MASK}"
    return mask_value(line)

"""`ignore_exceptions`: the Ruby classes that Fluentd's users name, and what they are here.

fluent-plugin-elasticsearch compares the class of what was raised, and its superclasses, with the list. The
names are those of the gems elasticsearch-transport and elastic-transport, of faraday, and of Ruby itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from forwarder.plugins.outputs.elasticsearch.cluster import RefusedError, UnreachableError

    Test = Callable[[UnreachableError | RefusedError], bool]

_GEMS: Final = ("Elastic::Transport::Transport", "Elasticsearch::Transport::Transport")
_STATUS: Final = {
    "BadRequest": 400, "Unauthorized": 401, "PaymentRequired": 402, "Forbidden": 403, "NotFound": 404,
    "MethodNotAllowed": 405, "NotAcceptable": 406, "ProxyAuthenticationRequired": 407, "RequestTimeout": 408,
    "Conflict": 409, "Gone": 410, "RequestEntityTooLarge": 413, "TooManyRequests": 429,
    "InternalServerError": 500, "NotImplemented": 501, "BadGateway": 502, "ServiceUnavailable": 503,
    "GatewayTimeout": 504,
}  # fmt: skip
"""Class below `Errors`: status of the answer."""
_LATE: Final = ("Faraday::TimeoutError", "Timeout::Error", "Net::ReadTimeout", "Excon::Error::Timeout")
_GONE: Final = ("Faraday::ConnectionFailed", "Faraday::SSLError", "Errno::ECONNREFUSED", "SocketError",
                "Excon::Error::Socket")  # fmt: skip
_ANY: Final = ("StandardError", "Exception")


def _status(error: UnreachableError | RefusedError) -> int:
    return getattr(error, "status", 0)


def _is(status: int) -> Test:
    return lambda error: _status(error) == status


def _unreached(late: bool) -> Test:
    return lambda error: getattr(error, "late", None) is late


def _tests() -> dict[str, Test]:
    found: dict[str, Test] = dict.fromkeys(_ANY, lambda _: True)
    found |= dict.fromkeys(_LATE, _unreached(late=True)) | dict.fromkeys(_GONE, _unreached(late=False))
    found["Faraday::Error"] = lambda error: hasattr(error, "late")
    for gem in _GEMS:
        found[f"{gem}::Error"] = found[f"{gem}::ServerError"] = lambda error: _status(error) >= 300
        found |= {f"{gem}::Errors::{name}": _is(status) for name, status in _STATUS.items()}
    return found


class Ignored:
    """Which failures of a request end a chunk."""

    def __init__(self, names: Sequence[str], *, backup: bool) -> None:
        """`backup`: what ends is put aside (`exception_backup`), instead of dropped.

        Raises:
            ValueError: names the class that has no counterpart, and those that have.
        """
        known = _tests()
        for name in names:
            if name not in known:
                gem = _GEMS[0]
                raise ValueError(
                    f"ignore_exceptions: the Ruby class {name} has no counterpart here; these have: "
                    f"{', '.join((*_GONE, *_LATE, 'Faraday::Error', f'{gem}::ServerError', *_ANY))} and "
                    f"{gem}::Errors:: with {', '.join(_STATUS)}"
                )
        self._tests = [known[name] for name in names]
        self.backup = backup

    def matches(self, error: UnreachableError | RefusedError) -> bool:
        """Whether the list names this failure."""
        return any(test(error) for test in self._tests)

"""A node in the foreground, for trying things out: `make elasticsearch`."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from searchnode import RELEASES, Node, Unavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="searchnode", description=__doc__)
    parser.add_argument("release", nargs="?", default="elasticsearch", choices=sorted(RELEASES))
    parser.add_argument("--port", type=int, default=9200, help="for HTTP, on 127.0.0.1 (default: 9200)")
    options = parser.parse_args()
    release = RELEASES[options.release]

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        print(f"starting {release.name}; the first time it is downloaded", flush=True)
        with Node(release, port=options.port) as node:
            memory = node.resident_bytes() >> 20
            print(f"{release.name} on {node.url} after {node.start_seconds:.1f} s, {memory} MiB", flush=True)
            print("its data is removed at the end: Ctrl-C", flush=True)
            return node.wait()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())

"""Real Elasticsearch and OpenSearch nodes for tests, as their makers put them on Maven Central.

These are the makers' own zips for integration tests: the server and its HTTP transport as released, without
the optional modules. `python -m searchnode` (with `tests` as PYTHONPATH) runs one in the foreground.
"""

from searchnode.maven import Unavailable
from searchnode.node import Node, Reply
from searchnode.proxy import Answer, Proxy
from searchnode.release import RELEASES, Release

__all__ = ["RELEASES", "Answer", "Node", "Proxy", "Release", "Reply", "Unavailable"]

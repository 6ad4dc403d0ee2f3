"""`from forwarder.api import NAME` gives the name that was meant, whatever was imported before."""

from __future__ import annotations

import pkgutil

from forwarder import api


def test_no_module_of_the_api_hides_one_of_its_names() -> None:
    # importing a sub-module sets it as an attribute of its package, over a function of that name
    modules = {module.name for module in pkgutil.iter_modules(api.__path__)}
    assert modules & set(api.__all__) == set()

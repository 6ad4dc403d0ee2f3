"""Filter `mask`: records in, records out."""

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run
from forwarder.cli.templates.filter_mask import MaskFilter

CONFIG = """
<filter t>
  @type mask
  {options}
</filter>
<match t>
  @type test
</match>
"""


def drive(options: str) -> Driver:
    return run(CONFIG.format(options=options), plugins={("filter", "mask"): MaskFilter})


def test_fields_are_hidden() -> None:
    with drive("fields password,token") as driver:
        driver.emit("t", {"user": "a", "password": "b"}, {"user": "c"})
        assert driver.records() == [{"user": "a", "password": "***"}, {"user": "c"}]


def test_replacement() -> None:
    with drive("fields password\n  replacement -") as driver:
        driver.emit("t", {"password": "b"})
        assert driver.records() == [{"password": "-"}]


def test_fields_are_required() -> None:
    with pytest.raises(ConfigError, match="'fields' parameter is required"):
        drive("")

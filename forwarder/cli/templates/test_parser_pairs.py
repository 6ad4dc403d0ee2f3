"""Parser `pairs`, driven by the parser filter: text in a field comes, its fields go out."""

import pytest

from forwarder.api import ConfigError
from forwarder.api.testing import Driver, run
from forwarder.cli.templates.parser_pairs import PairsParser

CONFIG = """
<filter t>
  @type parser
  key_name message
  <parse>
    @type pairs
    {options}
  </parse>
</filter>
<match t>
  @type test
</match>
<label @ERROR>
  <match **>
    @type test
    @id error
  </match>
</label>
"""


def drive(options: str = "") -> Driver:
    return run(CONFIG.format(options=options), plugins={("parser", "pairs"): PairsParser})


def test_a_line_becomes_fields() -> None:
    with drive() as driver:
        driver.emit("t", {"message": "a=1;b=2"})
        assert driver.records("out_test") == [{"a": "1", "b": "2"}]


def test_parameters() -> None:
    with drive("separator ,\n    equals :") as driver:
        driver.emit("t", {"message": "a:1,b:2"})
        assert driver.records("out_test") == [{"a": "1", "b": "2"}]


def test_a_line_that_does_not_match_goes_to_error() -> None:
    with drive() as driver:
        driver.emit("t", {"message": "nothing"}, {"message": "a=1"})
        assert driver.records("out_test") == [{"a": "1"}]
        assert driver.records("error") == [{"message": "nothing"}]


def test_a_wrong_parameter_is_an_error() -> None:
    with pytest.raises(ConfigError, match="must differ from equals"):
        drive("separator =")

"""The measurements of constants are of constants that exist, and run."""

import constants
import pytest

pytestmark = pytest.mark.one_build


def test_each_measurement_is_of_a_constant_of_the_package():
    assert set(constants.MEASURED) <= {constant.name for constant in constants.constants()}


def test_a_constant_is_listed_with_its_place_value_and_reason():
    found = {constant.name: constant for constant in constants.constants()}["THREAD_VALUES"]
    assert (found.file, found.value) == ("data/threads.py", "1 << 20")
    assert found.comment.startswith("Values of X")


def test_a_measurement_prints_the_source_and_what_is_measured(capsys):
    constants.show_measured(["SMALL_CHOICE"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("SMALL_CHOICE = 1 << 26 in engine/plan.py")
    assert second.endswith(" ms")

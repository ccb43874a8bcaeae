"""Every test runs over every build of the kernels that this machine has, and over the reference."""

import signal

import numpy as np
import pytest

from fastgd import kernels


def pytest_generate_tests(metafunc):
    # What does not depend on the kernels is marked `one_build` and runs once, on the build that users get.
    once = metafunc.definition.get_closest_marker("one_build") is not None
    metafunc.parametrize("build", kernels.available()[-1:] if once else kernels.available(), indirect=True)


@pytest.fixture(autouse=True)
def build(request):
    """The active build of the kernels."""
    before = kernels.active.name
    yield kernels.select(request.param)
    kernels.select(before)


@pytest.fixture(autouse=True, scope="session")
def heeds_ctrl_c():
    """What is started in the background ignores Ctrl-C: a test that raises it would then wait for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def order_of_rows():
    """What random_state=None draws from is the same in each test, whatever ran before it."""
    np.random.seed(0)  # noqa: NPY002

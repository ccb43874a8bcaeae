"""Which builds of the kernels a test runs over, and what every test finds as it was.

A test runs over the fastest build that this machine has. Where the results are those of the kernels, a mark adds the
others: `with_reference` the specification, `every_build` all of them (each file of tests/kernels does, as a whole);
`one_build` takes a single test out of such a file. The mark that is closest to the test counts.
"""

import signal

import numpy as np
import pytest

from fastgd import kernels

BUILDS = {
    "one_build": kernels.available()[-1:],
    "with_reference": ["reference", kernels.available()[-1]],
    "every_build": kernels.available(),
}


def pytest_generate_tests(metafunc):
    marks = (mark.name for mark in metafunc.definition.iter_markers() if mark.name in BUILDS)
    metafunc.parametrize("build", BUILDS[next(marks, "one_build")], indirect=True)


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

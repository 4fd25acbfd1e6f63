"""What every system owes the engine, for every setting of the configs of GANs and classifiers."""

import pytest

from tests.helpers import contract
from tests.helpers.contract_checks import *  # noqa: F403
from tests.helpers.contract_runs import Prepared

PROGRAMS = [p for p in contract.PROGRAMS if not contract.is_diffusion(p)]


@pytest.fixture(scope="module", params=PROGRAMS)
def system(request):
    return Prepared(request.param)

"""What every system owes the engine, for every setting of the configs of GANs and classifiers."""

from tests.helpers import contract
from tests.helpers.contract_checks import *  # noqa: F403

PROGRAMS = [p for p in contract.PROGRAMS if not contract.is_diffusion(p)]

"""What every system owes the engine, for every setting of every config of diffusion."""

from tests.helpers import contract
from tests.helpers.contract_checks import *  # noqa: F403

PROGRAMS = [p for p in contract.PROGRAMS if contract.is_diffusion(p)]

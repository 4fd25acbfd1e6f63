"""What a run says before its first step."""

import pytest

from gan_jax.core import schedules
from gan_jax.run import summary


@pytest.mark.parametrize(
    ("rate", "line"),
    [
        (schedules.constant(2e-4), "learning rate 0.0002"),
        (lambda t: 0.002 * (1 - t / 1500), "learning rate 0.002 → 0"),  # the last step has a 1500th
        (lambda t: 0.001 - 0.0009 * t / 1499, "learning rate 0.001 → 0.0001"),
        (schedules.exponential(1e-3, 0.1, 1000, True), "learning rate 0.001 → 0.0001"),
    ],
)
def test_a_learning_rate_is_shown_by_its_ends(rate, line):
    assert summary._rate_line(rate, 1500) == line

"""Which values a config of the system `warpgan` may have, and what is worth saying about them."""

from gan_jax.core import grads
from gan_jax.errors import UserError, at_least


def notices(config) -> tuple[str, ...]:
    """A line, if the discriminator does not start from a classifier of identities."""
    if config.restore.disc[0]:
        return ()
    return (
        "disc starts from random weights: the paper's starts from a classifier of identities, "
        "config.restore.disc=('<run of an identity classifier>', 'conv*|bottleneck*')",
    )


def check(config) -> None:
    """Raises UserError for values that are not accepted together."""
    if config.data.pairs != "identities":
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: warpgan learns from photos and caricatures "
            "of the same identities; set it to identities"
        )
    at_least("config.batch_size", config.batch_size, 1)
    grads.check_parts(config.microbatches, config.batch_size)
    for name, value in config.loss.items():
        if name != "scale":
            at_least(f"config.loss.{name}", value, 0)
    for name, section in config.optim.items():
        if section.weight_decay_mask != "kernels":
            raise UserError(
                f"config.optim.{name}.weight_decay_mask={section.weight_decay_mask!r}: warpgan's "
                "loss is that of kernels only; set it to kernels"
            )

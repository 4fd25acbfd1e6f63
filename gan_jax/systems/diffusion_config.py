"""Checks of a diffusion config, and the process, settings and chain that it describes."""

from gan_jax.core import grads
from gan_jax.core.system import Facts
from gan_jax.errors import UserError, at_least, one_of
from gan_jax.ops.diffusion import gaussian_diffusion, noise_schedules, processes, sampling
from gan_jax.ops.diffusion.noise_schedules import Chain


def check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    one_of("config.diffusion.process", config.diffusion.process, processes.PROCESSES)
    one_of("config.discrete.schedule", config.discrete.schedule, noise_schedules.SCHEDULES)
    at_least("config.diffusion.skip_limit", config.diffusion.skip_limit, 0)
    at_least("config.batch_size", config.batch_size, 1)
    grads.check_parts(config.microbatches, config.batch_size)
    if config.data.pairs not in ("none", "upscale"):
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: diffusion takes single images (none), or "
            "makes small ones of them to enlarge (upscale)"
        )
    _check_classes(config)
    _check_guide(config, facts)


def _check_classes(config) -> None:
    """Raises UserError for options that need a U-Net trained with classes, if it is not."""
    dropped, guidance = config.diffusion.label_dropout, config.sampling.guidance
    if not 0 <= dropped < 1:
        raise UserError(f"config.diffusion.label_dropout={dropped}: must lie in [0, 1)")
    for key, wanted in (
        ("config.diffusion.label_dropout", dropped),
        ("config.sampling.guidance", guidance != 1),
    ):
        if wanted and not config.model.class_cond:
            raise UserError(f"{key} needs a model of classes: set config.model.class_cond=True")
    if guidance != 1 and not dropped:
        raise UserError(
            f"config.sampling.guidance={guidance}: needs a model that was trained with "
            "config.diffusion.label_dropout above 0, such as 0.1"
        )


def _check_guide(config, facts: Facts) -> None:
    """Raises UserError if guidance by a classifier is asked for but not possible."""
    scale = config.classifier.scale
    at_least("config.classifier.scale", scale, 0)
    if not scale:
        return
    if config.diffusion.process != "discrete":
        raise UserError(
            f"config.classifier.scale={scale}: a classifier knows the noise of a chain; set it to "
            "0, or config.diffusion.process to discrete"
        )
    if not facts.num_classes:
        raise UserError(f"config.classifier.scale={scale}: this data has no classes")
    if not config.restore.classifier[0]:
        raise UserError(
            f"config.classifier.scale={scale}: name the classifier, such as "
            "--config.restore.classifier=\"('runs/classifier', '*')\""
        )


def process(config) -> processes.Process:
    """The process of a config: how noise is added, and what the network learns to predict.

    Raises UserError for values that are not accepted.
    """
    path = config.sampling
    sigmas = processes.Sigmas(path.sigma_min, path.sigma_max, path.rho)
    if config.diffusion.process == "flow":
        return processes.flow(**config.flow)
    if config.diffusion.process == "edm":
        return processes.edm(**config.edm, sigmas=sigmas)
    section = config.discrete
    chain = _chain(section, section.respacing, "config.discrete.respacing")
    objective = gaussian_diffusion.Objective(
        section.target, section.variance, section.loss, section.min_snr
    )
    try:
        gaussian_diffusion.check(*objective)
    except UserError as error:
        raise UserError(f"config.discrete: {error}") from None
    return processes.discrete(chain, objective, section.timestep_sampler, sigmas)


def settings(config) -> sampling.Settings:
    """The section `sampling`, checked."""
    names = sampling.Settings._fields
    found = sampling.Settings(**{name: config.sampling[name] for name in names})
    found.check(config.diffusion.process, config.discrete.target)
    return found


def walked(config, chain: Chain | None, how: sampling.Settings) -> Chain | None:
    """The steps of the chain that sampling takes; None if the sampler does not walk a chain.

    Raises UserError for steps that the network was not trained on.
    """
    if chain is None or not how.walks_chain(config.diffusion.process):
        return None
    section, steps = config.discrete, f"config.sampling.steps={how.steps!r}"
    found = _chain(section, how.steps, "config.sampling.steps")
    if not set(found.kept) <= set(chain.kept):
        raise UserError(
            f"{steps}: keeps steps that config.discrete.respacing={section.respacing!r} has left "
            "out of training; give the same, or none"
        )
    bound = {"target": section.target == "previous_x", "variance": section.variance == "learned"}
    for name, to_trained_steps in bound.items():
        if to_trained_steps and found.steps != chain.steps:
            raise UserError(
                f"{steps}: config.discrete.{name}={section[name]} is of the steps that are trained "
                f"on; draw along all of them, {section.respacing!r}"
            )
    return found


def _chain(section, respacing: str, key: str) -> Chain:
    """The steps of the chain that a respacing keeps; "" keeps all. `key` names it in errors."""
    noise_schedules.check(section.schedule, section.steps, "config.discrete")
    return noise_schedules.chain(
        section.schedule, section.steps, respacing, section.rescale_timesteps, key
    )

"""Optimizers: named optax chains of clip, weight decay, moments, rate and EMA of the weights.

The learning rate is not counted inside the chain: it is computed from the step and handed to the
`rate` link as an extra argument, together with what other links need (`stats`, `step`,
`batch_images`, `validation`). The state of a chain is a dict by link name, arrays only.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax import splitting
from gan_jax.core import schedules
from gan_jax.core.ema import EmaState, ema, has_average
from gan_jax.core.loss_scale import links, unless_skipped, with_links, with_loss_scale
from gan_jax.core.plateau import plateau
from gan_jax.core.system import Array, Net, PyTree, Stage, TrainState
from gan_jax.errors import UserError, at_least, one_of

NAMES = ("adam", "adamw", "rmsprop", "sgd")


class Optimizer(NamedTuple):
    """What trains one network: its chain, and its learning rate at a step (int32 [])."""

    tx: optax.GradientTransformationExtraArgs
    rate: Callable[[Array], Array]


def scale_by_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by −rate, an extra argument (scalar)."""

    def update(updates, state, params=None, *, rate, **extra):
        del params, extra
        return jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def scale_by_adam_eps_hat(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with ε added to √v before the bias of v is corrected, as in TensorFlow's AdamOptimizer.

    The update is √(1 - b2^t) / (1 - b1^t) · m / (√v + ε): "ε hat" of Kingma & Ba 2015, end of
    section 2. The state is that of optax.scale_by_adam.
    """
    plain = optax.scale_by_adam(b1, b2, eps)

    def update(updates, state, params=None):
        _, state = plain.update(updates, state, params)
        wide = state.count.astype(float)
        factor = jnp.sqrt(1 - b2**wide) / (1 - b1**wide)

        def scaled(m: Array, v: Array) -> Array:
            return (factor * m / (jnp.sqrt(v) + eps)).astype(m.dtype)

        return jax.tree.map(scaled, state.mu, state.nu), state

    return optax.GradientTransformation(plain.init, update)


def decay_mask(mask: str):
    """A function from parameters to a tree of bools: the leaves that weight decay applies to.

    `mask` is "kernels", the leaves of that name (no biases, no norms), or "all".
    """

    def touched(path, leaf) -> bool:
        del leaf
        return mask == "all" or getattr(path[-1], "key", None) == "kernel"

    return lambda params: jax.tree_util.tree_map_with_path(touched, params)


def defaults(**own: Any) -> dict:
    """The config section of one optimizer, with its schedule; `own` values replace the usual."""
    usual = dict(
        name="adam",  # adam | adamw | rmsprop | sgd
        lr=2e-4,
        b1=0.9,  # Adam; the momentum of sgd
        b2=0.999,  # Adam; the smoothing of rmsprop
        eps=1e-8,
        eps_hat=False,  # Adam: add ε before the bias is corrected, see `scale_by_adam_eps_hat`
        nesterov=False,  # sgd
        weight_decay=0.0,  # adamw: decoupled; otherwise added to the gradient
        weight_decay_mask="kernels",  # kernels | all
        clip_norm=0.0,  # global norm, 0: off
        ema=(0.0,),  # decays of the weight averages; 0.0: none
        ema_of="after",  # after | before the update
        ema_start=0,  # step from which averaging begins
        ema_warmup=False,
        ema_half_life=0.0,  # in images; above 0 it replaces `ema`
        schedule=schedules.defaults(),
    )
    return usual | own


def make(config, key: str, lowest: bool = True) -> optax.GradientTransformationExtraArgs:
    """The chain that an optimizer's section of a config describes.

    Its links are, in this order, clip, decay, moments, decoupled, plateau, rate and ema, without
    those that the section does not ask for.

    Args:
      config: the section, see `defaults`; of its `schedule` only a plateau's values matter here.
      key: the place of the section in the config, for messages.
      lowest: whether a lower validation value is better, for plateau rates.

    Raises UserError naming `key` for values that are not accepted.
    """
    _check(config, key)
    mask = decay_mask(config.weight_decay_mask)
    links = []
    if config.clip_norm:
        links.append(("clip", optax.clip_by_global_norm(config.clip_norm)))
    if config.weight_decay and config.name != "adamw":
        links.append(("decay", optax.add_decayed_weights(config.weight_decay, mask=mask)))
    links.append(("moments", _moments(config)))
    if config.weight_decay and config.name == "adamw":
        links.append(("decoupled", optax.add_decayed_weights(config.weight_decay, mask=mask)))
    if config.schedule.name == "plateau":
        s = config.schedule
        floor = s.floor / config.lr if config.lr else 0.0
        cut = plateau(s.factor, s.patience, s.threshold, s.cooldown, floor, lowest)
        links.append(("plateau", cut))
    links.append(("rate", scale_by_rate()))
    if config.ema_half_life or any(config.ema):
        average = ema(
            tuple(config.ema),
            of=config.ema_of,
            start=config.ema_start,
            warmup=config.ema_warmup,
            half_life_images=config.ema_half_life,
        )
        links.append(("ema", average))
    return _named_chain(links)


def optimizers(
    sections: Mapping[str, Any],
    stages: Sequence[Stage],
    epoch_steps: Sequence[int],
    lowest: bool,
    scaled: bool = False,
) -> dict[str, Optimizer]:
    """An optimizer for every section of config.optim, by the name of its network.

    Args:
      sections: each as `defaults` makes it, with its `schedule`.
      epoch_steps: the steps of an epoch in each of `stages`.
      lowest: whether a lower validation value is better, for plateau rates.
      scaled: whether losses are multiplied by a dynamic scale, for float16.

    Raises UserError for values that are not accepted.
    """

    def optimizer(section: Any, key: str) -> Optimizer:
        tx = make(section, key, lowest)
        tx = with_loss_scale(tx) if scaled else tx
        place = f"{key}.schedule"
        rate = schedules.make(section.lr, section.schedule, stages, epoch_steps, place)
        return Optimizer(tx, rate)

    return {name: optimizer(part, f"config.optim.{name}") for name, part in sections.items()}


def notices(
    sections: Mapping[str, Any], stages: Sequence[Stage], epoch_steps: Sequence[int]
) -> tuple[str, ...]:
    """Lines about learning rates that are never warm or never fall; arguments as for `optimizers`.

    Networks of which the same is to be said share a line.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, section in sections.items():
        found = schedules.remark(section.lr, section.schedule, stages, epoch_steps)
        alike.setdefault(found, []).append(name)
    alike.pop(("", ""), None)
    return tuple(
        f"the learning rate of {' and '.join(names)} {said}; change "
        f"{' and '.join(f'config.optim.{name}.schedule.{key}' for name in names)}, or raise "
        "config.run.steps"
        for (said, key), names in alike.items()
    )


def _named_chain(links: list[tuple[str, optax.GradientTransformation]]):
    """optax.named_chain with plain dicts for its state, before and after an update."""
    chain = optax.named_chain(*links)

    def update(updates, state, params=None, **extra):
        updates, state = chain.update(updates, state, params, **extra)
        return updates, dict(state)

    return optax.GradientTransformationExtraArgs(lambda params: dict(chain.init(params)), update)


def _check(config, key: str) -> None:
    one_of(f"{key}.name", config.name, NAMES)
    one_of(f"{key}.weight_decay_mask", config.weight_decay_mask, ("kernels", "all"))
    one_of(f"{key}.ema_of", config.ema_of, ("after", "before"))
    at_least(f"{key}.lr", config.lr, 0)
    for decay in config.ema:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise UserError(f"{key}.ema={tuple(config.ema)}: decays must lie in [0, 1)")
    for name in ("b1", "b2"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{key}.{name}={getattr(config, name)}: must lie in [0, 1)")
    for name in ("eps", "weight_decay", "clip_norm", "ema_start", "ema_half_life"):
        at_least(f"{key}.{name}", getattr(config, name), 0)
    if len(config.ema) > 1 and not all(config.ema):
        raise UserError(f"{key}.ema={tuple(config.ema)}: 0 means no average and has to stand alone")


def _moments(config) -> optax.GradientTransformation:
    if config.name in ("adam", "adamw"):
        if config.eps_hat:
            return scale_by_adam_eps_hat(config.b1, config.b2, config.eps)
        return optax.scale_by_adam(config.b1, config.b2, eps=config.eps)
    if config.name == "rmsprop":  # eps outside the root, as in PyTorch
        return optax.scale_by_rms(config.b2, eps=config.eps, eps_in_sqrt=False)
    if config.b1:
        return optax.trace(config.b1, nesterov=config.nesterov)
    return optax.identity()


def new_net(tx: optax.GradientTransformation, params: PyTree, stats: PyTree) -> Net:
    """A network at step 0, whose averages start from the initial parameters and statistics."""
    return restarted(Net(params=params, stats=stats, opt=tx.init(params)), params, stats)


def restarted(net: Net, params: PyTree, stats: PyTree) -> Net:
    """The net with other weights, from which its averages restart as well; the states of the other
    links of its optimizer stay as they are."""
    opt = net.opt
    if has_average(net):
        count = len(links(opt)["ema"].params)
        params_copies = tuple(jax.tree.map(jnp.array, params) for _ in range(count))
        stats_copies = tuple(jax.tree.map(jnp.array, stats) for _ in range(count))
        opt = with_links(opt, ema=EmaState(params_copies, stats_copies))
    return Net(params=params, stats=stats, opt=opt)


def inputs(state: TrainState, stage: Stage) -> dict[str, Any]:
    """The arguments that the links of a chain read in `step`, all but the rate."""
    return dict(step=state.step, validation=state.validation, batch_images=float(stage.batch_size))


def step(
    net: Net,
    tx: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    stats: PyTree,
    **extra: Any,
) -> Net:
    """One update. `extra` holds what the links read: `rate`, and `inputs`.

    If a loss scale skips the step, the batch statistics stay as they were as well.
    """
    grads = splitting.placed(grads)
    updates, opt = tx.update(grads, net.opt, net.params, stats=stats, **extra)
    stats = unless_skipped(net, grads, stats, net.stats)
    return splitting.placed(
        Net(params=optax.apply_updates(net.params, updates), stats=stats, opt=opt)
    )


def select_layers(net: Net, layers: Collection[str]) -> Net:
    """The net with only some of its layers, in the parameters, the moments and the averages.

    `layers` are keys of the outermost dict of the parameters.
    """
    whole = _like_params(net)
    return jax.tree.map(
        lambda tree: {k: tree[k] for k in layers} if whole(tree) else tree, net, is_leaf=whole
    )


def merge_layers(part: Net, net: Net) -> Net:
    """`net` with the layers of `part` in place of its own; `part` comes from `select_layers`."""
    whole = _like_params(net)
    leaves, structure = jax.tree.flatten(net, is_leaf=whole)
    parts = structure.flatten_up_to(part)
    merged = [{**old, **new} if whole(old) else new for old, new in zip(leaves, parts, strict=True)]
    return jax.tree.unflatten(structure, merged)


def _like_params(net: Net) -> Callable[[Any], bool]:
    """A test of whether a tree has the net's layers, as moments and averages do."""
    names = net.params.keys()
    return lambda tree: isinstance(tree, dict) and tree.keys() == names


def reset_moments(net: Net, tx: optax.GradientTransformation) -> Net:
    """The same net with fresh moments, on the same devices. The rest stays, averages included."""
    fresh = links(tx.init(net.params))["moments"]
    old = links(net.opt)["moments"]
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding) if _concrete(old) else new, fresh, old
    )
    return net.replace(opt=with_links(net.opt, moments=placed))


def _concrete(x: Any) -> bool:
    return isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)


def global_norm(tree: PyTree) -> Array:
    """Euclidean norm over all leaves, in their own precision."""
    return optax.tree.norm(tree)

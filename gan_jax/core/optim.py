"""Named optax chains: clip, weight decay, moments, rate, EMA of the weights.

The learning rate is not counted inside the chain: it is computed from the step and handed to the
`rate` link as an extra argument, together with what other links need (`stats`, `step`,
`batch_images`, `validation`). The state of a chain is a dict by link name, arrays only.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.loss_scale import LossScaleState, all_finite
from gan_jax.core.system import Array, Net, PyTree
from gan_jax.errors import UserError

OPTIMISERS = ("adam", "adamw", "rmsprop", "sgd")


class EmaState(NamedTuple):
    """Moving averages of parameters and batch statistics, one pair per decay, in order."""

    params: tuple[PyTree, ...]
    stats: tuple[PyTree, ...]


class PlateauState(NamedTuple):
    """What a reduce-on-plateau rate remembers, all scalars."""

    scale: Array
    best: Array
    waited: Array  # evaluations without improvement
    cooling: Array  # evaluations still to be ignored
    seen: Array  # number of validation values read so far


def scale_by_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by −rate, an extra argument (scalar)."""

    def update(updates, state, params=None, *, rate, **extra):
        del params, extra
        return jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def plateau(
    factor: float, patience: int, threshold: float, cooldown: int, floor: float, lowest: bool
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by a scale that is cut by `factor` whenever the validation value has not
    improved by the relative `threshold` for more than `patience` evaluations (as PyTorch's
    ReduceLROnPlateau counts them). `floor` is the smallest scale, `lowest` says whether lower is
    better.

    Extra argument `validation`: float [2], the last value and how many values there have been.
    A value that is not finite counts as no improvement.
    """
    sign = 1.0 if lowest else -1.0

    def init(params):
        del params
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(
            scale=jnp.ones((), jnp.float32),
            best=jnp.array(jnp.inf, jnp.float32),
            waited=zero,
            cooling=zero,
            seen=jnp.zeros((), jnp.float32),
        )

    def update(updates, state, params=None, *, validation, **extra):
        del params, extra
        value, count = sign * validation[0], validation[1]
        new = count > state.seen
        margin = threshold * jnp.where(jnp.isfinite(state.best), jnp.abs(state.best), 0.0)
        better = jnp.isfinite(value) & (value < state.best - margin)
        cooling = jnp.where(new, jnp.maximum(state.cooling - 1, 0), state.cooling)
        waited = jnp.where(
            new, jnp.where(better | (state.cooling > 0), 0, state.waited + 1), state.waited
        )
        cut = new & (waited > patience)
        state = PlateauState(
            scale=jnp.where(cut, jnp.maximum(state.scale * factor, floor), state.scale),
            best=jnp.where(new & better, value, state.best),
            waited=jnp.where(cut, 0, waited),
            cooling=jnp.where(cut, cooldown, cooling),
            seen=count,
        )
        return jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def ema(
    decays: tuple[float, ...],
    *,
    of: str = "after",
    start: int = 0,
    warmup: bool = False,
    half_life_images: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Moving averages of parameters and batch statistics; the tail link of a chain.

    average ← d · average + (1 − d) · weights, for every decay d. Until step `start` the averages
    follow the weights exactly. `of="after"` averages the weights that this update makes, "before"
    those it starts from. With `warmup`, d is at most (1 + n) / (10 + n), n steps after the start
    (the rule of TensorFlow's ExponentialMovingAverage). With `half_life_images` > 0 the decay is
    0.5^(batch / half_life), whatever `decays` says (one average), batch being the extra argument
    `batch_images`.

    Batch statistics come as the extra argument `stats`, the training step as `step`.
    """
    count = 1 if half_life_images else len(decays)

    def init(params):
        copies = tuple(jax.tree.map(jnp.array, params) for _ in range(count))
        return EmaState(params=copies, stats=({},) * count)

    def update(updates, state, params=None, *, stats, step, batch_images, **extra):
        del extra
        weights = params if of == "before" else optax.apply_updates(params, updates)
        rates = (jnp.power(0.5, batch_images / half_life_images),) if half_life_images else decays
        n = jnp.maximum(step - start, 0).astype(float)  # double where doubles are on

        def blend(decay, average, new):
            d = jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else decay
            d = jnp.where(step < start, 0.0, d)
            # this form leaves equal weights alone: d + (1 - d) need not be 1 in float32
            return jax.tree.map(lambda a, w: (w + (a - w) * d).astype(a.dtype), average, new)

        return updates, EmaState(
            params=tuple(blend(d, a, weights) for d, a in zip(rates, state.params, strict=True)),
            stats=tuple(blend(d, a, stats) for d, a in zip(rates, state.stats, strict=True)),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_adam_eps_hat(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with ε added to √v before the bias of v is corrected, as TensorFlow's AdamOptimizer.

    The update is √(1 - b2^t) / (1 - b1^t) · m / (√v + ε): "ε hat" of Kingma & Ba 2015, end of
    section 2. The state is that of optax.scale_by_adam.
    """
    plain = optax.scale_by_adam(b1, b2, eps)

    def update(updates, state, params=None):
        _, state = plain.update(updates, state, params)
        wide = state.count.astype(float)
        factor = jnp.sqrt(1 - b2**wide) / (1 - b1**wide)
        scaled = lambda m, v: (factor * m / (jnp.sqrt(v) + eps)).astype(m.dtype)  # noqa: E731
        return jax.tree.map(scaled, state.mu, state.nu), state

    return optax.GradientTransformation(plain.init, update)


def decay_mask(mask: str):
    """Which leaves weight decay touches: "kernels" (by that name: no bias, no norm) or "all"."""

    def touched(path, leaf) -> bool:
        del leaf
        return mask == "all" or getattr(path[-1], "key", None) == "kernel"

    return lambda params: jax.tree_util.tree_map_with_path(touched, params)


def defaults() -> dict:
    """One optimiser's section of a config, without its schedule."""
    return dict(
        name="adam",  # adam | adamw | rmsprop | sgd
        lr=2e-4,
        b1=0.9,  # Adam; the momentum of sgd
        b2=0.999,  # Adam; the smoothing of rmsprop
        eps=1e-8,
        eps_hat=False,  # Adam: ε beside the root of the moment before its bias is corrected
        nesterov=False,  # sgd
        weight_decay=0.0,  # adamw: decoupled; otherwise added to the gradient
        weight_decay_mask="kernels",  # kernels | all
        clip_norm=0.0,  # global norm, 0: off
        ema=(0.0,),  # decays of the weight averages; 0.0: none
        ema_of="after",  # after | before the update
        ema_start=0,  # step from which averaging begins
        ema_warmup=False,
        ema_half_life=0.0,  # in images; above 0 it replaces `ema`
    )


def make(config, key: str, lowest: bool = True) -> optax.GradientTransformationExtraArgs:
    """The chain that an optimiser section describes (see `defaults`; `schedule` is read for
    plateau only). `lowest`: whether a lower validation value is better, for plateau rates.

    Links by name: clip, decay, moments, decoupled, plateau, rate, ema; those not asked for are
    left out. Raises UserError naming `key` for values that are not accepted.
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


def _named_chain(links: list[tuple[str, optax.GradientTransformation]]):
    """optax.named_chain with plain dicts for its state, before and after an update."""
    chain = optax.named_chain(*links)

    def update(updates, state, params=None, **extra):
        updates, state = chain.update(updates, state, params, **extra)
        return updates, dict(state)

    return optax.GradientTransformationExtraArgs(lambda params: dict(chain.init(params)), update)


def _check(config, key: str) -> None:
    accepted = {
        "name": OPTIMISERS,
        "weight_decay_mask": ("kernels", "all"),
        "ema_of": ("after", "before"),
    }
    for name, values in accepted.items():
        if getattr(config, name) not in values:
            found = getattr(config, name)
            raise UserError(f"{key}.{name}={found!r}: accepted are {', '.join(values)}")
    if not config.lr >= 0:
        raise UserError(f"{key}.lr={config.lr}: must be at least 0")
    for decay in config.ema:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise UserError(f"{key}.ema={tuple(config.ema)}: decays must lie in [0, 1)")
    for name in ("b1", "b2"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{key}.{name}={getattr(config, name)}: must lie in [0, 1)")
    for name in ("eps", "weight_decay", "clip_norm", "ema_start", "ema_half_life"):
        if getattr(config, name) < 0:
            raise UserError(f"{key}.{name}={getattr(config, name)}: must not be below 0")
    if len(config.ema) > 1 and not all(config.ema):
        raise UserError(f"{key}.ema={tuple(config.ema)}: 0 means none and stands alone")


def _moments(config) -> optax.GradientTransformation:
    if config.name in ("adam", "adamw"):
        if config.eps_hat:
            return scale_by_adam_eps_hat(config.b1, config.b2, config.eps)
        return optax.scale_by_adam(config.b1, config.b2, eps=config.eps)
    if config.name == "rmsprop":  # eps outside the root, as PyTorch
        return optax.scale_by_rms(config.b2, eps=config.eps, eps_in_sqrt=False)
    if config.b1:
        return optax.trace(config.b1, nesterov=config.nesterov)
    return optax.identity()


def new_net(tx: optax.GradientTransformation, params: PyTree, stats: PyTree) -> Net:
    """A network at step 0: its averages begin at the initial parameters and statistics."""
    return restarted(Net(params=params, stats=stats, opt=tx.init(params)), params, stats)


def restarted(net: Net, params: PyTree, stats: PyTree) -> Net:
    """The net with other weights, its averages beginning at them; the other links stay."""
    opt = net.opt
    if has_average(net):
        copies = lambda tree: tuple(  # noqa: E731
            jax.tree.map(jnp.array, tree) for _ in links(opt)["ema"].params
        )
        opt = with_links(opt, ema=EmaState(copies(params), copies(stats)))
    return Net(params=params, stats=stats, opt=opt)


def step(
    net: Net,
    tx: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    stats: PyTree,
    **extra: Any,
) -> Net:
    """One update. `extra` holds what the links read: rate, step, batch_images, validation.

    A step that a loss scale skips leaves the batch statistics as they were too.
    """
    updates, opt = tx.update(grads, net.opt, net.params, stats=stats, **extra)
    if isinstance(net.opt, LossScaleState):
        finite = all_finite(grads)
        stats = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stats, net.stats)
    return Net(params=optax.apply_updates(net.params, updates), stats=stats, opt=opt)


def links(opt: PyTree) -> dict[str, PyTree]:
    """The states of a chain's links by name, inside a loss scale or not."""
    return opt.inner if isinstance(opt, LossScaleState) else opt


def with_links(opt: PyTree, **changed: PyTree) -> PyTree:
    """A chain's state with other states of some links, inside a loss scale or not."""
    if isinstance(opt, LossScaleState):
        return opt._replace(inner={**opt.inner, **changed})
    return {**opt, **changed}


def has_average(net: Net) -> bool:
    """Whether the net keeps moving averages of its weights."""
    return "ema" in links(net.opt)


def averaged(net: Net, index: int = 0) -> tuple[PyTree, PyTree]:
    """(params, stats) of the moving average number `index`; the raw ones where there is none."""
    ema = links(net.opt).get("ema")
    return (ema.params[index], ema.stats[index]) if ema else (net.params, net.stats)


def rate_scale(net: Net) -> Array | float:
    """What a plateau schedule has cut the learning rate to, as a factor."""
    found = links(net.opt)
    return found["plateau"].scale if "plateau" in found else 1.0


def narrowed(net: Net, layers: Collection[str]) -> Net:
    """The net with some of its layers only, by first name: parameters, moments and averages."""
    names = net.params.keys()
    whole = lambda tree: isinstance(tree, dict) and tree.keys() == names  # noqa: E731
    return jax.tree.map(
        lambda tree: {k: tree[k] for k in layers} if whole(tree) else tree, net, is_leaf=whole
    )


def widened(part: Net, net: Net) -> Net:
    """`net` with the layers of `part`, which `narrowed` has made of it, as they are there."""
    names = net.params.keys()
    whole = lambda tree: isinstance(tree, dict) and tree.keys() == names  # noqa: E731
    leaves, structure = jax.tree.flatten(net, is_leaf=whole)
    parts = structure.flatten_up_to(part)
    merged = [{**old, **new} if whole(old) else new for old, new in zip(leaves, parts, strict=True)]
    return jax.tree.unflatten(structure, merged)


def reset_moments(net: Net, tx: optax.GradientTransformation) -> Net:
    """The same net with fresh moments; averages and everything else stay.

    On whatever devices the net is, in the same way.
    """
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

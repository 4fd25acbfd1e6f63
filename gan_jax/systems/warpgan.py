"""WarpGAN: photos become caricatures by a change of texture and a learned warp of the geometry.

Paper: Shi, Deb and Jain 2019. Reference: seasonSH/WarpGAN.

A is a caricature, B a photo of the same identity. The generated image BA is the texture of B's
content under a random style, warped by a thin-plate spline whose control points and displacements
come from B's content. The discriminator tells caricatures, photos and generated images apart, in
patches and, in 3·C classes, by identity. Both networks take one step from one forward pass at the
old weights.

Deviations: identities are drawn without replacement within an epoch, where the original draws each
batch anew; a batch of one pair is the original's batch of 2; the rates go on past the last step,
which the original refuses; `keep_prob`, which the original feeds to nothing, drops features.
"""

import jax
import jax.numpy as jnp
import optax

from gan_jax.core import grads, optim, players, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.sampler import latents_of, numbers_of
from gan_jax.core.system import Facts, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import convolution
from gan_jax.models import warpgan as networks
from gan_jax.ops import images, warping

CARICATURE, PHOTO, GENERATED = range(3)  # classes of a patch, and thirds of the identity classes
STEPS = 100_000  # of the original, where its learning rate reaches 0
CENTRE, SPREAD = 127.5, 128.0  # of a pixel's grey level, as the original standardises them


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimiser() -> dict:
        section = {**optim.defaults(), "lr": 1e-4, "b1": 0.5, "b2": 0.9, "eps_hat": True}
        section["weight_decay"] = 1e-4  # of kernels: λ/2 Σ w² in the loss
        schedule = schedules.defaults() | {
            "name": "linear",
            "begin": STEPS / 2,
            "length": float(STEPS),
        }
        return {**section, "schedule": schedule}

    return dict(
        batch_size=1,  # pairs: one photo and one caricature each
        model=networks.defaults(),
        loss=dict(
            identity_weight=1.0,  # of the 3·C classes
            patch_weight=2.0,  # of the 3 classes of patches
            reconstruction_weight=10.0,  # of images rendered in their own style, not warped
            style_reconstruction=0.0,  # of random styles, as read off what was made in them
            scale=1.0,  # of the displacements in training
            regularization=1e-6,  # λ of the spline: 0 passes through the points
        ),
        optim=dict(gen=optimiser(), disc=optimiser()),
        quality=dict(metrics=("rank1",), split=""),
        best=dict(metric="val/reconstruction", mode="min"),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`)."""
    _check(config, facts)
    loss, classes, size = config.loss, facts.num_classes, config.model.style_size
    gen, disc = networks.build(config.model, facts.resolution, classes, facts.channels)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")
    (gen_tx, gen_rate), (disc_tx, disc_rate) = learn["gen"], learn["disc"]

    def init(key, batch, stage) -> TrainState:
        gen_key, disc_key = jax.random.split(key)
        x = jnp.zeros((1, facts.resolution, facts.resolution, facts.channels))
        return new_state(
            {
                "gen": optim.new_net(gen_tx, *gen.init(gen_key, x)),
                "disc": optim.new_net(disc_tx, *disc.init(disc_key, x)),
            }
        )

    def moved(image, points, displacements, scale):
        """(image warped by displacements times scale [B], flow [B, H, W, 2])."""
        goal = points + scale[:, None, None] * displacements
        return warping.warp(image, points, goal, regularization=loss.regularization)

    def rendered(params, a, b, z, key):
        """Every image of a training step: A and B in their own styles, BA before and after its
        warp, and how it was warped."""
        content_a, content_b = jnp.split(gen.content(params, jnp.concatenate([a, b])), 2)
        own = gen.style(params, jnp.concatenate([a, b]))
        texture = gen.texture(
            params,
            jnp.concatenate([content_a, content_b, content_b]),
            jnp.concatenate([own, z.astype(own.dtype)]),
        )
        again_a, again_b, ba = jnp.split(texture, 3)
        points, displacements = gen.controls(params, content_b, train=True, key=key)
        scale = jnp.full(len(b), loss.scale, b.dtype)
        return again_a, again_b, ba, moved(ba, points, displacements, scale)[0], displacements

    def forward(gen_params, disc_params, a, b, labels, z, key):
        """(generator's loss, discriminator's loss, metrics) of one batch, without weight decay.

        `labels`: identities [B] of A, B and BA, which has its photo's.
        """
        gen_key, disc_key = jax.random.split(key)
        again_a, again_b, texture, ba, displacements = rendered(gen_params, a, b, z, gen_key)
        (patches, logits, _), _ = disc.apply(
            disc_params, {}, jnp.concatenate([a, b, ba]), train=True, key=disc_key
        )
        of_patch, of_identity = jnp.split(patches, 3), jnp.split(logits, 3)  # A, B, BA
        kinds = (CARICATURE, PHOTO, GENERATED)
        disc_terms = {
            "loss/identity_disc": loss.identity_weight
            * sum(_cross_entropy(of_identity[k], labels[k] + k * classes) for k in kinds),
            "loss/patch_disc": loss.patch_weight * sum(_patch(of_patch[k], k) for k in kinds),
        }
        gen_terms = {
            "loss/identity_gen": loss.identity_weight
            * _cross_entropy(of_identity[GENERATED], labels[GENERATED] + CARICATURE * classes),
            "loss/patch_gen": loss.patch_weight * _patch(of_patch[GENERATED], CARICATURE),
            "loss/reconstruction_caricature": loss.reconstruction_weight
            * jnp.mean(jnp.abs(again_a - a)),
            "loss/reconstruction_photo": loss.reconstruction_weight
            * jnp.mean(jnp.abs(again_b - b)),
        }
        if loss.style_reconstruction:
            read = gen.style(gen_params, texture).astype(jnp.float32)
            gen_terms["loss/style_reconstruction"] = loss.style_reconstruction * jnp.mean(
                jnp.abs(read - z)
            )
        gen_loss, disc_loss = (sum(terms.values()) for terms in (gen_terms, disc_terms))
        seen = {
            "displacement": jnp.mean(jnp.linalg.norm(displacements, axis=-1)),  # pixels
            "accuracy/patch_generated": jnp.mean(
                jnp.argmax(of_patch[GENERATED], -1) == GENERATED, dtype=jnp.float32
            ),
            "accuracy/identity_photo": jnp.mean(
                jnp.argmax(of_identity[PHOTO], -1) == labels[PHOTO] + PHOTO * classes,
                dtype=jnp.float32,
            ),
        }
        return gen_loss, disc_loss, (gen_loss, disc_loss, disc_terms | gen_terms | seen)

    def decayed(state: TrainState):
        """λ/2 Σ w² over the kernels of both networks: a part of both losses."""
        return sum(
            0.5 * config.optim[name].weight_decay * _kernel_squares(net.params)
            for name, net in state.nets.items()
            if config.optim[name].name != "adamw"
        )

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One step of both networks from one forward pass.

        A batch may bring its styles, `z`, and identities of the caricatures that are not those of
        their photos, `target_label`.
        """
        gen_net, disc_net = state.nets["gen"], state.nets["disc"]
        a, b = standardised(batch["target"]), standardised(batch["input"])
        style_key, drop_key = jax.random.split(key)
        z = batch["z"] if "z" in batch else jax.random.normal(style_key, (len(b), size))
        of_a = batch.get("target_label", batch["label"])
        labels = (of_a, batch["label"], batch["label"])
        gen_grads, disc_grads, (gen_loss, disc_loss, metrics) = grads.two_players(
            lambda g, d: forward(g, d, a, b, labels, z, drop_key),
            gen_net.params,
            disc_net.params,
        )
        decay = decayed(state)
        extra = dict(
            step=state.step, validation=state.validation, batch_images=float(stage.batch_size)
        )
        gen_net = optim.step(gen_net, gen_tx, gen_grads, {}, rate=gen_rate(state.step), **extra)
        disc_net = optim.step(
            disc_net, disc_tx, disc_grads, {}, rate=disc_rate(state.step), **extra
        )
        metrics |= {
            "loss/gen": gen_loss + decay,
            "loss/disc": disc_loss + decay,
            "loss/weight_decay": decay,
            "grad_norm/gen": optim.global_norm(gen_grads),
            "grad_norm/disc": optim.global_norm(disc_grads),
            "rate/gen": gen_rate(state.step) * optim.rate_scale(gen_net),
            "rate/disc": disc_rate(state.step) * optim.rate_scale(disc_net),
        }
        nets = {"gen": gen_net, "disc": disc_net}
        return state.replace(step=state.step + 1, nets=nets), metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Reconstruction in units of [-1, 1], what the discriminator makes of warped photos under
        random styles, functions of the photos' numbers in the set, and the length of their
        displacements in pixels."""
        a, b = standardised(batch["target"]), standardised(batch["input"])
        params, _ = optim.averaged(state.nets["gen"])
        z = latents_of({"seed": numbers_of(batch, len(b))}, key, size)
        again_a, again_b, _, ba, displacements = rendered(params, a, b, z, None)
        (patches, _, _), _ = disc.apply(state.nets["disc"].params, {}, ba)
        per_image = lambda values: jnp.mean(values.reshape(len(values), -1), axis=1)  # noqa: E731
        away = per_image(jnp.abs(again_a - a)), per_image(jnp.abs(again_b - b))
        chance = jax.nn.log_softmax(patches.astype(jnp.float32))[..., CARICATURE]
        return {
            "reconstruction": away[0] + away[1],
            "reconstruction_caricature": away[0],
            "reconstruction_photo": away[1],
            "patch": -per_image(chance),
            "displacement": per_image(jnp.linalg.norm(displacements, axis=-1)),
        }

    def textured(params, x, z):
        """(texture [N, H, W, C], points, displacements [N, P, 2]) of photos and styles."""
        content = gen.content(params, x)
        return gen.texture(params, content, z.astype(x.dtype)), *gen.controls(params, content)

    def caricature(params, x, z, scale) -> dict:
        """All that one pass makes of photos [N, H, W, C]; images in [-1, 1]."""
        texture, points, displacements = textured(params, x, z)
        # texture and photo have one geometry: they are warped as one image
        both, flow = moved(jnp.concatenate([texture, x], -1), points, displacements, scale)
        image, warped = jnp.split(both, 2, -1)
        pictures = {"image": image, "texture": texture, "warped": warped}
        unit = {name: unit_of(picture) for name, picture in pictures.items()}
        return unit | {"points": points, "displacements": displacements, "flow": flow}

    def sample_step(state: TrainState, batch, key, stage: Stage):
        """A caricature of every photo `input`, in a style of its seed, or `z` [N, style_size]."""
        x, net = standardised(batch["input"]), state.nets["gen"]
        z = latents_of(batch, key, size)
        weights = {"raw": net.params}
        if optim.has_average(net):
            weights["ema"] = optim.averaged(net)[0]
        made = [textured(params, x, z) for params in weights.values()]
        texture, points, displacements = map(jnp.concatenate, zip(*made, strict=True))
        # one warp: two at once, beside convolutions of YNNPACK, can wait for each other for ever
        one = jnp.ones(len(texture), x.dtype)
        warped = unit_of(moved(texture, points, displacements, one)[0])
        return dict(zip(weights, jnp.split(warped, len(weights)), strict=True))

    def draw(state: TrainState, batch, key, stage: Stage) -> dict:
        params, _ = optim.averaged(state.nets["gen"])
        return caricature(params, standardised(batch["input"]), batch["style"], batch["scale"])

    def style(state: TrainState, batch, key, stage: Stage) -> dict:
        params, _ = optim.averaged(state.nets["gen"])
        return {"style": gen.style(params, standardised(batch["input"]))}

    def random_style(state: TrainState, batch, key, stage: Stage) -> dict:
        return {"style": latents_of(batch, key, size)}

    def embedding(state: TrainState, batch, key, stage: Stage) -> dict:
        (_, _, found), _ = disc.apply(state.nets["disc"].params, {}, standardised(batch["image"]))
        return {"embedding": found}

    tasks = {
        "translate": Task(
            sample_step, "a caricature of every photo of a folder", reads="input", uses=("gen",)
        ),
        "caricature": Task(draw, "images, points and flow of photos, styles and scales"),
        "style": Task(style, "the style codes of images"),
        "random_style": Task(random_style, "style codes of seeds"),
        "embedding": Task(embedding, "the discriminator's identity embedding of images"),
    }
    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=sample_step,
        tasks=tasks,
        rates={"gen": gen_rate, "disc": disc_rate},
        latents=size,
        notices=_notices(config),
        compiler_options=convolution.compiler_options(training=True),
        sampling_options=convolution.compiler_options(training=False),
    )


def standardised(pixels):
    """Grey levels 0..255 → (x − 127.5) / 128, [-0.996, 0.996]."""
    return (images.floats(pixels) - CENTRE) / SPREAD


def unit_of(x):
    """Standardised images as images in [-1, 1]."""
    return jnp.clip(x * (SPREAD / CENTRE), -1.0, 1.0)


def _cross_entropy(logits, classes):
    """Mean over all but the last axis of −log softmax at `classes`, a scalar."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, classes))


def _patch(logits, kind: int):
    """Mean over patches [B, h, w, 3] of the cross entropy with one class, a scalar."""
    return _cross_entropy(logits, jnp.full(logits.shape[:-1], kind))


def _kernel_squares(params):
    """Σ w² over the kernels, what weight decay touches, a scalar."""
    mask = optim.decay_mask("kernels")(params)
    squares = jax.tree.map(lambda w, on: jnp.sum(jnp.square(w)) if on else 0.0, params, mask)
    return sum(jax.tree.leaves(squares))


def _notices(config) -> tuple[str, ...]:
    """A word where the discriminator learns identities from nothing."""
    if config.restore.disc[0]:
        return ()
    return (
        "disc starts from random weights: the paper's starts from a classifier of identities, "
        "config.restore.disc=('<run of an identity classifier>', 'conv*|bottleneck*')",
    )


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    if config.data.pairs != "identities":
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: warpgan learns from photos and caricatures "
            "of the same identities; set it to identities"
        )
    if config.batch_size < 1:
        raise UserError(f"config.batch_size={config.batch_size}: must be at least 1 pair")
    for name, value in config.loss.items():
        if name != "scale" and value < 0:
            raise UserError(f"config.loss.{name}={value}: must not be below 0")
    for name, section in config.optim.items():
        if section.weight_decay_mask != "kernels":
            raise UserError(
                f"config.optim.{name}.weight_decay_mask={section.weight_decay_mask!r}: warpgan's "
                "loss counts kernels; set it to kernels"
            )


def tiny(config) -> None:
    """Shrinks the networks; heads, losses and rates stay. In place."""
    config.model.update(width=4, blocks=1, control_width=8, disc_width=2, bottleneck=8)

"""A small image classifier: the eyes that judge what a generator covers.

Cross entropy, one optimiser. Its features feed the Fréchet distance and its classes the mode
coverage of `gan`; labelled data sets only. No reference: the architecture is our own.
"""

import jax
import jax.numpy as jnp
import optax

from gan_jax.core import optim, rates
from gan_jax.core.every import single_stage
from gan_jax.core.system import Facts, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models.classifier import classifier
from gan_jax.ops import augment, images


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimiser = {**optim.defaults(), "lr": 2e-3, "schedule": {**rates.defaults(), "name": "cosine"}}
    return dict(
        batch_size=64,
        augment=(),  # color, translation, cutout
        model=dict(width=16),
        loss=dict(label_smoothing=0.0),
        optim=dict(classifier=optimiser),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    if not facts.num_classes:
        raise UserError(
            "config.system='classifier' needs labelled data and this source has no labels; "
            "set config.data.labels or choose another source"
        )
    if not 0 <= config.loss.label_smoothing < 1:
        raise UserError(
            f"config.loss.label_smoothing={config.loss.label_smoothing}: must lie in [0, 1)"
        )
    net = classifier(facts.resolution, facts.channels, facts.num_classes, config.model.width)
    transform = augment.policy(tuple(config.augment))
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    section = config.optim.classifier
    tx = optim.make(section, "config.optim.classifier", config.best.mode == "min")
    rate = rates.make(
        section.lr, section.schedule, stages, epoch_steps, "config.optim.classifier.schedule"
    )
    smoothing = config.loss.label_smoothing

    def init(key, batch, stage) -> TrainState:
        x = jnp.zeros((2, facts.resolution, facts.resolution, facts.channels), jnp.float32)
        return new_state({"classifier": optim.new_net(tx, *net.init(key, x))})

    def cross_entropy(logits, label):
        """[B] from logits [B, K] and label int [B]."""
        targets = optax.smooth_labels(jax.nn.one_hot(label, facts.num_classes), smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update on one batch."""
        old = state.nets["classifier"]
        augment_key, dropout_key = jax.random.split(key)
        x = transform(images.to_unit(batch["image"]), augment_key)  # [B, H, W, C]

        def mean_loss(params):
            (logits, _), stats = net.apply(params, old.stats, x, train=True, key=dropout_key)
            return jnp.mean(cross_entropy(logits, batch["label"])), (logits, stats)

        (loss, (logits, stats)), grads = jax.value_and_grad(mean_loss, has_aux=True)(old.params)
        new = optim.step(
            old, tx, grads, stats,
            rate=rate(state.step), step=state.step, validation=state.validation,
            batch_images=float(stage.batch_size),
        )  # fmt: skip
        metrics = {
            "loss/classifier": loss,
            "accuracy/train": jnp.mean(jnp.argmax(logits, -1) == batch["label"], dtype=jnp.float32),
            "grad_norm/classifier": optim.global_norm(grads),
            "rate/classifier": rate(state.step) * optim.rate_scale(new),
        }
        return state.replace(step=state.step + 1, nets={"classifier": new}), metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Cross entropy and correctness of every image."""
        logits, _ = predict(state, batch["image"])
        return {
            "loss": cross_entropy(logits, batch["label"]),
            "accuracy": (jnp.argmax(logits, -1) == batch["label"]).astype(jnp.float32),
        }

    def predict(state: TrainState, pixels):
        params, stats = optim.averaged(state.nets["classifier"])
        out, _ = net.apply(params, stats, images.to_unit(pixels))
        return out  # logits [B, K], features [B, D]

    def features(state: TrainState, batch, key, stage: Stage):
        """Logits [B, K] and features [B, D] of uint8 images."""
        logits, values = predict(state, batch["image"])
        return {"logits": logits, "features": values}

    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=None,
        tasks={"features": Task(features, "logits and features of images")},
        rates={"classifier": rate},
    )

"""Optimizers and weight averages of the contenders, from a section `optim` of our configs."""

from typing import Any

import torch

from gan_jax.core.system import Stage


class Trainer:
    """Adam of one network, with the average of its weights and statistics.

    It follows a section such as config.optim.gen, with its learning rate and no schedule.
    """

    def __init__(self, section: Any, net: torch.nn.Module, stage: Stage):
        self.weights = list(net.parameters())
        self._section, self._steps = section, 0
        kind = torch.optim.AdamW if section.name == "adamw" else torch.optim.Adam
        self._adam = kind(
            self._groups(net), section.lr, (section.b1, section.b2), section.eps, fused=True
        )
        self._of = [v for v in net.state_dict(keep_vars=True).values() if v.is_floating_point()]
        self._decay = self._kept(stage.batch_size)
        self._average = [v.detach().clone() for v in self._of] if self._decay else []
        self.norms: list[float] | None = None  # of gradients; a list is filled

    def _groups(self, net: torch.nn.Module) -> list[dict[str, Any]]:
        """All weights, those without weight decay apart."""
        section = self._section
        everywhere = section.weight_decay_mask == "all"
        decayed = [p for p in self.weights if everywhere or p.ndim > 1]
        others = [p for p in self.weights if not (everywhere or p.ndim > 1)]
        groups = [dict(params=decayed, weight_decay=section.weight_decay)]
        return groups + ([dict(params=others, weight_decay=0.0)] if others else [])

    def _kept(self, images: int) -> float:
        """The share of the average that a step keeps; 0: there is none."""
        if self._section.ema_half_life:
            return 0.5 ** (images / self._section.ema_half_life)
        return self._section.ema[0]

    def step(self, loss: torch.Tensor, keep: bool = False) -> None:
        """One update by the gradients of a loss; `keep`: its graph is needed again."""
        self.collect(loss, keep)
        self.update()

    def collect(self, loss: torch.Tensor, keep: bool = False) -> None:
        """Computes the gradients of a loss by these weights."""
        self._adam.zero_grad()
        loss.backward(inputs=self.weights, retain_graph=keep)

    def update(self) -> None:
        """One update by the gradients that were computed last."""
        if self.norms is not None:
            squares = [p.grad.square().sum() for p in self.weights if p.grad is not None]
            self.norms.append(float(torch.stack(squares).sum().sqrt()))
        if self._section.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.weights, self._section.clip_norm)
        if self._section.ema_of == "before":
            self._blend()
        self._adam.step()
        if self._section.ema_of != "before":
            self._blend()
        self._steps += 1

    def _blend(self) -> None:
        decay = self._decay
        if self._section.ema_warmup:
            decay = min(decay, (1 + self._steps) / (10 + self._steps))
        if self._average:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._of, 1 - decay)


def values(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses by name without their graphs."""
    return {name: loss.detach() for name, loss in losses.items()}

"""The configs that come with gan_jax as lines of text."""

from gan_jax import config as configs
from gan_jax.modes.actions import config_facts
from gan_jax.modes.actions.config_facts import Facts

END = (
    "",
    "Train one by --config=NAME or --config=NAME:VARIANT,VARIANT. Every config has one more,",
    "tiny, which trains for seconds on synthetic images.",
)


def lines(system: str = "") -> list[str]:
    """A line for each config: name, system, size, length of training, what it trains, variants and
    cost; then how a config is named.

    With `system` only its configs are listed. A file that cannot be read is listed with the reason.
    """
    rows = []
    for name, file in configs.shipped().items():
        try:
            found = config_facts.read(file)
        except Exception as error:  # one file of many, which a user may be writing right now
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            found = Facts(name, f"cannot be read ({reason})", "", 0, "", (), "")
        if system in ("", found.system):
            rows.append(_columns(found))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    shown = []
    for row in rows:
        fields = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        shown.append("  ".join([*fields, row[-1]]))
    return [*shown, *END]


def _columns(facts: Facts) -> tuple[str, ...]:
    own = [name for name in facts.variants if name != "tiny"]
    text = f"{facts.about}."
    if own:
        text += f" Variants: {', '.join(own)}."
    if facts.cost:
        text += f" Cost: {facts.cost}."
    size = f"{facts.resolution:4} px" if facts.resolution else ""
    return facts.name, facts.system, size, length(facts.length), text


def length(steps: str) -> str:
    """A length of training as people write it: "4000" → "4,000 steps"."""
    number, _, unit = steps.partition(" ")
    return f"{int(number):,} {unit or 'steps'}" if number.isdecimal() else steps

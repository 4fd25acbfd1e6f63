"""The result of a comparison as lines of text."""

from typing import Any

from gan_jax.evaluation.real_statistics import in_words


def lines(result: dict[str, Any]) -> list[str]:
    """The lines for a result of `comparison.compare`: one for each value and its standard
    deviation, then what they were measured with."""
    values = result["figures"]
    shown = {name: value for name, value in values.items() if not name.endswith("_std")}
    width = max(map(len, shown))
    found = []
    for name, value in shown.items():
        deviation = f" ± {values[f'{name}_std']:.5g}" if f"{name}_std" in values else ""
        found.append(f"{name:{width}}  {value:.6g}{deviation}")
    unknown = "no" if not result["real"] else "an unknown number of"
    counted = unknown if result["n_real"] is None else f"{result['n_real']:,}"
    found.append(f"{counted} real and {result['n_fake']:,} generated images, seed {result['seed']}")
    for network, description in result.get("networks", {}).items():
        found.append(f"{network}: {in_words(description)}")
    if "lpips" in result:
        found.append(f"lpips: {result['lpips']}")
    return found + [f"note: {note}" for note in result["notes"]]

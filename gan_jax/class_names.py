"""Classes by name: how people ask for them, and what they are called in files and titles."""

import re
from collections.abc import Sequence

from gan_jax.errors import UserError

LONGEST = 40  # characters of a name in a file's name
MOST_NAMED = 10  # in a message


def words(text: str) -> list[str]:
    """What --classes names: "cat, dog,3-5" → ["cat", "dog", "3-5"]."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(classes: Sequence[int | str], names: Sequence[str], known: int, key: str) -> list[int]:
    """The numbers of classes that are given by name, by number, or as ranges of numbers ("3-5").

    A word is taken as a name first, in any case where that is not ambiguous, and then as numbers.

    Args:
        names: of all classes, () where they are not known.
        known: how many classes there are.
        key: what named the classes, for messages.

    Raises UserError for what is no class.
    """
    found: list[int] = []
    for word in classes:
        found += _named(word.strip(), names) if isinstance(word, str) else [int(word)]
    unknown = [str(w) for w in classes if isinstance(w, str) and not _named(w.strip(), names)]
    wrong = [str(n) for n in dict.fromkeys(found) if not 0 <= n < known]
    if unknown or wrong:
        accepted = f"0 to {known - 1}"
        words_ = [name for k, name in enumerate(names) if name != str(k)]
        if words_:
            more = f" and {len(words_) - MOST_NAMED} more" if len(words_) > MOST_NAMED else ""
            accepted += f", or by name {', '.join(words_[:MOST_NAMED])}{more}"
        listed = ", ".join([*unknown, *wrong][:MOST_NAMED])
        raise UserError(f"{key}: no class {listed}; accepted are {accepted}")
    return found


def _named(word: str, names: Sequence[str]) -> list[int]:
    """The class of this name, or the classes of this number or range; [] for anything else."""
    if word in names:
        return [names.index(word)]
    alike = [k for k, name in enumerate(names) if name.lower() == word.lower()]
    if len(alike) == 1:
        return alike
    if match := re.fullmatch(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", word, re.ASCII):
        first, last = int(match[1]), int(match[2] or match[1])
        # a range is checked by its ends: nobody has a million classes
        return list(range(first, last + 1)) if last - first < 10**6 else [first, last]
    return []


def title(label: int, names: Sequence[str]) -> str:
    """What a class is called: its name, or its number where it has none."""
    return names[label] if label < len(names) else str(label)


def file_suffix(label: int, names: Sequence[str]) -> str:
    """The end of the name of an image's file: "_class3", with another name "_class3_cat"."""
    name = title(label, names)
    slug = re.sub(r"[^\w-]+", "-", name).strip("-")[:LONGEST]
    return f"_class{label}" + (f"_{slug}" if slug and name != str(label) else "")

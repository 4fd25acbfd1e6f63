"""Names of classes: how people ask for classes, and what they are called in files and titles."""

import re
from collections.abc import Sequence

from gan_jax.config import words
from gan_jax.data.sources.listing import are_numbers, only_count
from gan_jax.errors import ArgumentError

LONGEST = 40  # characters of a name in a file's name
MOST_NAMED = 10  # in a message
MOST_IN_RANGE = 10_000  # classes


def numbers(classes: Sequence[int | str], names: Sequence[str], known: int, key: str) -> list[int]:
    """The numbers of classes that are given by number (int), or by the words of a list (str).

    A word is a name (upper or lower case does not matter unless it makes a difference between
    names), or else a number or a range of numbers such as "3-5". If all names are numbers
    themselves, numbers and ranges mean these names. A name that contains a comma is recognised from
    the words into which the comma splits it.

    Args:
        classes: numbers and words.
        names: of all classes, () if they are not known.
        known: how many classes there are.
        key: the argument that named the classes, for errors.

    Raises ArgumentError for words and numbers that are not classes.
    """
    found, unknown, place = [], [], 0
    while place < len(classes):
        taken, numbered = _first(classes[place:], names)
        if not numbered or not all(0 <= number < known for number in numbered):
            unknown.append(str(classes[place]))
        found += numbered
        place += taken
    if unknown:
        listed = ", ".join(dict.fromkeys(unknown[:MOST_NAMED]))
        raise ArgumentError(key, f": no class {listed}; accepted are {_accepted(names, known)}")
    return found


def _first(classes: Sequence[int | str], names: Sequence[str]) -> tuple[int, list[int]]:
    """(how many items of `classes` belong together, the numbers of their classes).

    It is one item, or several words that make up one name.
    """
    if not isinstance(classes[0], str):
        return 1, [int(classes[0])]
    for taken in range(len(classes), 1, -1):
        if any("," in name for name in names) and all(isinstance(c, str) for c in classes[:taken]):
            whole = ",".join(classes[:taken])
            alike = [k for k, name in enumerate(names) if ",".join(words(name)) == whole]
            if alike:
                return taken, alike[:1]
    return 1, _named(classes[0].strip(), names)


def _named(word: str, names: Sequence[str]) -> list[int]:
    """The class of this name, or the classes of this number or range; [] for anything else."""
    if word in names:
        return [names.index(word)]
    alike = [k for k, name in enumerate(names) if name.lower() == word.lower()]
    if len(alike) == 1:
        return alike
    match = re.fullmatch(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", word, re.ASCII)
    if not match:
        return []
    first, last = int(match[1]), int(match[2] or match[1])
    if last - first > MOST_IN_RANGE:
        return []
    every = range(first, last + 1)
    if not are_numbers(names):
        return list(every)
    place = {int(name): k for k, name in enumerate(names)}
    return [place[n] for n in every] if all(n in place for n in every) else []


def _accepted(names: Sequence[str], known: int) -> str:
    other = [name for k, name in enumerate(names) if name != str(k)]
    more = f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else ""
    if are_numbers(names) and other:
        return f"{', '.join(other[:MOST_NAMED])}{more}"
    by_name = f", or by name {', '.join(other[:MOST_NAMED])}{more}" if other else ""
    return f"0 to {known - 1}{by_name}"


def disagree(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """A description of the first class that has different names in two lists; "" if there is none.

    Only classes that both lists name are compared. Names that only count, 0, 1, …, agree with any
    names that are words.
    """
    both = are_numbers(ours) and are_numbers(theirs)
    counted = only_count(ours) or only_count(theirs)
    if not ours or not theirs or (counted and not both):
        return ""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((f"class {k} is {a!r} and {b!r}" for k, (a, b) in pairs if a != b), "")


def title(label: int, names: Sequence[str]) -> str:
    """What a class is called: its name, or its number where it has none."""
    return names[label] if label < len(names) else str(label)


def file_suffix(label: int, names: Sequence[str]) -> str:
    """The end of an image's file name: "_class3", or "_class3_cat" if the class has a name."""
    name = title(label, names)
    slug = re.sub(r"[^\w-]+", "-", name).strip("-")[:LONGEST]
    return f"_class{label}" + (f"_{slug}" if slug and name != str(label) else "")

"""Config files: where those that come with gan_jax lie, and how one is found and loaded.

A config file belongs to no package and is loaded by its path, in a checkout as after an
installation.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

from gan_jax.errors import ArgumentError, UserError, nearest

PACKAGE = Path(__file__).parent


def folder() -> Path:
    """The folder of the config files that come with gan_jax.

    An installed package contains it; in a checkout it lies beside the package.
    """
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def shipped() -> dict[str, Path]:
    """The config files that come with gan_jax by their names, such as "dcgan_mnist"."""
    return {file.stem: file for file in sorted(folder().glob("*.py"))}


def find(text: str) -> Path:
    """The config file that `text` names: a file, or else a config that comes with gan_jax.

    Raises an ArgumentError that names "config" and the nearest file or name if there is neither.
    """
    path = Path(text)
    if path.is_file():
        return path
    known = shipped()
    if text in known:
        return known[text]
    close = _close_file(path) or nearest(path.stem, known)
    hint = f"did you mean {close}? --mode=list" if close else "--mode=list"
    missing = "no such file" if path.suffix or path.parent.parts else "no such file or config"
    raise ArgumentError("config", f"={text}: {missing}; {hint} lists the configs of gan_jax")


def _close_file(path: Path) -> str:
    """A file in the same folder with a similar name; "" if there is none."""
    if not path.name:
        return ""
    found = nearest(f"{path.stem}.py", (file.name for file in path.parent.glob("*.py")))
    return str(path.with_name(found)) if found else ""


def load(path: str | Path) -> ModuleType:
    """The module of a config file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sibling(file: str, name: str) -> ModuleType:
    """Loads the module `name`, such as "shared/imagenet.py", that lies beside a config file.

    `file` is the `__file__` of that config. Config files belong to no package, so they cannot
    import each other. Raises UserError if the module is not there, for example because only the
    config was copied to another folder.
    """
    path = Path(file).parent / name
    if not path.is_file():
        raise UserError(f"{file} needs {name} beside it: copy it from {folder()} too")
    return load(path)

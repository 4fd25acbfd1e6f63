"""A store of objects in memory, with the functions of fsspec that gan_jax calls."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gan_jax.buckets import bucket, claim


class Store:
    """Objects by "bucket/path".

    Attributes:
      objects: their contents.
      done: what was changed, as (verb, path), in its order.
      history: the objects after each change.
      fails: called before everything with (verb, path); an error that it raises reaches the caller.
    """

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.done: list[tuple[str, str]] = []
        self.history: list[dict[str, bytes]] = []
        self.fails: Callable[[str, str], None] = lambda verb, path: None
        self._tags: dict[str, int] = {}
        self._lock = threading.Lock()

    def put(self, path: str, content: bytes = b"x") -> None:
        """Makes an object, as if another machine did."""
        self.objects[path], self._tags[path] = content, self._tags.get(path, 0) + 1

    def below(self, root: str) -> dict[str, bytes]:
        """The objects below a path, by their names there, without the claim."""
        found = {k.removeprefix(f"{root}/"): v for k, v in self.objects.items()}
        return {k: v for k, v in found.items() if k != claim.NAME}

    def _changed(self, verb: str, path: str, content: bytes | None) -> None:
        self.fails(verb, path)
        with self._lock:
            if content is None:
                del self.objects[path]
            else:
                self.put(path, content)
            self.done.append((verb, path))
            self.history.append(dict(self.objects))

    def find(self, path: str, detail: bool) -> dict[str, dict]:
        self.fails("find", path)
        return {
            name: {"type": "file", "size": len(content), "ETag": self._tags[name]}
            for name, content in self.objects.items()
            if name == path or name.startswith(f"{path}/")
        }

    def cat_file(self, path: str) -> bytes:
        self.fails("read", path)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def pipe_file(self, path: str, content: bytes) -> None:
        self._changed("write", path, content)

    def put_file(self, file: str, path: str) -> None:
        self._changed("upload", path, Path(file).read_bytes())

    def get_file(self, path: str, file: str, callback) -> None:
        self.fails("download", path)
        Path(file).write_bytes(self.cat_file(path))

    def rm_file(self, path: str) -> None:
        if path not in self.objects:
            raise FileNotFoundError(path)
        self._changed("remove", path, None)


def installed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Store:
    """A new store behind every address, and the cache in the folder `cache`."""
    store = Store()
    monkeypatch.setattr(bucket, "file_system", lambda scheme: store)
    monkeypatch.setattr(claim, "SETTLED", 0.0)
    monkeypatch.setenv("GAN_JAX_CACHE", str(cache))
    return store


def down(verb: str, path: str) -> None:
    """What `Store.fails` may be: nothing can be reached."""
    raise ConnectionError("no route to host")

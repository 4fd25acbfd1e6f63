"""Programs for a stage, compiled while the stage before it trains."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from gan_jax.core.system import Stage


class Program:
    """A jitted function whose last arguments are static and begin with the stage.

    A call runs the program that was prepared for its static arguments. If there is none, it calls
    the jitted function, which compiles on the spot and caches the result. `seconds` holds how long
    that took, by static arguments.
    """

    def __init__(
        self,
        function: Callable,
        arrays: int,
        compiling: Callable[[], AbstractContextManager] = contextlib.nullcontext,
    ):
        """
        Args:
          arrays: how many arguments come before the static ones.
          compiling: gives the context of each call that has to compile.
        """
        self.function, self._arrays, self._compiling = function, arrays, compiling
        self._prepared: dict[tuple, Callable] = {}
        self._met: set[tuple] = set()
        self.seconds: dict[tuple, float] = {}

    def __call__(self, *arguments: Any) -> Any:
        static = arguments[self._arrays :]
        if static in self._prepared:
            return self._prepared[static](*arguments[: self._arrays])
        if static in self._met:
            return self.function(*arguments)
        self._met.add(static)
        with self._compiling(), self._timed(static):
            return self.function(*arguments)

    def prepare(self, *arguments: Any) -> None:
        """Compiles for arguments of these shapes, unless the program is there already."""
        static = arguments[self._arrays :]
        if static not in self._met and static not in self._prepared:
            with self._timed(static):
                self._prepared[static] = self.function.lower(*arguments).compile()

    @contextlib.contextmanager
    def _timed(self, static: tuple) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[static] = time.perf_counter() - began

    def forget(self, needed: Callable[[Stage], bool]) -> None:
        """Drops prepared programs of stages that are not needed any more."""
        self._prepared = {k: v for k, v in self._prepared.items() if needed(k[0])}


class Precompile:
    """Runs `prepare` for a stage in a thread of its own, one stage at a time.

    An error there is only stored in `failure`: the main thread compiles the same program later, and
    meets the error again where it can be reported.
    """

    def __init__(self, prepare: Callable[[Stage], None]):
        self._prepare = prepare
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.failure: Exception | None = None

    def stopped(self) -> bool:
        """Whether the run has ended, so that what is being prepared is not needed any more."""
        return self._stopping.is_set()

    def __enter__(self) -> "Precompile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._stopping.set()
        # the interpreter must not exit while a thread compiles; but a second Ctrl-C means that the
        # run shall end at once
        if kind is None or issubclass(kind, Exception):
            self.wait()

    def begin(self, stage: Stage) -> None:
        """Starts preparing for a stage, once what is being prepared is done."""
        self.wait()
        thread = threading.Thread(target=self._run, args=(stage,), name="precompile", daemon=True)
        self._thread = thread
        thread.start()

    def _run(self, stage: Stage) -> None:
        try:
            self._prepare(stage)
        except Exception as error:
            self.failure = error

    def busy(self) -> bool:
        """Whether something is being prepared."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Blocks until nothing is being prepared."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

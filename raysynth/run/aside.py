"""A thread that works beside the main one, such as while Ray starts."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from raysynth.errors import RayLost


class Aside:
    """One thread that does its work in order; on an exception, work that has not begun is dropped.

    A signal does not wait for it.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._dropped = False
        self._thread = threading.Thread(target=self._do, daemon=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Have the thread call a function."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._work.put(call)
        return future

    def __enter__(self) -> "Aside":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._dropped = kind is not None
        self._work.put(None)
        if kind is None or not issubclass(kind, KeyboardInterrupt | RayLost):
            self._thread.join()

    def _do(self) -> None:
        while (call := self._work.get()) is not None:
            if not self._dropped:
                call()

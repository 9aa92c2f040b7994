"""Work on many items: what data generation asks for, and how one process does it. `session.spread` does it with Ray."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from raysynth.errors import InputError, WorkerError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Spread(Protocol):
    """Applies a function to every item; returns the answers in the order of the items.

    Calls `tick` with the numbers of finished items and of all items. Raises the `InputError` that the function raised,
    and `WorkerError` for any other exception. `describe` names an item.
    """

    def __call__(
        self,
        work: Callable[[Item], Answer],
        items: Iterable[Item],
        *,
        tick: Callable[[int, int], None],
        describe: Callable[[Item], str] = str,
    ) -> list[Answer]: ...


def spread_here(
    work: Callable[[Item], Answer],
    items: Iterable[Item],
    *,
    tick: Callable[[int, int], None],
    describe: Callable[[Item], str] = str,
) -> list[Answer]:
    """A `Spread` that works in this process, on one item after another."""
    items = list(items)
    answers: list[Answer] = []
    tick(0, len(items))
    for item in items:
        try:
            answers.append(work(item))
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # code of the user's may raise SystemExit
            raise WorkerError.of(error) from error
        tick(len(answers), len(items))
    return answers

"""The `raysynth` command: show a task, generate a data set."""

import argparse
import dataclasses
import itertools
import string
import sys
from collections.abc import Sequence

import numpy as np

from raysynth.errors import InputError, exit_status
from raysynth.specs import Dataset, SyntheticTask, name
from raysynth.store import State, Store
from raysynth.synthetic import Count, Length, LongestWord, synthetic_tasks


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="raysynth", description="Synthetic pre-training tasks and their data.")
    commands = parser.add_subparsers(dest="command", required=True)

    shown = commands.add_parser("show", help="print examples of a synthetic task as letters")
    shown.add_argument("task", help=f"one of {', '.join(synthetic_tasks)}")
    shown.add_argument("-n", "--num-examples", type=int, default=3)
    shown.add_argument("--seed", type=int, default=0)
    shown.add_argument("--min-length", type=int)
    shown.add_argument("--max-length", type=int)
    shown.add_argument("--num-letters", type=int, help="draw from this many tokens instead of all 31,998")

    made = commands.add_parser("generate", help="write a data set of a synthetic task as Parquet shards")
    made.add_argument("task", help=f"one of {', '.join(synthetic_tasks)}")
    made.add_argument("--num-examples", type=int, default=1_000_000)
    made.add_argument("--num-validation", type=int, default=10_000)
    made.add_argument("--min-length", type=int)
    made.add_argument("--max-length", type=int)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--store", metavar="URI", required=True)
    made.add_argument("--address", help="a running Ray cluster (default: one is started on this machine)")

    options = parser.parse_args(arguments)
    return exit_status(lambda: _command(options))


def _command(options: argparse.Namespace) -> int:
    task = _with_lengths(synthetic_tasks[options.task], options)
    if options.command == "generate":
        dataset = Dataset(
            task=task, num_examples=options.num_examples, num_validation=options.num_validation, seed=options.seed
        )
        return generate(dataset, Store(options.store), options.address)
    if options.num_letters is not None:
        tokens = dataclasses.replace(task.tokens, last=task.tokens.first + options.num_letters - 1)
        task = dataclasses.replace(task, tokens=tokens)
    print(show(task, num_examples=options.num_examples, seed=options.seed))
    return 0


def _with_lengths(task: SyntheticTask, options: argparse.Namespace) -> SyntheticTask:
    given = {"min_length": options.min_length, "max_length": options.max_length}
    return dataclasses.replace(task, **{field: value for field, value in given.items() if value is not None})


def generate(dataset: Dataset, store: Store, address: str | None) -> int:
    """Write a data set unless it is there; returns the exit status."""
    if store.status(dataset).state is State.DONE:
        print(f"nothing to do: {name(dataset)} is in {store.uri}")
        return 0
    store.check_writable()
    with store.driver() as driver:
        from raysynth.execution import execute  # Ray is imported only where something runs

        failed = execute([dataset], set(), store, driver, {}, address)
    if failed:
        print(f"error: {failed[dataset]}", file=sys.stderr)
        return 1
    record = store.status(dataset).record
    assert record is not None, "execute recorded it"
    rows = ", ".join(f"{count:,} {split}" for split, count in record["result"]["rows"].items())
    print(f"{store.uri}/{name(dataset)}: {rows}")
    return 0


def show(task: SyntheticTask, *, num_examples: int, seed: int) -> str:
    """Examples of a task with one letter per distinct token, as the appendix writes them."""
    if num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")
    sources = task.sample(np.random.default_rng([seed, 0]), num_examples)
    lines = []
    for source, target in zip(sources, task.solve(sources), strict=True):
        letters = _letters(task, source, target)
        for role, ids in (("Source", source), ("Target", target)):
            lines.append(f"{role} ({len(ids)} tokens): {letters(ids)}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _letters(task: SyntheticTask, *sequences: Sequence[int]):
    special = {task.tokens.separator: "<s>", task.tokens.word_separator: "<w>", task.tokens.empty: "<empty>"}
    names = (letter + (str(turn) if turn else "") for turn in itertools.count() for letter in string.ascii_lowercase)
    known = dict(special)
    known.update((token, next(names)) for token in dict.fromkeys(map(int, sequences[0])) if token not in special)
    answers = {task.tokens.yes: "yes", task.tokens.no: "no"}
    if isinstance(task, Length | Count | LongestWord):
        answers |= {task.tokens.number(number): str(number) for number in range(task.max_length + 1)}

    def text(ids: Sequence[int]) -> str:
        ids = [int(token) for token in ids]
        if ids != [int(token) for token in sequences[0]] and tuple(ids) in answers:
            return answers[tuple(ids)]
        return " ".join(known.get(token, f"#{token}") for token in ids)

    return text


if __name__ == "__main__":
    sys.exit(main())

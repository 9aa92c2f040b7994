"""Verbs on tasks and their data: show, generate, fetch."""

import argparse
import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysynth.cli.options import add_store, complete
from raysynth.command_line import (
    Verbs,
    add_data,
    add_in_process,
    add_verb,
    check_in_process,
    integer,
    path,
    seed,
    text,
)
from raysynth.data import show
from raysynth.data.locations import corpus_location, location, location_of_one, locations
from raysynth.downstream.fetch import fetch, publishers
from raysynth.downstream.rows import BadRows
from raysynth.downstream.splits import no_location
from raysynth.errors import InputError, printable, unknown
from raysynth.run.generate_command import is_written, write_data_set
from raysynth.specs.catalog import downstream_tasks, text_corpora
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.store.store import Store
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.catalog import synthetic_tasks

TASKS = (*synthetic_tasks, *text_corpora, *downstream_tasks)
"""The tasks that `show` and `generate` know."""

_MOST_SHOWN = 100_000
"""More examples than this are no reading."""
_LENGTHS = ("min_length", "max_length")
_AMOUNTS = ("num_examples", "num_validation", "seed")


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    _add_show(verbs)
    _add_generate(verbs)
    _add_fetch(verbs)


# -------------------------------------------------------------------------------- show


def _add_show(verbs: Verbs) -> None:
    parser = add_verb(verbs, "show", _show, "print examples of a task for reading")
    _add_task(parser)
    parser.add_argument("-n", "--num-examples", type=integer, default=3, help="number of examples (default: 3)")
    parser.add_argument("--seed", type=seed, default=0, help="another seed gives other examples (default: 0)")
    parser.add_argument("--data", metavar="PATH", type=text, help="the files of a text corpus or a downstream task")
    _add_lengths(parser)
    parser.add_argument("--num-letters", type=integer, help="draw from this many tokens instead of all 31,998")


def _show(options: argparse.Namespace) -> int:
    """Print examples of a synthetic task, a text corpus or a downstream task."""
    _check_options(options)
    count = options.num_examples
    if count > _MOST_SHOWN:
        raise InputError(f"--num-examples must be at most {_MOST_SHOWN:,}, got {count:,}")
    if options.task in synthetic_tasks:
        task = _with_letters(_with_lengths(synthetic_tasks[options.task], options), options.num_letters)
        shown = show.of_task(task, num_examples=count, seed=options.seed)
    elif options.task in text_corpora:
        place = corpus_location(options.task, location_of_one(options.task, options.data))
        shown = show.of_corpus(text_corpora[options.task], place, num_examples=count, seed=options.seed)
    else:
        dataset = downstream_tasks[options.task].data
        places = location_of_one(options.task, options.data)
        shown = show.of_texts(dataset, places, num_examples=count, seed=options.seed)
    print("\n".join(map(printable, shown.split("\n"))))
    return 0


def _with_letters(task: SyntheticTask, num_letters: int | None) -> SyntheticTask:
    """The task over its first `num_letters` tokens only."""
    if num_letters is None:
        return task
    most = task.tokens.last - task.tokens.first + 1
    if not 2 <= num_letters <= most:
        raise InputError(f"--num-letters must be from 2 to {most:,}, got {num_letters}")
    tokens = dataclasses.replace(task.tokens, last=task.tokens.first + num_letters - 1)
    return dataclasses.replace(task, tokens=tokens)


# -------------------------------------------------------------------------------- generate


def _add_generate(verbs: Verbs) -> None:
    parser = add_verb(verbs, "generate", _generate, "write the data set of a task as Parquet shards")
    _add_task(parser)
    parser.add_argument("--num-examples", type=integer, help="number of training examples (default: 1,000,000)")
    parser.add_argument(
        "--num-validation", type=integer, help="number of further validation examples (default: 10,000)"
    )
    _add_lengths(parser)
    parser.add_argument("--seed", type=seed, help="another seed gives other examples (default: 0)")
    add_store(parser)
    parser.add_argument("--address", type=text, help="a running Ray cluster (default: one is started on this machine)")
    add_in_process(parser)
    add_data(parser)


def _generate(options: argparse.Namespace) -> int:
    """Write a data set to a store; returns 1 if it cannot be made."""
    _check_options(options)
    if options.task in downstream_tasks:
        _refuse(options, _AMOUNTS, "text")  # the publisher's files decide which examples there are
    check_in_process(options)
    dataset, data, store = _data_set(options), locations(options.data), Store(options.store)
    _check_location(dataset, data)
    if is_written(dataset, store, data):
        return 0
    # These take a moment to load, which the lines above do not need.
    from raysynth.run import address
    from raysynth.run.make_data import make_data, make_data_here

    if not options.in_process:
        address.cluster(options.address)
    return write_data_set(
        dataset,
        store,
        options.address,
        data,
        BadRows.SKIP if options.skip_bad_rows else BadRows.REFUSE,
        make_data_here if options.in_process else make_data,
    )


def _check_location(dataset: Dataset | TextDataset, data: Mapping[str, str]) -> None:
    """Raise `InputError` if a data set is made from files, and neither `data` nor the environment names them."""
    if isinstance(dataset, TextDataset):
        if dataset.name in publishers and location(dataset.name, data) is None:
            raise no_location(dataset.name)
    elif isinstance(dataset.task, TextCorpus):
        corpus_location(dataset.task.name, data)


def _data_set(options: argparse.Namespace) -> Dataset | TextDataset:
    if options.task in downstream_tasks:
        return downstream_tasks[options.task].data
    task: SyntheticTask | TextCorpus
    if options.task in text_corpora:
        task = text_corpora[options.task]
    else:
        task = _with_lengths(synthetic_tasks[options.task], options)
    return Dataset(task=task, **_present(options, *_AMOUNTS))


# -------------------------------------------------------------------------------- fetch


def _add_fetch(verbs: Verbs) -> None:
    parser = add_verb(verbs, "fetch", _fetch, "download the files of a downstream task from their publisher")
    parser.add_argument("task", metavar="TASK", help=f"one of {', '.join(publishers)}")
    parser.add_argument("--into", metavar="DIR", type=path, required=True, help="the directory to download to")


def _fetch(options: argparse.Namespace) -> int:
    """Download a task's files and print how to use them; returns 1 if something has to be done by hand."""
    data_name = downstream_tasks[options.task].data.name if options.task in downstream_tasks else options.task
    publisher = publishers[data_name]
    options.into = Path(os.path.expanduser(options.into))
    print(f"{publisher.page} (licence: {publisher.licence})")
    fetch(publisher, options.into)
    if publisher.by_hand:
        print(f"by hand: {publisher.by_hand}")
    # The files of an archive are in the folder that the archive has for them.
    members = [member for download in publisher.downloads for member in download.members]
    folder = options.into / members[0].split("/")[0] if members else options.into
    print(printable(f"then: --data {data_name}={folder} or RAYSYNTH_DATA_{data_name.upper()}={folder}"))
    return 1 if publisher.by_hand else 0


# -------------------------------------------------------------------------------- helpers


def _add_task(parser: argparse.ArgumentParser) -> None:
    task = parser.add_argument("task", metavar="TASK", help=f"one of {', '.join(TASKS)}")
    complete(task, lambda **_: TASKS)


def _add_lengths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-length", type=integer, help="tokens of the shortest input (default: the paper's, 10)")
    parser.add_argument("--max-length", type=integer, help="tokens of the longest input (default: the paper's, 220)")


def _present(options: argparse.Namespace, *fields: str) -> dict[str, Any]:
    """Those of the options that are on the command line."""
    return {field: value for field in fields if (value := getattr(options, field)) is not None}


def _with_lengths(task: SyntheticTask, options: argparse.Namespace) -> SyntheticTask:
    return dataclasses.replace(task, **_present(options, "min_length", "max_length"))


def _check_options(options: argparse.Namespace) -> None:
    """Raise `InputError` for an unknown task, and for an option that its kind of task does not have."""
    if options.task in synthetic_tasks:
        task = synthetic_tasks[options.task]
        lengths = [field for field in _LENGTHS if not hasattr(task, field)]
        _refuse(options, ["data", "skip_bad_rows", *lengths], "synthetic")
    elif options.task in text_corpora:
        _refuse(options, [*_LENGTHS, "num_letters", "skip_bad_rows"], "text")
    elif options.task in downstream_tasks:
        _refuse(options, [*_LENGTHS, "num_letters"], "text")
    else:
        raise unknown("task", options.task, TASKS)


def _refuse(options: argparse.Namespace, fields: Iterable[str], kind: str) -> None:
    """Raise `InputError` if one of the options is on the command line."""
    for field in fields:
        value = getattr(options, field, None)
        if value is not None and value is not False and value != []:
            raise InputError(
                f"--{field.replace('_', '-')} does not apply to {options.task}, a {kind} task; got {value}"
            )

"""Where the files of downstream tasks and text corpora are: `--data` options and environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path

from raysynth.errors import InputError, unknown
from raysynth.specs.catalog import downstream_tasks, text_corpora


def locations(options: list[str]) -> dict[str, str]:
    """The places in options such as `squad=DIR`, by task; raises `InputError` for what is no task or not there."""
    places = {}
    for option in options:
        task, equals, path = option.partition("=")
        if not equals or not path:
            raise InputError(f"--data takes TASK=PATH, got {option!r}")
        places[task] = path
    for task, path in check_locations(places).items():
        if not Path(path).exists():
            raise InputError(f"--data {task}: {path} does not exist")
    return places


# -------------------------------------------------------------------------------- documents


def corpus_location(corpus: str, given: Mapping[str, str]) -> str:
    """Where a corpus's documents are: from `given`, else from RAYSYNTH_DATA_<NAME>; raises `InputError` for neither."""
    place = given.get(corpus) or os.environ.get(f"RAYSYNTH_DATA_{corpus.upper()}")
    if not place:
        raise InputError(
            f"{corpus} needs its documents: pass --data {corpus}=PATH or set RAYSYNTH_DATA_{corpus.upper()}"
        )
    return place


def location(data_name: str, given: Mapping[str, str]) -> str | None:
    """Where the files of a data set are: from `given`, else from RAYSYNTH_DATA_<NAME>, else None.

    The name is that of the data set or of any task on it, such as `cnndm` or `cnndm_10k`. Raises `InputError` where
    `given` has another name.
    """
    check_locations(given)
    tasks = [name for name, task in downstream_tasks.items() if task.data.name == data_name]
    names = dict.fromkeys([data_name, *tasks])
    places = [given.get(name) for name in names] + [os.environ.get(f"RAYSYNTH_DATA_{name.upper()}") for name in names]
    return next(filter(None, places), None)


def check_locations(given: Mapping[str, str]) -> dict[str, str]:
    """The same places; raises `InputError` for a name that is none of a task, a data set or a text corpus."""
    known = {*downstream_tasks, *(task.data.name for task in downstream_tasks.values()), *text_corpora}
    for name in given:
        if name not in known:
            raise unknown("task of --data", name, known)
    return dict(given)

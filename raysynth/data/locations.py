"""Where the files of downstream tasks and text corpora are, from `--data` options and environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path

from raysynth.errors import InputError, unknown
from raysynth.specs.catalog import downstream_tasks, text_corpora


def locations(options: list[str]) -> dict[str, str]:
    """The paths in options such as `squad=DIR`, by name; raises `InputError` for unknown names and missing paths."""
    paths = {}
    for option in options:
        task, equals, path = option.partition("=")
        if not equals or not path:
            raise InputError(f"--data takes TASK=PATH, got {option!r}")
        paths[task] = path
    for task, path in check_locations(paths).items():
        if not Path(path).exists():
            raise InputError(f"--data {task}: {path} does not exist")
    return paths


def corpus_location(corpus: str, data: Mapping[str, str]) -> str:
    """Where a corpus's documents are: `data`'s entry, else RAYSYNTH_DATA_<NAME>; `InputError` if neither is set."""
    path = data.get(corpus) or os.environ.get(f"RAYSYNTH_DATA_{corpus.upper()}")
    if not path:
        raise InputError(
            f"{corpus} needs its documents: pass --data {corpus}=PATH or set RAYSYNTH_DATA_{corpus.upper()}"
        )
    return path


def location(data_name: str, data: Mapping[str, str]) -> str | None:
    """Where the files of a data set are: `data`'s entry, else RAYSYNTH_DATA_<NAME>, else None.

    The name is that of the data set or of any task on it, such as `cnndm` or `cnndm_10k`. Raises `InputError` for
    unknown names in `data`.
    """
    check_locations(data)
    tasks = [name for name, task in downstream_tasks.items() if task.data.name == data_name]
    names = dict.fromkeys([data_name, *tasks])
    paths = [data.get(name) for name in names] + [os.environ.get(f"RAYSYNTH_DATA_{name.upper()}") for name in names]
    return next(filter(None, paths), None)


def check_locations(data: Mapping[str, str]) -> dict[str, str]:
    """A copy of `data`; raises `InputError` for a name that is not a downstream task, data set or text corpus."""
    known = {*downstream_tasks, *(task.data.name for task in downstream_tasks.values()), *text_corpora}
    for name in data:
        if name not in known:
            raise unknown("task of --data", name, known)
    return dict(data)

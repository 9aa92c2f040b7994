"""Where the files of downstream tasks and text corpora are, from `--data` options and environment variables."""

import os
import re
from collections.abc import Mapping, Sequence

from raysynth.downstream.files import shown
from raysynth.errors import InputError, unknown
from raysynth.specs.catalog import downstream_tasks, text_corpora


def locations(options: Sequence[str]) -> dict[str, str]:
    """The paths in options such as `squad=DIR`, by name, with `~` expanded.

    Raises `InputError` for unknown names, paths that do not exist, and two paths for one name.
    """
    paths: dict[str, str] = {}
    for option in options:
        task, equals, path = option.partition("=")
        if not equals or not task or not path.strip():
            raise InputError(f"--data takes TASK=PATH, got {option!r}")
        if task in paths:
            raise InputError(f"--data {task} is there twice: {shown(paths[task])} and {shown(path)}")
        paths[task] = _expanded(f"--data {task}", path)
    for task, path in check_locations(paths).items():
        try:
            os.stat(path)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "does not exist" if missing else f"cannot be read: {getattr(error, 'strerror', None) or error}"
            raise InputError(f"--data {task}: {shown(path)} {reason}") from None
        if task not in text_corpora and not os.path.isdir(path):
            raise InputError(f"--data {task}: {shown(path)} is not a directory")
    return paths


def location_of_one(task: str, option: str | None) -> dict[str, str]:
    """The `locations` for a verb on one task, whose option is PATH or TASK=PATH; empty without an option.

    TASK may be the task's name or that of its data set.
    """
    data_name = downstream_tasks[task].data.name if task in downstream_tasks else task
    if option is None:
        return {}
    if not option.strip():
        raise InputError(f"--data takes a path, got {option!r}")
    name, equals, _ = option.partition("=")
    is_pair = equals and (name == data_name or name in downstream_tasks or name in text_corpora)
    if is_pair and name not in (task, data_name):
        raise InputError(f"--data has the files of {name}, but {task} is to be read")
    return locations([f"{data_name}={option[len(name) + 1 :] if is_pair else option}"])


def corpus_location(corpus: str, data: Mapping[str, str]) -> str:
    """Where a corpus's documents are: `data`'s entry, else RAYSYNTH_DATA_<NAME>; `InputError` if neither is set."""
    path = data.get(corpus) or _from_environment(corpus)
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
    by_option = filter(None, map(data.get, names))
    return next(by_option, None) or next(filter(None, map(_from_environment, names)), None)


def check_locations(data: Mapping[str, str]) -> dict[str, str]:
    """A copy of `data`; raises `InputError` for a name that is not a downstream task, data set or text corpus."""
    known = {*downstream_tasks, *(task.data.name for task in downstream_tasks.values()), *text_corpora}
    for name in data:
        if name not in known:
            raise unknown("task of --data", name, known)
    return dict(data)


def _from_environment(name: str) -> str | None:
    variable = f"RAYSYNTH_DATA_{name.upper()}"
    path = os.environ.get(variable)
    return _expanded(variable, path) if path else None


def _expanded(origin: str, path: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise InputError(f"{origin}: {shown(path)} is a URI; copy the files to this machine and name their folder")
    return os.path.expanduser(path)

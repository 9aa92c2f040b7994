"""Where the files of downstream tasks and text corpora are, from `--data` options and environment variables."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from raysynth.downstream.fetch import publishers
from raysynth.downstream.files import shown
from raysynth.downstream.python_ast import PythonAST
from raysynth.downstream.splits import no_location
from raysynth.errors import InputError, unknown
from raysynth.specs.catalog import downstream_tasks, text_corpora
from raysynth.specs.datasets import Dataset, T5Vocabulary, TextCorpus, TextDataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact
from raysynth.tokens.vocabulary import t5_vocabulary_bytes


def locations(options: Sequence[str], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The paths in options such as `squad=DIR`, by name, with `~` expanded.

    `own` has further names that a sweep knows, each with the name of its data set or corpus. Raises `InputError` for
    unknown names, paths that do not exist, and two paths for one name.
    """
    own = {} if own is None else own
    paths: dict[str, str] = {}
    for option in options:
        task, equals, path = option.partition("=")
        if not equals or not task or not path.strip():
            raise InputError(f"--data takes TASK=PATH, got {option!r}")
        task = own.get(task, task)
        if task in paths:
            raise InputError(f"--data {task} is there twice: {shown(paths[task])} and {shown(path)}")
        paths[task] = _expanded(f"--data {task}", path)
    known = {*downstream_tasks, *(task.data.name for task in downstream_tasks.values()), *text_corpora}
    for task, path in paths.items():
        if task not in known.union(own.values()):
            raise unknown("task of --data", task, known.union(own))
        try:
            os.stat(path)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "does not exist" if missing else f"cannot be read: {getattr(error, 'strerror', None) or error}"
            raise InputError(f"--data {task}: {shown(path)} {reason}") from None
        if task in known.difference(text_corpora) and not os.path.isdir(path):
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
        raise InputError(f"{corpus} needs its documents: pass --data {corpus}=PATH or set {_variable(corpus)}")
    return path


def location(data_name: str, data: Mapping[str, str]) -> str | None:
    """Where the files of a data set are: `data`'s entry, else RAYSYNTH_DATA_<NAME>, else None.

    The name is that of the data set or of any task on it, such as `cnndm` or `cnndm_10k`.
    """
    tasks = [name for name, task in downstream_tasks.items() if task.data.name == data_name]
    names = dict.fromkeys([data_name, *tasks])
    by_option = filter(None, map(data.get, names))
    return next(by_option, None) or next(filter(None, map(_from_environment, names)), None)


def own_names(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """The names that `--data` takes for the data sets, tasks and corpora of a sweep, each with that of its data."""
    names: dict[str, str] = {}
    for artifact in artifacts:
        match artifact:
            case TextDataset(name=name) | Dataset(task=TextCorpus(name=name)):
                names[name] = name
            case Finetune(task=task) if task.name not in downstream_tasks:
                names.setdefault(task.name, task.data.name)
    return names


def missing_files(dataset: Dataset | TextDataset, data: Mapping[str, str]) -> list[str]:
    """What a data set that is to be made lacks on this machine, one line each: its files, T5's vocabulary."""
    missing = []
    vocabulary: object = None
    if isinstance(dataset, TextDataset):
        vocabulary = dataset.vocabulary
        if type(dataset.texts).__module__.startswith("raysynth.") and not isinstance(dataset.texts, PythonAST):
            missing += _missing_place(dataset.name, location(dataset.name, data))
    elif isinstance(dataset.task, TextCorpus):
        vocabulary = dataset.task.vocabulary
        missing += _missing_place(dataset.task.name, location(dataset.task.name, data))
    if isinstance(vocabulary, T5Vocabulary):
        try:
            t5_vocabulary_bytes()
        except InputError as error:
            missing.append(str(error))
    return missing


def _missing_place(name: str, place: str | None) -> list[str]:
    if place is None and name in publishers:
        return [str(no_location(name))]
    if place is None:
        return [f"{name} needs its files: pass --data {name}=PATH or set {_variable(name)}"]
    return [] if os.path.exists(place) else [f"{name} needs its files: {shown(place)} does not exist"]


def _from_environment(name: str) -> str | None:
    variable = _variable(name)
    path = os.environ.get(variable)
    return _expanded(variable, path) if path else None


def _variable(name: str) -> str:
    """The environment variable for the files of a task; its name has only what a shell can set."""
    return f"RAYSYNTH_DATA_{re.sub('[^A-Za-z0-9_]', '_', name).upper()}"


def _expanded(origin: str, path: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise InputError(f"{origin}: {shown(path)} is a URI; copy the files to this machine and name their folder")
    return os.path.expanduser(path)

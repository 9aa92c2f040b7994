"""Why two artifacts are not the same one."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from raysynth.errors import InputError, printable
from raysynth.report.terminal import print_table
from raysynth.specs.parameters import parse, paths, touched_by
from raysynth.store.names import full_name
from raysynth.store.records import Record
from raysynth.store.store import KINDS, Store, differences


def print_why(first: str, second: str, store: Store) -> None:
    """Print a table of the fields in which the descriptions of two finished artifacts differ, then library versions.

    Of fine-tunings whose init schemes set different parameters, a row says how many, by module. The artifacts are given
    by name, which may be cut as `full_name` says. Raises `InputError` for one that is unknown or not finished.
    """
    records = [_record(artifact, store) for artifact in (first, second)]
    descriptions = [record.description for record in records]
    versions = [record.provenance.versions for record in records]
    fields = differences(descriptions[0], descriptions[1])
    packages = [
        (f"version of {package}", versions[0].get(package, "none"), versions[1].get(package, "none"))
        for package in sorted({*versions[0], *versions[1]})
        if versions[0].get(package) != versions[1].get(package)
    ]
    for number, record in enumerate(records, start=1):
        print(printable(f"{number}: {record.artifact}"))
    touched = [_touched(description) for description in descriptions]
    parameters = [("parameters set", *touched)] if touched[0] != touched[1] else []
    if not fields:
        print("the descriptions are equal")
    if fields or packages:
        print_table(("field", "1", "2"), [*fields, *parameters, *packages])


def _touched(description: Mapping[str, Any]) -> str:
    """How many parameters the init scheme of a described fine-tuning sets, by module; "" for other artifacts."""
    if "init" not in description:
        return ""
    model, touched = touched_by(description["init"])
    counts = Counter(parse(path).module for path in touched)
    modules = ", ".join(f"{module} {count}" for module, count in counts.items())
    return f"{len(touched)} of {len(paths(model))}{f': {modules}' if modules else ''}"


def _record(artifact: str, store: Store) -> Record:
    name = full_name(artifact, store, KINDS)
    record = store.record_of(name)
    if record is None:
        raise InputError(f"{store.uri}: {name} is not finished and has no record yet")
    return record

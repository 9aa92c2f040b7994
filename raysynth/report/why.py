"""Why two artifacts are not the same one."""

from collections import Counter

from raysynth.errors import printable, unknown
from raysynth.specs.parameters import parse, paths, touched_by
from raysynth.store.records import Record
from raysynth.store.store import Store, differences


def why(first: str, second: str, store: Store) -> str:
    """One line per field in which the descriptions of two finished artifacts differ, then one per library version.

    The last lines say which parameters the init schemes of fine-tunings set.

    Raises `InputError` for a name without a record in the store.
    """
    records = [_record(artifact.strip("/"), store) for artifact in (first, second)]
    descriptions = [record.description for record in records]
    versions = [record.provenance.versions for record in records]
    lines = differences(descriptions[0], descriptions[1]) or ["the descriptions are equal"]
    lines += differences(versions[0], versions[1], "versions")
    lines += [_touched(record) for record in records if "init" in record.description]
    return "\n".join(map(printable, lines))


def _touched(record: Record) -> str:
    """How many parameters the init scheme of a fine-tuning sets, by module."""
    model, touched = touched_by(record.description["init"])
    counts = Counter(parse(path).module for path in touched)
    modules = ", ".join(f"{module} {count}" for module, count in counts.items())
    return f"{record.artifact} sets {len(touched)} of {len(paths(model))} parameters{f': {modules}' if modules else ''}"


def _record(artifact: str, store: Store) -> Record:
    record = store.record_of(artifact)
    if record is None:
        raise unknown(f"finished artifact of {store.uri}", artifact, store.names())
    return record

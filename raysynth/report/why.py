"""Why two artifacts are not the same one."""

from raysynth.errors import printable, unknown
from raysynth.store.records import Record
from raysynth.store.store import Store, differences


def why(first: str, second: str, store: Store) -> str:
    """One line per field in which the descriptions of two finished artifacts differ, then one per library version.

    Raises `InputError` for a name without a record in the store.
    """
    records = [_record(artifact.strip("/"), store) for artifact in (first, second)]
    descriptions = [record.description for record in records]
    versions = [record.provenance.versions for record in records]
    lines = differences(descriptions[0], descriptions[1]) or ["the descriptions are equal"]
    return "\n".join(map(printable, [*lines, *differences(versions[0], versions[1], "versions")]))


def _record(artifact: str, store: Store) -> Record:
    record = store.record_of(artifact)
    if record is None:
        raise unknown(f"finished artifact of {store.uri}", artifact, store.names())
    return record

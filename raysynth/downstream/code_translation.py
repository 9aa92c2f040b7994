"""CodeXGLUE's code translation: Java methods to C# (Appendix D.1)."""

from collections.abc import Iterator
from pathlib import Path

from raysynth.downstream.formats import parallel_rows
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import SOURCE_TARGET_FORMATS, FileFormat, read_splits, source_target_record
from raysynth.errors import InputError
from raysynth.fields import spec


@spec
class CodeXGLUE:
    """Java methods and their C# translations (Appendix D.1).

    Reads CodeXGLUE's files `{train,valid,test}.java-cs.txt.{java,cs}`, with one method per line; line n of the Java
    file belongs to line n of the C# file.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        formats = [FileFormat("{}.java-cs.txt.java", _methods, source_target_record), *SOURCE_TARGET_FORMATS]
        return read_splits("code_translation", location, formats, bad_row)


def _methods(file: Path) -> Iterator[Row | InputError]:
    return parallel_rows(file, suffix=".java", other_suffix=".cs")

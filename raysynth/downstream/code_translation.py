"""CodeXGLUE: Java methods to C# (Appendix D.1)."""

from functools import partial

from raysynth.downstream.rows import READY, BadRow, Form, Pair, parallel_lines, read_splits, ready_record, refuse
from raysynth.fields import spec


@spec
class CodeXGLUE:
    """Java methods with their C# translation, from CodeXGLUE's files (Appendix D.1).

    The folder holds `{train,valid,test}.java-cs.txt.{java,cs}` with one method a line; line n of one file
    pairs with line n of the other.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Pairs by split; see the module."""
        methods = partial(parallel_lines, suffix=".java", other_suffix=".cs")
        forms = [Form("{}.java-cs.txt.java", methods, ready_record), *READY]
        return read_splits("code_translation", location, forms, bad_row)

"""CodeXGLUE: broken rows and files. `test_rows.py` reads the real files."""

import pytest

from raysynth.downstream.code_translation import CodeXGLUE
from raysynth.errors import InputError

JAVA, C_SHARP = "train.java-cs.txt.java", "train.java-cs.txt.cs"


@pytest.mark.parametrize(
    ("files", "message", "num_good"),
    [
        ({JAVA: "a\n\nc\n", C_SHARP: "a\nb\nc\n"}, r"train\.java-cs\.txt\.java, line 2: empty line", 2),
        ({JAVA: "a\nb\n", C_SHARP: b"a\ntwo \xff\n"}, r"train\.java-cs\.txt\.cs, line 2: not UTF-8 at byte 5", 1),
    ],
    ids=["empty", "utf-8"],
)
def test_a_bad_row_is_one_line_or_skipped_and_counted(files, message, num_good, check_bad_row):
    check_bad_row(CodeXGLUE(), files, message, num_good=num_good)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {JAVA: "a\nb\n", C_SHARP: "a\n"},
            r"java has 2 lines and .*cs has 1: they must have the same number$",
        ),
        ({JAVA: "a\n"}, r"cs cannot be read: No such file"),
    ],
    ids=["lines", "missing"],
)
def test_files_that_do_not_match_are_one_line(files, message, write):
    with pytest.raises(InputError, match=message) as error:
        CodeXGLUE().read(write(files))
    assert "\n" not in str(error.value)

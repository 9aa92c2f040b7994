"""Fixtures of the readers' tests: files from a mapping, and the check that every bad row is one clear line."""

import pytest

from raysynth.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Writes files given by path in `tmp_path`, text as UTF-8, and returns the folder as text."""

    def write_files(files):
        for file, content in files.items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path)

    return write_files


@pytest.fixture
def check_bad_row(write):
    """Checks that files have one bad row and how many good ones: the row is one line, or it is skipped and counted."""

    def check(reader, files, message, *, num_good=1):
        folder = write(files)
        with pytest.raises(InputError, match=message) as error:
            reader.read(folder)
        assert "\n" not in str(error.value)
        skipped = []
        splits = reader.read(folder, skipped.append)
        assert [str(bad_row) for bad_row in skipped] == [str(error.value)]
        assert sum(map(len, splits.values())) == num_good

    return check

"""Local files that are written whole or not at all."""

import os
import uuid
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Replace a file's content in one step, making its directory if needed.

    The content goes to a new file beside it, which is then renamed: readers, and a run that is killed, see the old
    content or the new one. Several processes may write the same file; the last one counts.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}.aside")
    try:
        aside.write_bytes(content)
        os.replace(aside, file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise

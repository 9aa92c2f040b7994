"""Recognizing and reading a directory of weights in either format.

T5X and Hugging Face directories are described in `raysynth.weights.t5x` and `raysynth.weights.hugging_face`. Every
array read becomes float32; values stored as float32, bfloat16 or float16 are kept exactly.
"""

from enum import StrEnum
from pathlib import Path

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.weights.hugging_face import read_hugging_face
from raysynth.weights.t5x import read_t5x


class Format(StrEnum):
    """A format for a directory of weights."""

    T5X = "t5x"
    HUGGING_FACE = "hugging-face"


def detect(directory: Path) -> Format:
    """The format of a directory, recognized by its files; raises `InputError` if it is neither."""
    if (directory / "config.json").is_file():
        return Format.HUGGING_FACE
    if (directory / "checkpoint").is_file():
        return Format.T5X
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    steps = sorted(path.name for path in directory.glob("checkpoint_*") if path.is_dir())
    hint = f"; pass one of its folders {', '.join(steps)}" if steps else ""
    raise InputError(f"{directory} has neither config.json (Hugging Face) nor checkpoint (T5X){hint}")


def read(directory: Path) -> tuple[T5Config, Params]:
    """The configuration and the parameters in a directory of either format.

    Raises `InputError` for a directory of neither format, and as `read_t5x` and `read_hugging_face` do.
    """
    return read_t5x(directory) if detect(directory) is Format.T5X else read_hugging_face(directory)

"""Which format a directory of weights has."""

from enum import StrEnum
from pathlib import Path

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.weights.hugging_face import read_hugging_face
from raysynth.weights.t5x import read_t5x


class Format(StrEnum):
    """How weights lie in a directory."""

    T5X = "t5x"
    HUGGING_FACE = "hugging-face"


def detect(directory: Path) -> Format:
    """The format of a directory, told by its files; raises `InputError` where it has neither's."""
    if (directory / "config.json").is_file():
        return Format.HUGGING_FACE
    if (directory / "checkpoint").is_file():
        return Format.T5X
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    steps = sorted(entry.name for entry in directory.glob("checkpoint_*") if entry.is_dir())
    hint = f"; pass one of its folders {', '.join(steps)}" if steps else ""
    raise InputError(f"{directory} has neither config.json (Hugging Face) nor checkpoint (T5X){hint}")


def read(directory: Path) -> tuple[T5Config, Params]:
    """The shape and parameters in a directory of either format."""
    return read_t5x(directory) if detect(directory) is Format.T5X else read_hugging_face(directory)

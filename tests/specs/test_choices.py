"""Fields that hold a member of an enumeration: the texts that type checkers take for them are its values."""

from enum import StrEnum
from typing import Literal

import pytest

from raysynth import T5Config
from raysynth.fields import Choice


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_a_choice_is_its_enumeration_and_its_literals_are_the_values():
    assert Choice[Color, Literal["red", "blue"]] is Color
    assert Choice[Color | None, Literal["red", "blue"]] == Color | None
    with pytest.raises(TypeError, match="the literals of Color must be"):
        Choice[Color, Literal["red", "green"]]


def test_a_text_becomes_the_member():
    assert T5Config(dtype="float32").dtype.name == "FLOAT32"

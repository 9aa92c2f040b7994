"""Names of artifacts as people write them: whole, cut to a unique beginning, or the fingerprint alone."""

import re

from raysynth.errors import InputError, unknown
from raysynth.store.store import Store

_NUM_NAMES = 4
"""The most artifacts that a line about an ambiguous name lists."""


def full_name(text: str, store: Store) -> str:
    """The name of the one artifact with weights that a text means.

    The text is its name, such as `pretrain/set.seed0-1c575405`, or a beginning of it, with or without the kind before
    the slash, or at least four digits of its fingerprint. Raises `InputError` if no artifact or more than one fits.
    """
    text = text.strip("/")
    names = store.names()
    if text in names:
        return text
    if not names:
        raise InputError(f"{store.uri} holds no trained or imported artifacts")
    fitting = [name for name in names if text and (name.startswith(text) or name.partition("/")[2].startswith(text))]
    if re.fullmatch("[0-9a-f]{4,8}", text):
        fitting += [name for name in names if name.rpartition("-")[2].startswith(text) and name not in fitting]
    if not fitting:
        raise unknown(f"artifact of {store.uri}", text, names)
    if len(fitting) > 1:
        others = f" and {len(fitting) - _NUM_NAMES} others" if len(fitting) > _NUM_NAMES else ""
        raise InputError(
            f"{text!r} must fit one artifact of {store.uri}; it fits {', '.join(fitting[:_NUM_NAMES])}{others}"
        )
    return fitting[0]

"""Names of artifacts as people write them: whole, cut to a unique beginning, or the fingerprint alone."""

import re
from collections.abc import Iterable

from raysynth.errors import InputError, unknown
from raysynth.store.store import KINDS, WITH_WEIGHTS, Store

_HELD = {WITH_WEIGHTS: "trained or imported artifacts", ("finetune",): "fine-tunings"}
"""What messages call artifacts of these kinds."""
_NUM_NAMES = 4
"""The most artifacts that a line about an ambiguous name lists."""


def full_name(text: str, store: Store, kinds: Iterable[str] = WITH_WEIGHTS) -> str:
    """The name of the one artifact of some kinds that a text means, finished or not.

    The text is its name, such as `pretrain/set.seed0-1c575405`, or a beginning of it, with or without the kind before
    the slash, or at least four digits of its fingerprint. A whole name may be of any kind. Raises `InputError` if no
    artifact or more than one fits.
    """
    text = text.strip("/")
    names = store.names(kinds)
    if text in names or text in store.names(KINDS):
        return text
    if not names:
        raise InputError(f"{store.uri} holds no {_HELD.get(tuple(kinds), 'artifacts')}")
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

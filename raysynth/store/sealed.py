"""JSON objects that carry a checksum of themselves, so that a cut or altered file is never taken for a whole one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from raysynth.errors import InputError

_CHECKSUM = "checksum"


def seal(value: Mapping[str, Any]) -> bytes:
    """The JSON text of an object with a field `checksum`: the SHA-256 of all other fields."""
    fields = json.loads(json.dumps(value))  # as they will be read: keys are text, tuples are lists
    return json.dumps({**fields, _CHECKSUM: _checksum(fields)}, indent=1).encode()


def unseal(content: bytes, place: str) -> dict[str, Any]:
    """The object in a sealed JSON text, without its checksum.

    Raises `InputError`, which names `place`, for anything that `seal` did not write.
    """
    try:
        fields = json.loads(content.decode())
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        written = fields.pop(_CHECKSUM, None)
        computed = _checksum(fields)
        if b"\\u" in content:
            json.dumps(fields, ensure_ascii=False).encode()  # fails for half a surrogate pair, which nothing can print
    except (ValueError, RecursionError):  # not JSON, too deep, or text that cannot be encoded
        raise InputError(f"{place} is damaged: it is not a whole JSON object") from None
    if written is None:
        raise InputError(f"{place} is damaged: it lacks its checksum")
    if written != computed:
        raise InputError(f"{place} is damaged: its checksum does not match its content")
    return fields


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_to_json(fields).encode()).hexdigest()


_to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

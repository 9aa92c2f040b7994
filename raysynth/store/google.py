"""A first look at a bucket on Google Cloud, which fails within seconds where pyarrow would try for 15 minutes."""

import threading

from pyarrow import fs

from raysynth.errors import InputError, first_line

RETRY_SECONDS = 3
"""The first look is tried again this long, which is enough for a host that has credentials and a network."""
WAIT_SECONDS = 8.0
"""After this time without any answer the bucket counts as out of reach."""

_HELP = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service "
    "account; a VM on Google Cloud needs a service account with access to the bucket"
)


def check_bucket(uri: str) -> None:
    """Raise `InputError` with what to do if a bucket cannot be looked at with the credentials that pyarrow finds.

    A URI that sets `retry_limit_seconds` itself is not looked at.
    """
    if "retry_limit_seconds=" in uri:
        return
    answers: list[Exception | None] = []
    thread = threading.Thread(target=lambda: answers.append(_error(uri)), name="first look", daemon=True)
    thread.start()  # because a request that nobody answers cannot be ended
    thread.join(WAIT_SECONDS)
    if not answers:
        raise InputError(
            f"store {uri!r} does not answer within {WAIT_SECONDS:g} s; without Google credentials, {_HELP}"
        )
    if (error := answers[0]) is None:
        return
    reason = str(error)
    if "access token" in reason or "UNAUTHENTICATED" in reason:
        raise InputError(f"store {uri!r} needs Google credentials: {_HELP}") from error
    if "PERMISSION_DENIED" in reason:
        raise InputError(f"store {uri!r} refuses these Google credentials: {first_line(error):.200}") from error
    raise InputError(f"store {uri!r} cannot be reached: {first_line(error):.200}") from error


def _error(uri: str) -> Exception | None:
    """What stands in the way of a look at a store's root, or None."""
    separator = "&" if "?" in uri else "?"
    try:
        filesystem, root = fs.FileSystem.from_uri(f"{uri}{separator}retry_limit_seconds={RETRY_SECONDS}")
        filesystem.get_file_info(root)
    except OSError as error:
        return error
    return None

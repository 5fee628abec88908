"""The failures that the cache may remember: those that the clip itself causes.

As small JSON, never as pickle.
"""

from __future__ import annotations

import json

from pipeline import errors
from pipeline.errors import AudioError

_KINDS: dict[str, type[AudioError]] = {
    kind.code: kind
    for kind in (
        errors.AudioError,
        errors.UndecodableAudioError,
        errors.SilentAudioError,
        errors.ClipDurationError,
        errors.SampleRateError,
    )
}


class InputFailures:
    """A cache_store FailureCodec.

    An unusable clip stays unusable; any other failure may pass next time.
    """

    def encode(self, error: Exception) -> bytes | None:
        """The failure, or None when a retry might succeed."""
        if not isinstance(error, AudioError):
            return None
        return json.dumps({"code": error.code, "message": error.message}).encode()

    def decode(self, failure: bytes) -> Exception:
        """The failure to raise again.

        A kind that this version does not know is a plain AudioError.
        """
        fields = json.loads(failure)
        return _KINDS.get(fields["code"], AudioError)(fields["message"])

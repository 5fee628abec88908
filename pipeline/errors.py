"""Every error that timbre raises on purpose, one tree; the ingress maps it to status codes.

TimbreError
├── InputError              the caller's fault: says what was wrong and what is allowed
│   ├── AudioError          a reference clip that cannot be used
│   │   ├── UndecodableAudioError
│   │   ├── SilentAudioError
│   │   ├── ClipDurationError
│   │   └── SampleRateError
│   ├── TooLargeError       body or upload over the limit
│   ├── TextError           empty, too long, or without anything speakable
│   ├── UnknownVoiceError
│   ├── UnknownConsentError
│   ├── UnknownPronunciationError
│   ├── NameTakenError      another voice has the name
│   ├── UnknownModelError   asked for by its address
│   ├── UnknownRequestError  not among the last that ended
│   ├── UnknownEditError    no edit has this id, or what it was made of is gone
│   ├── UnknownJobError     no job has this id
│   ├── JobStateError       the job stands so that this cannot be done with it
│   ├── UnauthenticatedError    a key that does not count
│   │   └── NoKeyError      none came
│   ├── ForbiddenError      the key is not for this
│   ├── UnknownKeyError     no key has this id
│   └── UnsupportedError    a value outside the allowed list (format, edit, field)
├── CapacityError           the service is full; retry later
│   └── OverShareError      it is this caller who has more than its share of it
│       └── QuotaError      it has used what it may use for now
│           └── QuotaSpentError  and waiting a moment does not help
├── StageError              a stage failed while working; retrying may help
│   ├── StageUnavailableError   a replica died or could not be reached
│   └── StageTimeoutError       a stage did not answer in time
└── SetupError              configuration or checkpoint is wrong; start-up stops
    ├── CheckpointError     files missing, damaged, or not of the shapes the configs say
    ├── ConfigError         a setting is unknown or contradicts another
    └── DownloadError       a checkpoint could not be fetched
"""

from __future__ import annotations

from typing import Self

MAX_FOUND = 80  # characters of a caller's own that a message repeats


class TimbreError(Exception):
    """Root of the tree.

    `code` is a stable machine-readable word, `param` the request field at fault, if any.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def about(self, param: str) -> Self:
        """The same error with the request field at fault, where it did not name one.

        A new object: requests that share a computation share its error, not their field names.
        """
        return type(self)(self.message, param=self.param or param)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by value: errors cross process borders with their `param`."""
        return _rebuild, (type(self), self.message, self.param)


def _rebuild(cls: type[TimbreError], message: str, param: str | None) -> TimbreError:
    return cls(message, param=param)


class InputError(TimbreError):
    """The request cannot be served as it is."""

    code = "invalid_request"


class AudioError(InputError):
    """The reference clip cannot be used."""

    code = "invalid_audio"


class UndecodableAudioError(AudioError):
    """No decoder could read the upload."""

    code = "undecodable_audio"


class SilentAudioError(AudioError):
    """The clip holds no sound above the silence threshold."""

    code = "silent_audio"


class ClipDurationError(AudioError):
    """The clip is shorter or longer than the model accepts."""

    code = "clip_duration"


class SampleRateError(AudioError):
    """The clip's sample rate is outside what is accepted."""

    code = "sample_rate"


class TooLargeError(InputError):
    """The body or the upload exceeds its limit."""

    code = "too_large"


class TooSlowError(InputError):
    """The body did not come in time. The same request may succeed over a better connection."""

    code = "request_timeout"


class TextError(InputError):
    """The text is empty, too long, or has nothing to speak."""

    code = "invalid_text"


class UnknownVoiceError(InputError):
    """No voice has this name."""

    code = "unknown_voice"


class UnknownConsentError(InputError):
    """No consent has this id."""

    code = "unknown_consent"


class UnknownPronunciationError(InputError):
    """No pronunciation dictionary has this id."""

    code = "pronunciation_not_found"


class NameTakenError(InputError):
    """Another voice has this name."""

    code = "name_taken"


class UnknownModelError(InputError):
    """No model has this name."""

    code = "model_not_found"


class UnknownRequestError(InputError):
    """No request of this id is remembered."""

    code = "request_not_found"


class UnknownEditError(InputError):
    """No edit has this id, or what it was made of is gone."""

    code = "edit_not_found"


class UnknownJobError(InputError):
    """No job has this id, or what is asked of it is gone."""

    code = "job_not_found"


class JobStateError(InputError):
    """The job stands so that this cannot be done with it, now or ever."""

    code = "job_state"


class UnauthenticatedError(InputError):
    """An API key is needed, and what came does not count."""

    code = "invalid_api_key"


class NoKeyError(UnauthenticatedError):
    """No API key came with the request."""

    code = "missing_api_key"


class ForbiddenError(InputError):
    """Whoever asks may not do this. scope: what a key must have for it, if a key can."""

    code = "insufficient_scope"

    def __init__(self, message: str, *, param: str | None = None, scope: str = "") -> None:
        super().__init__(message, param=param)
        self.scope = scope


class UnknownKeyError(InputError):
    """No API key has this id."""

    code = "key_not_found"


class UnsupportedError(InputError):
    """A value that is not in the allowed list."""

    code = "unsupported_value"


class CapacityError(TimbreError):
    """All slots and queues are full, or the work could not be done in time.

    wait_s: predicted seconds until the same could begin. retry_after_s: when it is worth asking
    again. holds_s: how long the answer to the same question will hardly change. None: not known.
    """

    code = "overloaded"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        wait_s: float | None = None,
        retry_after_s: float | None = None,
        holds_s: float = 0.0,
    ) -> None:
        super().__init__(message, param=param)
        self.wait_s = wait_s
        self.retry_after_s = retry_after_s
        self.holds_s = holds_s

    def later(self, past_s: float) -> Self:
        """The same, told so many seconds later."""
        wait_s, after_s = self.wait_s, self.retry_after_s
        return type(self)(
            self.message,
            param=self.param,
            wait_s=None if wait_s is None else max(wait_s - past_s, 0.0),
            retry_after_s=after_s,
        )

    def __reduce__(self) -> tuple[object, ...]:
        """See the base; with the predictions, as a state that code before an update takes, too."""
        told = {name: getattr(self, name) for name in ("wait_s", "retry_after_s", "holds_s")}
        return *super().__reduce__(), told


class OverShareError(CapacityError):
    """The service is full, and this caller has its share of it or more."""

    code = "rate_limit_exceeded"


class QuotaError(OverShareError):
    """This caller has used what it may use for now, whether the service is full or not."""


class QuotaSpentError(QuotaError):
    """Nor does it help to wait a moment: the day's is used, or the store's room."""

    code = "insufficient_quota"


class StageError(TimbreError):
    """A stage failed while it worked on the request.

    `message` is for the caller; `detail`, the cause, is for logs and local tools only.
    """

    code = "stage_failed"

    def __init__(self, message: str, *, param: str | None = None, detail: str = "") -> None:
        super().__init__(message, param=param)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}: {self.detail}" if self.detail else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """See the base; includes `detail`."""
        return _rebuild_stage_error, (type(self), self.message, self.param, self.detail)


def _rebuild_stage_error(
    cls: type[StageError], message: str, param: str | None, detail: str
) -> StageError:
    return cls(message, param=param, detail=detail)


class StageUnavailableError(StageError):
    """A replica died or could not be reached."""

    code = "stage_unavailable"


class StageTimeoutError(StageError):
    """A stage did not answer within its deadline."""

    code = "stage_timeout"


class SetupError(TimbreError):
    """Start-up cannot continue."""

    code = "setup"


class CheckpointError(SetupError):
    """A checkpoint's files are missing, damaged or contradict its configs."""

    code = "checkpoint"


class ConfigError(SetupError):
    """A setting is unknown, out of range, or contradicts another."""

    code = "config"


class DownloadError(SetupError):
    """A checkpoint could not be fetched."""

    code = "download"

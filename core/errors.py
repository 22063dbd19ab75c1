"""The errors a user can cause; each message says what was got, what was expected and what to do."""


class StrataError(Exception):
    """Base of every error that is the input's fault rather than a bug: exit code 2, ``gr.Error`` in the app."""


class InputError(StrataError):
    """A setting, path or option that cannot be used as given."""


class DataError(StrataError):
    """A file whose content cannot be used: empty, truncated, not audio, NaN samples."""


class CheckpointError(StrataError):
    """A model that cannot be found, read or loaded strictly."""


class MissingPackage(StrataError):
    """An optional package that the request needs and that is not installed."""


class OutputError(StrataError):
    """A result that cannot be written: folder read-only, disk full, file already there."""

"""The errors a person is meant to read: what is wrong, where, what was expected, what to do."""


class EcholungError(Exception):
    """Base of every error that is shown without a traceback; its text is one paragraph for a person."""

    exit_code = 1


class InputError(EcholungError):
    """What was asked for cannot be done: wrong data, options or files. Exit code 2."""

    exit_code = 2


class RunError(EcholungError):
    """A run failed on the way: disk full, every video unreadable, a worker lost. Exit code 1."""


class DecodeError(InputError):
    """One video could not be read. Costs that video, never the run."""

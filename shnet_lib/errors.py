"""The error that a person can mend; its kinds stand where they are raised."""

import sys


class ShnetError(ValueError):
    """A file, a setting or an input that is not as it has to be. One line says what to do."""


def report_error(error: object) -> int:
    """Print the error in one line on stderr; returns the exit status of commands that it ends."""
    print(f"error: {error}", file=sys.stderr)
    return 2

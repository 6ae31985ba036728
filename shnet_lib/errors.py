"""The error that a person can mend; its kinds stand where they are raised."""


class ShnetError(ValueError):
    """A file, a setting or an input that is not as it has to be. One line says what to do."""

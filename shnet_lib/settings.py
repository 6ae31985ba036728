"""Settings as the typed fields of a class: pydantic checks every value by its field's type."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from shnet_lib.errors import ShnetError

# No value is converted: "1" is no number and true is no 1. But an int is a float, and where a field
# says so JSON's lists are tuples.
CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = PositiveInt
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]  # ~ is the home folder


class ConfigError(ShnetError):
    """A setting that does not exist, or a value that it cannot take."""


def setting(default: Any, says: str) -> Any:
    """A field with its default and its line in `shnet train --help`."""
    return Field(default, description=says)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def checked(prefix: str = "") -> Callable[[type], type]:
    """Makes a class a frozen dataclass that raises a ConfigError for a value that does not fit.

    `dataclasses.replace` checks too, since it makes a new one. Messages call a field
    `<prefix><name>`.
    """

    def decorate(cls: type) -> type:
        made = dataclass(frozen=True, kw_only=True, config=CHECKED)(cls)
        check = made.__init__

        @wraps(check)
        def __init__(self: Any, **values: Any) -> None:
            try:
                check(self, **values)
            except ValidationError as error:
                name = next(iter(error.errors()[0]["loc"]), "")
                raise ConfigError(first_error(error, f"{prefix}{name}", values.get(name))) from None

        made.__init__ = __init__
        return made

    return decorate


def first_error(error: ValidationError, name: str, value: Any) -> str:
    """In one line what pydantic found first: `model.grid = 0: it should be ...`."""
    first = error.errors()[0]
    if first["type"] == "value_error":  # raised by __post_init__, which names its fields itself
        return str(first["ctx"]["error"])
    says = first["msg"].replace("Input", "it").replace("Tuple", "it")
    return f"{name} = {value!r}: {says}"

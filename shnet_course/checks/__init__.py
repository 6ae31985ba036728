"""The checks of the exercises, by lesson; `check("name", answer)` in a notebook.

A lesson's checks are made known by importing its file here.
"""

from shnet_course.checks import (  # noqa: F401
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_06b,
    lesson_07,
    lesson_08,
    lesson_09,
)
from shnet_course.checks.core import EXERCISES, LESSONS, CheckFailed, check

__all__ = ["EXERCISES", "LESSONS", "CheckFailed", "check"]

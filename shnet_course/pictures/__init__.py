"""The pictures of the course: a file per lesson, what they share, and one style sheet."""

from pathlib import Path

import matplotlib.style

matplotlib.style.use(Path(__file__).with_name("course.mplstyle"))

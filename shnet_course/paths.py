"""Where the course lies."""

from pathlib import Path

COURSE = Path(__file__).parents[1]  # the checkout: notebooks/, exercises/, data/ ...

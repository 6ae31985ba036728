"""What a person might have typed for a corrected phrase; both data sets keep it as `raw`."""

import numpy as np


def as_typed(rng: np.random.Generator, text: str) -> str:
    """The phrase with a capital, a full stop or a slip now and then."""
    if rng.random() < 0.12:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.08:
        text += "."
    if rng.random() < 0.05 and len(text) > 4:  # two letters the wrong way round
        i = 1 + int(rng.integers(len(text) - 3))
        text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return text

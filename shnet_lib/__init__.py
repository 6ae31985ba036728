"""SHNet, step by step: data -> model -> training.

from shnet_lib import load_shnet, predict
"""

from importlib import import_module

# Where each public name lies. It is imported when it is first asked for, so that reading data or
# drawing RefShapes does not wait for torch.
_HOMES = {
    "Prediction": "shnet_lib.prediction",
    "load_shnet": "shnet_lib.training.checkpoint",
    "predict": "shnet_lib.prediction",
}
__all__ = ["Prediction", "load_shnet", "predict"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

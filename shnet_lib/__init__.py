"""SHNet, step by step: data -> model -> training, and what lessons need.

from shnet_lib import load_shnet, predict
"""

from pathlib import Path

from shnet_lib.prediction import Prediction, predict
from shnet_lib.training.checkpoint import load_shnet

SHIPPED_SHNET = Path(__file__).parents[1] / "data" / "weights" / "shnet_refshapes"

__all__ = ["SHIPPED_SHNET", "Prediction", "load_shnet", "predict"]

"""SHNet, step by step: data -> model -> training, and what lessons need.

from shnet_lib import load_shnet, predict
"""

from shnet_lib.prediction import Prediction, predict
from shnet_lib.training.checkpoint import load_shnet

__all__ = ["Prediction", "load_shnet", "predict"]

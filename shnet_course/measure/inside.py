"""What goes into SFM and into HCAM when a trained network answers a phrase."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shnet_lib.model.features import average_words
from shnet_lib.model.hcam import HCAM, OTHERS
from shnet_lib.prediction import Prediction, predict
from shnet_lib.training.checkpoint import TrainedSHNet
from shnet_lib.training.evaluate import evaluating


@dataclass(frozen=True)
class Inside:
    """One photo and one phrase on their way through a network; B = 1."""

    prediction: Prediction
    visual_feats: list[Tensor]  # V of levels 2, 3, 4, each (1, C, H, W): into SFM
    word_feats: Tensor  # L (1, T, C): into SFM
    word_mask: Tensor  # (1, T), all True: one phrase needs no padding
    fused_visual: list[Tensor]  # f^v of levels 2, 3, 4, each (1, C, H, W): SFM to HCAM
    fused_words: list[Tensor]  # f^l of levels 2, 3, 4, each (1, T, C): SFM to HCAM


def look_inside(
    trained: TrainedSHNet, image: str | Path | Image.Image | np.ndarray, text: str
) -> Inside:
    """Predict, and keep what passed by on the way.

    Raises:
        PredictionError: as `predict` does.
        ValueError: the network has no SFM.
    """
    network = trained.network
    if network.sfm is None:
        raise ValueError('this network has no SFM to look into: its model.sfm is "none"')
    passed: dict[str, tuple] = {}

    def keep_inputs(name: str):
        return lambda module, inputs: passed.update({name: inputs})

    handles = [
        network.sfm.register_forward_pre_hook(keep_inputs("sfm")),
        network.fusion.register_forward_pre_hook(keep_inputs("fusion")),
    ]
    try:
        prediction = predict(trained, image, text)
    finally:
        for handle in handles:
            handle.remove()
    visual_feats, word_feats, word_mask, *_ = passed["sfm"]
    fused_visual, fused_words, _ = passed["fusion"]
    return Inside(prediction, visual_feats, word_feats, word_mask, fused_visual, fused_words)


def attention_inside(
    trained: TrainedSHNet, image: str | Path | Image.Image | np.ndarray, text: str
) -> tuple[Inside, list[list[Tensor]]]:
    """`look_inside`, and SFM's attention: levels 2, 3, 4, of each its layers' (heads, N, N)."""
    inside = look_inside(trained, image, text)
    network = trained.network
    with evaluating(network), torch.inference_mode():
        _, _, attention = network.sfm(
            inside.visual_feats, inside.word_feats, inside.word_mask, return_attention=True
        )
    return inside, [[layer[0] for layer in level] for level in attention]


def affinities_inside(
    trained: TrainedSHNet, image: str | Path | Image.Image | np.ndarray, text: str
) -> dict[tuple[int, int], Tensor]:
    """HCAM's six affinities Lambda_ij (C, H, W) for a photo and a phrase, by the levels (i, j).

    Raises:
        PredictionError: as `predict` does.
        ValueError: the network has no SFM, or another fusion than HCAM.
    """
    network = trained.network
    if not isinstance(network.fusion, HCAM):
        fusion = network.config.fusion
        raise ValueError(f"only HCAM has affinities; this network's model.fusion is {fusion!r}")
    inside = look_inside(trained, image, text)
    found = {}
    with evaluating(network), torch.inference_mode():
        sentences = [average_words(words, inside.word_mask) for words in inside.fused_words]
        for i, others in OTHERS.items():
            maps = network.fusion.affinity[i](
                inside.fused_visual[i], [sentences[j] for j in others]
            )
            found |= {(i + 2, j + 2): map_[0] for j, map_ in zip(others, maps, strict=True)}
    return found

"""Our modules against vectors computed by the code the paper's authors released."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shnet_lib.model.decoder import ASPP, UpsamplingConvolution
from shnet_lib.model.fusion import GBFM, MGATE, TGFE
from shnet_lib.model.hcam import HCAM, DepthConvolution
from shnet_lib.model.sfm import ReleasedSFM, pixel_positions, word_positions

VECTORS = load_file(Path(__file__).parents[1] / "reference" / "reference_vectors.safetensors")
CHANNELS, GRID = 16, 6


def vectors(module: str) -> tuple[dict, dict]:
    """The module's arrays and its weights."""
    arrays = {k.split("/", 1)[1]: v for k, v in VECTORS.items() if k.startswith(module + "/")}
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    return arrays, weights


def load(module, weights: dict, renames: list[tuple[str, str]]):
    """Load every reference weight, renamed; nothing may be left over on either side."""
    renamed = {}
    for key, value in weights.items():
        for old, new in renames:
            if key.startswith(old):
                renamed[new + key.removeprefix(old)] = value
                break
        else:
            raise AssertionError(f"{key} was not renamed")
    incompatible = module.load_state_dict(renamed, strict=False)
    assert not incompatible.unexpected_keys
    assert all(k.endswith("num_batches_tracked") for k in incompatible.missing_keys)
    return module.eval()


def assert_same(output, expected):
    assert output.shape == expected.shape
    assert (output - expected).abs().max() < 1e-5


def split_levels(level_features):
    """(B, 3, C, H*W + T) -> f^v three (B, C, H, W), f^l three (B, T, C)."""
    pixels = GRID * GRID
    visual = [level_features[:, i, :, :pixels].unflatten(2, (GRID, GRID)) for i in range(3)]
    words = [level_features[:, i, :, pixels:].transpose(1, 2) for i in range(3)]
    return visual, words


def test_positions():
    arrays, _ = vectors("positional")
    assert_same(word_positions(5, CHANNELS), arrays["text"])
    ours = pixel_positions(GRID, GRID, CHANNELS).T.unflatten(1, (GRID, GRID))
    assert_same(ours, arrays["visual"])


def test_positions_at_the_papers_size():
    arrays, _ = vectors("positional_512")
    ours = pixel_positions(18, 18, 512).unflatten(0, (18, 18))
    assert_same(ours[-1, -1], arrays["visual_corner"])
    assert (ours.sum((0, 1)) - arrays["visual_sum_over_hw"]).abs().max() < 1e-3  # sums of 324


def test_sfm_released():
    arrays, weights = vectors("sfm_released")
    split = {}
    for key, value in weights.items():
        if "in_proj" in key:
            kind = key.rsplit("_", 1)[1]
            prefix = key.split("self_attn")[0] + "attention."
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[f"{prefix}{name}.{kind}"] = part
        else:
            key = key.replace("self_attn.out_proj", "attention.out")
            key = key.replace("norm1", "norm_1").replace("norm2", "norm_2")
            key = key.replace("linear1", "feedforward.0").replace("linear2", "feedforward.2")
            split[key] = value
    sfm = ReleasedSFM(CHANNELS, heads=8, layers=2, feedforward=32)
    load(sfm, split, [("", "")])
    joint = arrays["input"].transpose(0, 1)  # (N, B, C) -> (B, N, C)
    keep = arrays["keep_mask"].bool()
    assert not keep.all(), "the vectors should exercise padding"
    for return_attention in (False, True):
        output, _ = sfm(joint, arrays["pos"][:, 0], keep, return_attention)
        assert_same(output.transpose(0, 1), arrays["output"])


def test_hcam():
    arrays, weights = vectors("hcam")
    kernel = weights["conv_3d.0.weight"]  # (512, C, depth, 3, 3) -> (512, depth * C, 3, 3)
    weights["conv_3d.0.weight"] = kernel.transpose(1, 2).flatten(1, 2)
    hcam = HCAM(CHANNELS)
    hcam.aggregate = DepthConvolution(CHANNELS, outputs=512)
    load(
        hcam,
        weights,
        [(f"conv_{i + 1}.0", f"affinity.{i}.conv") for i in range(3)]
        + [(f"conv_{i + 1}.1", f"affinity.{i}.norm") for i in range(3)]
        + [("conv_3d.0", "aggregate.conv"), ("conv_3d.1", "aggregate.norm")],
    )
    visual, words = split_levels(arrays["level_features"])
    assert_same(hcam(visual, words, arrays["word_mask"].bool()), arrays["output"])


def test_gbfm():
    arrays, weights = vectors("gbfm")
    names = {
        "mm_conv.0": "join",
        "feature_conv.0": "meet",
        "gate_conv.0": "gate",
        "out_conv.0": "out",
    }
    gbfm = load(GBFM(CHANNELS), weights, list(names.items()))
    visual, words = split_levels(arrays["level_features"])
    assert_same(gbfm(visual, words, arrays["word_mask"].bool()), arrays["output"])


def test_tgfe():
    arrays, weights = vectors("tgfe")
    names = {
        "visual_conv": "attend_visual",
        "lang_conv": "attend_sentence",
        "joint_conv": "join",
        "visual_trans": "send",
        "lang_trans": "gate",
    }
    tgfe = load(TGFE(CHANNELS), weights, list(names.items()))
    levels = [arrays[f"feat{i}"] for i in (1, 2, 3)]
    assert_same(tgfe.exchange(levels, arrays["lang"]), arrays["output"])


def test_mgate():
    arrays, weights = vectors("mgate")
    mgate = load(
        MGATE(CHANNELS), weights, [(f"gate_cell{i + 1}.conv", f"gates.{i}") for i in range(3)]
    )
    levels = [arrays[f"feat{i}"] for i in (1, 2, 3)]
    assert_same(mgate(levels, [], torch.empty(0)), arrays["output"])


def test_aspp():
    arrays, weights = vectors("aspp")
    aspp = load(
        ASPP(CHANNELS, dropout=0.25),
        weights,
        [("convs.0", "pixel")]
        + [(f"convs.{i + 1}", f"atrous.{i}") for i in range(3)]
        + [("convs.4.1", "image.0"), ("convs.4.2", "image.1"), ("project", "project")],
    )
    assert_same(aspp(arrays["input"]), arrays["output"])


def test_conv_upsample():
    arrays, weights = vectors("conv_upsample")
    upsample = load(
        UpsamplingConvolution(CHANNELS, widths=(8, 8), dropout=0.2),
        weights,
        [("deconv.0", "steps.0"), ("deconv.2", "steps.1"), ("deconv.4.0", "logits")],
    )
    assert_same(upsample(arrays["input"]), arrays["output"])


@pytest.mark.parametrize("module", sorted({key.split("/")[0] for key in VECTORS}))
def test_every_set_of_vectors_has_its_test(module):
    source = Path(__file__).read_text()
    assert f'vectors("{module}")' in source

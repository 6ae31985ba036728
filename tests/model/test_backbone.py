"""Frozen is frozen; each checkpoint layout gives its own network's features; bad files are named.

Checkpoints are made here, by torchvision's own ResNets and by hand, in the published layouts.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from shnet_lib.model import backbone as backbone_module
from shnet_lib.model.backbone import BACKBONES, FrozenBackbone, ShapesBackbone, build_backbone
from shnet_lib.model.weights import WeightsError, fingerprint, read_checkpoint

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
OS16 = {"replace_stride_with_dilation": [False, False, True]}


def features(resnet: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Levels 2, 3 and 4 of torchvision's own network, layer by layer."""
    with torch.no_grad():
        x = resnet.eval().maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        levels = []
        for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            x = layer(x)
            levels.append(x)
    return levels[1:]


def trained(network: nn.Module) -> nn.Module:
    """BatchNorm statistics as after training: not their defaults, and all different."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def assert_same_levels(ours, expected):
    assert [level.shape for level in ours] == [level.shape for level in expected]
    for one, other in zip(ours, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


# --- frozen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shapes", "resnet18"])
def test_frozen_means_frozen(name):
    backbone = build_backbone(name, "random")
    model = nn.Sequential(backbone, nn.Identity())  # as a part of a larger model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    assert model.training and not any(part.training for part in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for level in backbone((IMAGES * 3 + 1).requires_grad_()):
        assert level.grad_fn is None and not level.requires_grad, "a graph was recorded"
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} drifted"


# --- shapes ---------------------------------------------------------------------------------------

BASIC, DEEP = (128, 256, 512), (512, 1024, 2048)


@pytest.mark.parametrize(
    ("name", "channels", "at_320", "at_448"),
    [
        ("resnet18", BASIC, (40, 20, 10), (56, 28, 14)),
        ("resnet34", BASIC, (40, 20, 10), (56, 28, 14)),
        ("resnet50", DEEP, (40, 20, 10), (56, 28, 14)),
        ("resnet101", DEEP, (40, 20, 10), (56, 28, 14)),
        ("deeplabv3plus", DEEP, (40, 20, 20), (56, 28, 28)),
    ],
)
def test_level_shapes(name, channels, at_320, at_448):
    with torch.device("meta"):  # shapes without numbers
        backbone = build_backbone(name, "random")
        assert backbone.level_channels == channels
        for size, widths in ((320, at_320), (448, at_448)):
            levels = backbone(torch.empty(2, 3, size, size))
            expected = [(2, c, w, w) for c, w in zip(channels, widths, strict=True)]
            assert [tuple(level.shape) for level in levels] == expected


def test_level_shapes_of_the_small_backbone():
    backbone = build_backbone("shapes", "random")
    levels = backbone(torch.zeros(1, 3, 128, 128))
    widths = zip(backbone.level_channels, (32, 16, 8), strict=True)
    assert [tuple(level.shape) for level in levels] == [(1, c, w, w) for c, w in widths]


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "shapes"])
def test_every_resnet_builds_with_its_own_width(name):
    with torch.device("meta"):
        assert len(build_backbone(name, "later").level_channels) == 3


def test_an_unknown_backbone_is_answered_with_the_known_ones():
    with pytest.raises(WeightsError, match="'vgg16'.*resnet101.*deeplabv3plus"):
        build_backbone("vgg16", "random")


# --- ImageNet weights -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet18():
    return trained(torchvision.models.resnet18())


@pytest.mark.parametrize("counters", [True, False], ids=["today's file", "before torch 0.4.1"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_imagenet_weights_from_a_file(tmp_path, resnet18, suffix, counters):
    """torchvision's state dict with its classifier fc.*; old files have no num_batches_tracked."""
    state = {
        key: value
        for key, value in resnet18.state_dict().items()
        if counters or not key.endswith("num_batches_tracked")
    }
    assert "fc.weight" in state
    path = tmp_path / f"resnet18{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert_same_levels(build_backbone("resnet18", str(path))(IMAGES), features(resnet18, IMAGES))


def test_imagenet_weights_from_torchvision_are_its_first(monkeypatch, resnet18):
    """What is asked of torchvision; nothing is downloaded here."""
    asked = []

    def local(weights, *args, **kwargs):
        asked.append(weights.name)
        return resnet18.state_dict()

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", local)
    assert_same_levels(build_backbone("resnet18", "imagenet")(IMAGES), features(resnet18, IMAGES))
    assert asked == ["IMAGENET1K_V1"]


def test_no_weights_are_invented():
    for name in ("resnet101", "deeplabv3plus"):
        with (
            torch.device("meta"),
            pytest.raises(WeightsError, match=f"no weights are shipped for {name}"),
        ):
            build_backbone(name, "shipped")
    with torch.device("meta"), pytest.raises(WeightsError, match="Pascal VOC, not on ImageNet"):
        build_backbone("deeplabv3plus", "imagenet")


def test_the_small_backbones_weights_are_looked_for_where_they_are_shipped(tmp_path, monkeypatch):
    weights = trained(ShapesBackbone())
    shipped = tmp_path / "shapes_backbone.safetensors"
    save_file(weights.state_dict(), shipped)
    monkeypatch.setattr(backbone_module, "SHIPPED_SHAPES_WEIGHTS", shipped)
    for source in ("shipped", str(shipped)):
        loaded = build_backbone("shapes", source)
        assert fingerprint(loaded.network) == fingerprint(weights)
    shipped.unlink()
    with pytest.raises(WeightsError, match=re.escape(str(shipped))):
        build_backbone("shapes", "shipped")


# --- DeepLabv3+ -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet101():
    return trained(torchvision.models.resnet101(**OS16))


@pytest.fixture(scope="module")
def deeplab_folder(tmp_path_factory, resnet101) -> Path:
    """One set of weights in three layouts: only the file says how it was trained."""
    folder = tmp_path_factory.mktemp("deeplab")
    state = {
        f"backbone.{key}": value
        for key, value in resnet101.state_dict().items()
        if not key.startswith("fc.")
    }
    head = torch.zeros(21, 4, 1, 1)
    torch.save(
        {
            "cur_itrs": 30000,
            "model_state": {**state, "classifier.classifier.3.weight": head},
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "best_score": np.float64(0.78),
        },
        folder / "best_deeplabv3plus_resnet101_voc_os16.pth",
    )
    torch.save(
        {
            "epoch": 45,
            "state_dict": {**state, "aspp.aspp1.atrous_conv.weight": head, "decoder.x": head},
            "best_pred": np.float64(0.78),
        },
        folder / "deeplab-resnet.pth.tar",
        _use_new_zipfile_serialization=False,  # as torch wrote in that file's days
    )
    torch.save(
        {**state, "classifier.0.weight": head, "aux_classifier.0.weight": head},
        folder / "deeplabv3_resnet101_coco.pth",
    )
    yield folder
    for path in folder.iterdir():
        path.unlink()  # 170 MB each


def dilations(backbone: FrozenBackbone) -> list:
    layers = backbone.network.layer4
    assert all(block.conv2.padding == block.conv2.dilation for block in layers)
    assert all(block.conv2.stride == (1, 1) for block in layers)
    return [block.conv2.dilation for block in layers]


def test_deeplab_layouts_give_the_features_of_the_network_they_were_trained_in(
    deeplab_folder, resnet101
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = build_backbone(
            "deeplabv3plus", str(deeplab_folder / "best_deeplabv3plus_resnet101_voc_os16.pth")
        )
        multi_grid = build_backbone("deeplabv3plus", str(deeplab_folder / "deeplab-resnet.pth.tar"))
    assert dilations(plain) == [(1, 1), (2, 2), (2, 2)]
    assert dilations(multi_grid) == [(2, 2), (4, 4), (8, 8)]
    assert fingerprint(plain) == fingerprint(multi_grid), "the same weights"

    image = IMAGES[:1]
    expected = features(resnet101, image)
    assert_same_levels(plain(image), expected)
    reference = torchvision.models.resnet101(**OS16)
    reference.load_state_dict(resnet101.state_dict())
    for block, rate in zip(reference.layer4, (2, 4, 8), strict=True):
        block.conv2 = nn.Conv2d(512, 512, 3, padding=rate, dilation=rate, bias=False)
    for block, other in zip(reference.layer4, resnet101.layer4, strict=True):
        block.conv2.weight = other.conv2.weight
    ours = multi_grid(image)
    assert_same_levels(ours, features(reference, image))
    assert torch.equal(ours[1], plain(image)[1]), "levels 2 and 3 know no multi-grid"
    assert (ours[2] - expected[2]).abs().mean() > 0.1 * expected[2].abs().mean(), "the trap"


def test_coco_weights_are_answered_with_a_warning(deeplab_folder, resnet101):
    path = deeplab_folder / "deeplabv3_resnet101_coco.pth"
    with pytest.warns(UserWarning, match="trained on COCO images.*misleading.*4.3"):
        coco = build_backbone("deeplabv3plus", str(path))
    assert dilations(coco) == [(1, 1), (2, 2), (2, 2)]
    assert fingerprint(coco.network) == fingerprint(_without_classifier(resnet101))


def _without_classifier(resnet: nn.Module) -> nn.Module:
    network = backbone_module.ResNetBackbone("resnet101", output_stride=16)
    backbone_module._load_resnet(network, resnet.state_dict(), "resnet101")
    return network


VAINF = ("backbone.x", "classifier.project.0.weight")
JFZHANG = ("backbone.x", "aspp.bn1.weight", "decoder.conv1.weight")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("wrapper", "before"),
    [("model_state", ""), ("state_dict", "module."), ("model", "model.module."), (None, "model.")],
)
@pytest.mark.parametrize(
    ("keys", "expected"), [(VAINF, [(1, 1), (2, 2), (2, 2)]), (JFZHANG, [(2, 2), (4, 4), (8, 8)])]
)
def test_a_deeplab_is_told_by_the_parts_beside_its_resnet(
    tmp_path, monkeypatch, wrapper, before, keys, expected
):
    """Neither the wrapper's name nor a prefix says which of the two networks it is."""
    taken = []
    monkeypatch.setattr(backbone_module, "_load_resnet", lambda _, state, __: taken.append(state))
    state = {before + key: torch.zeros(1) for key in keys}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "deeplab.pth")
    with torch.device("meta"), warnings.catch_warnings(action="error"):
        backbone = build_backbone("deeplabv3plus", str(tmp_path / "deeplab.pth"))
    assert dilations(backbone) == expected
    assert [list(state) for state in taken] == [["x"]]


@pytest.mark.fault
@pytest.mark.parametrize(
    "keys",
    [
        ("backbone.x",),
        ("backbone.x", "decode_head.conv_seg.weight"),
        ("backbone.x", "aspp.bn1.weight"),
        ("backbone.x", "aspp.bn1.weight", "decoder.x", "classifier.x"),
        ("encoder.x", "decoder.aspp.0.weight"),
        (),
    ],
)
def test_a_third_deeplab_is_refused_by_its_keys(tmp_path, keys):
    state = dict.fromkeys(keys, torch.zeros(1))
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "other.pth")
    begin = re.escape(str(sorted({key.split(".")[0] for key in keys})))
    known = rf"other.pth is of neither known.*classifier.*aspp.*decoder.*begin with {begin}"
    with torch.device("meta"), pytest.raises(WeightsError, match=known):
        build_backbone("deeplabv3plus", str(tmp_path / "other.pth"))


@pytest.mark.fault
def test_imagenet_weights_of_a_wrapped_network(tmp_path, resnet18):
    """DataParallel and Lightning put a word before every key."""
    for before in ("module.", "model."):
        state = {before + key: value for key, value in resnet18.state_dict().items()}
        torch.save(state, tmp_path / "resnet18.pth")
        backbone = build_backbone("resnet18", str(tmp_path / "resnet18.pth"))
        assert_same_levels(backbone(IMAGES), features(resnet18, IMAGES))


# --- files that do not fit ------------------------------------------------------------------------


def test_another_architecture_is_told_by_its_first_keys_and_shapes(tmp_path, resnet18):
    path = tmp_path / "resnet18.pth"
    torch.save(resnet18.state_dict(), path)
    with pytest.raises(WeightsError) as caught:
        build_backbone("resnet50", str(path))
    message = str(caught.value)
    assert str(path) in message and "ResNetBackbone" in message
    assert "layer1.0.conv3.weight" in message, "the first key that is missing"
    assert "layer1.0.conv1.weight is (64, 64, 3, 3), expected (64, 64, 1, 1)" in message

    deeper = resnet18.state_dict() | {"layer5.weight": torch.zeros(1)}
    torch.save(deeper, path)
    with pytest.raises(WeightsError, match=r"0 keys missing.*1 unknown \(first \['layer5.weight'"):
        build_backbone("resnet18", str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path, value):
    state = ShapesBackbone().state_dict()
    state["layer3.1.bn2.weight"][5] = value
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(WeightsError, match=r"damaged.safetensors.*layer3.1.bn2.weight holds NaN"):
        build_backbone("shapes", str(tmp_path / "damaged.safetensors"))


@pytest.mark.parametrize("name", ["shapes", "resnet18", "deeplabv3plus"])
def test_a_missing_file_is_told_with_where_it_was_looked_for(tmp_path, name):
    path = tmp_path / "absent.pth"
    told = re.escape(str(path)) + ".*change backbone_weights"
    with torch.device("meta"), pytest.raises(WeightsError, match=told):
        build_backbone(name, str(path))


class Hostile:
    """Unpickling this makes a file: the harmless stand-in for any command."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def _pickle(value, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [torch.save, _pickle])
def test_a_hostile_file_is_refused_and_not_run(tmp_path, write):
    path, victim = tmp_path / "hostile.pth", tmp_path / "victim"
    write({"state_dict": {"conv1.weight": Hostile(victim)}}, path)
    with pytest.raises(WeightsError, match=r"hostile.pth was not opened.*run code.*mkdir"):
        build_backbone("resnet18", str(path))
    assert not victim.exists()
    torch.load(io.BytesIO(_torch_file(Hostile(victim))), weights_only=False)
    assert victim.is_dir(), "opened carelessly, it does run"


def _torch_file(value, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@given(share=st.floats(0, 0.999))
@settings(max_examples=30, deadline=None)
def test_a_file_cut_short_anywhere_is_called_damaged(tmp_path_factory, zipped, share):
    whole = _torch_file({"weight": torch.zeros(50)}, _use_new_zipfile_serialization=zipped)
    path = tmp_path_factory.getbasetemp() / "cut.pth"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match="cut.pth .*damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello world", b"<html>404</html>", b"PK\3\4", b"\x80"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_called_so(tmp_path, content, suffix):
    path = tmp_path / f"page{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"page{suffix} is damaged or no file of weights"):
        read_checkpoint(path)


def test_a_safetensors_file_cut_short_is_called_damaged(tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(ShapesBackbone().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="cut.safetensors is damaged"):
        build_backbone("shapes", str(path))


@pytest.mark.parametrize("value", [[torch.zeros(1)], torch.zeros(1)])
def test_tensors_without_names_are_refused(tmp_path, value):
    path = tmp_path / "unnamed.pth"
    torch.save(value, path)
    with pytest.raises(WeightsError, match=f"unnamed.pth holds a {type(value).__name__}"):
        read_checkpoint(path)


@pytest.mark.parametrize("scalar", [np.float64(0.7), np.float32(0.5), np.int64(3)])
def test_numbers_of_numpy_are_harmless_in_files_of_before_and_after_numpy_2(tmp_path, scalar):
    """The published checkpoints are older than numpy 2, which moved the constructor of a scalar."""
    today = _torch_file({"best_score": scalar, "weight": torch.arange(3)})
    (tmp_path / "today.pth").write_bytes(today)
    with (
        zipfile.ZipFile(io.BytesIO(today)) as source,
        zipfile.ZipFile(tmp_path / "old.pth", "w") as target,
    ):
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\n" in content
                content = content.replace(b"cnumpy._core.multi", b"cnumpy.core.multi")
            target.writestr(entry.filename, content)
    for name in ("today.pth", "old.pth"):
        checkpoint = read_checkpoint(tmp_path / name)
        assert checkpoint["best_score"] == scalar
        assert checkpoint["weight"].tolist() == [0, 1, 2]


# --- fingerprint ----------------------------------------------------------------------------------


def test_a_fingerprint_tells_every_weight_and_every_statistic():
    network = ShapesBackbone()
    original = fingerprint(network)
    assert fingerprint(network.train()) == original
    assert fingerprint(ShapesBackbone()) != original
    for key in ("stem.0.weight", "layer4.1.bn2.running_var"):
        value = network.state_dict()[key].view(-1)
        value[-1] += 1e-3
        assert fingerprint(network) != original
        value[-1] -= 1e-3

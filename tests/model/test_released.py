"""Ours against the released network whole: logits, running statistics and every gradient.

The same weights, float64, dropout 0. Positions are float32 in ours, hence 1e-6.
"""

import copy
import inspect
import textwrap
from dataclasses import replace

import literal
import pytest
import torch
from released import released
from torch import Tensor, nn
from torch.nn import functional as F

from shnet_course.measure.trace import PAPER_WORDS, count_parameters
from shnet_lib.model import hcam
from shnet_lib.model.decoder import ASPP, ConvolveDoubled
from shnet_lib.model.hcam import HCAM, Affinity
from shnet_lib.model.sfm import SFM, EncoderLayer, MultiHeadAttention, ReleasedSFM
from shnet_lib.model.shnet import PAPER, ModelConfig, SHNet

DROPOUTS = ("sfm_dropout", "affinity_dropout", "aspp_dropout", "decoder_dropout")
SMALL = ModelConfig(
    image_size=40,
    grid=7,  # wide enough for ASPP's rate 6 to reach inside
    channels=8,
    heads=2,
    sfm_feedforward=12,
    backbone="shapes",
    backbone_weights="random",
    decoder_widths=(8, 6, 7, 5),
    **dict.fromkeys(DROPOUTS, 0.0),
)
VOCABULARY = 12
EQUAL = (0, 0, 1, 1, 2, 2)  # two expressions on each image


def build(training: bool = False, **changes: object) -> SHNet:
    torch.manual_seed(0)
    network = SHNet(replace(SMALL, **changes), VOCABULARY, torch.randn(VOCABULARY, 8))
    return literal.randomised(network).train(training)


def make_batch(image_index: tuple[int, ...] = EQUAL, lengths: tuple[int, ...] = ()) -> dict:
    """Expressions of several lengths on these images; `target` covers a third of each mask."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(lengths or [1 + 3 * i % 5 for i in range(len(image_index))])
    word_mask = torch.arange(int(lengths.max())) < lengths[:, None]
    words = torch.randint(1, VOCABULARY, word_mask.shape, generator=generator) * word_mask
    images = torch.randn(max(image_index) + 1, 3, 40, 40, generator=generator).double()
    target = (torch.rand(len(lengths), 40, 40, generator=generator) < 0.33).double()
    image_index = torch.tensor(image_index)
    return dict(
        images=images, image_index=image_index, words=words, word_mask=word_mask, target=target
    )


def both(network: SHNet, batch: dict) -> tuple[dict, dict]:
    """All that a step makes, in our network and in the released one with the same weights."""
    other = copy.deepcopy(network)
    levels = network.backbone(batch["images"])
    ours = made_by(network, network(batch), batch)
    return ours, made_by(other, released(levels, batch, other), batch)


def made_by(network: SHNet, logits: Tensor, batch: dict) -> dict:
    """The logits; in training mode also the gradients and running statistics, by their names."""
    made = {"logits": logits.detach()}
    if network.training:
        F.binary_cross_entropy_with_logits(logits, batch["target"]).backward()
        made |= {f"gradient {n}": p.grad for n, p in network.named_parameters() if p.requires_grad}
        made |= {n: b for n, b in network.named_buffers() if "running" in n}
    return made


def differing(ours: dict, theirs: dict, tolerance: float = 1e-6) -> dict[str, float]:
    """What is not the same, and by how much."""
    assert ours.keys() == theirs.keys()
    gaps = {name: (ours[name] - theirs[name]).abs().max().item() for name in ours}
    return {name: gap for name, gap in gaps.items() if not gap < tolerance}


def counted_for_each_expression(ours: dict, before: dict, batch: dict) -> dict:
    """Our running statistics as they were if the projections had seen each image repeatedly.

    A batch's variance does not change when everything in it is there k times. But the running one
    takes n / (n - 1) of it, and n is k times larger.
    """
    expressions, images = len(batch["image_index"]), len(batch["images"])
    cells = SMALL.grid**2
    once, often = images * cells, expressions * cells
    corrected = dict(ours)
    for i in range(3):
        name = f"projections.{i}.norm.running_var"
        if name not in ours:  # a layer that a test took out
            continue
        old = 0.9 * before[name]
        corrected[name] = old + (ours[name] - old) * (once - 1) / once * often / (often - 1)
    return corrected


# --- equal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1, 1), (3, 1, 5, 2, 4, 3), (25, 2, 9, 1, 25, 7)])
@pytest.mark.parametrize("image_index", [EQUAL, (0, 1, 1, 1, 2, 0)])
def test_in_evaluation_mode_the_logits_are_the_released_ones(lengths, image_index):
    with torch.no_grad():
        ours, theirs = both(build(), make_batch(image_index, lengths))
    assert ours["logits"].std() > 0.01, "there is something to compare"
    assert differing(ours, theirs) == {}


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1, 1), (3, 1, 5, 2, 4, 3), (25, 2, 9, 1, 25, 7)])
@pytest.mark.parametrize("image_index", [(0, 1, 2, 3, 4, 5), EQUAL, (1, 0, 0, 1, 1, 0)])
def test_a_step_of_training_is_the_released_one(lengths, image_index):
    """Logits, the gradient of every parameter, the running statistics of every BatchNorm."""
    network, batch = build(training=True), make_batch(image_index, lengths)
    before = copy.deepcopy(dict(network.named_buffers()))
    ours, theirs = both(network, batch)
    assert sum(name.startswith("gradient") for name in ours) == len(
        [p for p in network.parameters() if p.requires_grad]
    )
    assert differing(counted_for_each_expression(ours, before, batch), theirs) == {}


def test_with_unequal_numbers_of_expressions_sharing_the_projections_changes_the_statistics():
    """An image of three expressions counts once in ours and three times in the released code.

    That is the price of projecting each image once. In evaluation mode nothing changes.
    """
    batch = make_batch((0, 0, 0, 1), (3, 1, 5, 2))
    ours, theirs = both(build(training=True), batch)
    assert {"logits", "projections.0.norm.running_mean"} <= set(differing(ours, theirs, 1e-3))
    repeated = batch | {
        "images": batch["images"][batch["image_index"]],
        "image_index": torch.arange(4),
    }
    assert differing(*both(build(training=True), repeated)) == {}


# --- one layer out --------------------------------------------------------------------------------


class NoLSTM(nn.Module):
    def forward(self, vectors):
        return vectors, None


def layers() -> list[str]:
    """Everything in the network that has no parts and is no dropout."""
    return [
        name
        for name, module in build().named_modules()
        if not list(module.children())
        and not isinstance(module, (nn.Dropout, nn.Dropout2d))
        and not name.startswith("backbone.")
    ]


def take_out(network: SHNet, name: str) -> None:
    """What comes in goes on: a kernel becomes the identity, another layer is not there."""
    layer = network.get_submodule(name)
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        (nn.init.dirac_ if isinstance(layer, nn.Conv2d) else nn.init.eye_)(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Embedding):
        nn.init.zeros_(layer.weight)  # no word says anything
    else:
        without = nn.Identity()
        if isinstance(layer, nn.LSTM):
            without = NoLSTM()
        elif isinstance(layer, nn.AdaptiveMaxPool2d):
            without = nn.Upsample(layer.output_size)  # the size it needs, by the nearest cell
        network.set_submodule(name, without)


@pytest.fixture(scope="module")
def step() -> tuple[dict, dict, dict]:
    """A batch, the running statistics before it, and what the released network makes of it."""
    network, batch = build(training=True), make_batch(lengths=(3, 1, 5, 2, 4, 3))
    before = copy.deepcopy(dict(network.named_buffers()))
    return batch, before, both(network, batch)[1]


@pytest.mark.parametrize("name", [None, *layers()])
def test_one_layer_out_is_seen(name, step):
    batch, before, theirs = step
    network = build(training=True)
    if name:
        take_out(network, name)
    ours = counted_for_each_expression(made_by(network, network(batch), batch), before, batch)
    common = {key for key in ours.keys() & theirs.keys() if ours[key] is not None}
    found = differing({k: ours[k] for k in common}, {k: theirs[k] for k in common})
    assert bool(found) == bool(name)


# What is no layer of its own: where it stands, what it is and what is there without it.
WITHOUT = {
    "the activation after the fusion": (SHNet, "forward", "F.leaky_relu(context)", "context"),
    "aligned corners": (SHNet, "forward", "align_corners=self.as_released", "align_corners=False"),
    "aligned corners in the decoder": (
        inspect.getmodule(ConvolveDoubled),
        "doubling",
        "align_corners=True",
        "align_corners=False",
    ),
    "the sigmoid of HCAM": (Affinity, "forward", ".sigmoid()", ""),
    "a level itself in HCAM": (HCAM, "forward", "visual[i] + sum(gathered)", "sum(gathered)"),
    "the mask of the average": (
        hcam,
        "average_words",
        "word_mask.unsqueeze(-1)",
        "(word_mask | True).unsqueeze(-1)",
    ),
    "the image's average": (
        ASPP,
        "forward",
        "views = [self.pixel",
        "image = 0 * image; views = [self.pixel",
    ),
    "the residual of attention": (
        EncoderLayer,
        "forward",
        "x + self.dropout(mixed)",
        "self.dropout(mixed)",
    ),
    "the residual of the feed-forward": (EncoderLayer, "forward", "return x + self", "return self"),
    "positions": (EncoderLayer, "forward", "normed + positions", "normed"),
    "one layer of SFM": (ReleasedSFM, "forward", "in self.layers", "in self.layers[:1]"),
    "the mask of attention": (MultiHeadAttention, "forward", "value, mask", "value, None"),
    "the words in SFM": (
        SFM,
        "forward",
        "flatten(2).transpose(1, 2), word_feats)",
        "flatten(2).transpose(1, 2), 0 * word_feats)",
    ),
}


def mutate(monkeypatch, owner, name: str, old: str, new: str) -> None:
    """Compile a function of the library anew with one piece of its text replaced."""
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
    scope: dict = {}
    exec(source.replace(old, new), function.__globals__, scope)
    monkeypatch.setattr(owner, name, scope[name])


@pytest.mark.parametrize("what", WITHOUT)
def test_one_step_out_is_seen(what, monkeypatch, step):
    batch, _, theirs = step
    mutate(monkeypatch, *WITHOUT[what])
    with torch.no_grad():
        logits = build(training=True)(batch)
    assert differing({"logits": logits}, {"logits": theirs["logits"]})


# --- dropout --------------------------------------------------------------------------------------

# Where FACTS says that the released code drops something, by the setting that says how much.
PLACES = {
    "sfm_dropout": {
        f"sfm.blocks.0.layers.{layer}.{place}"
        for layer in (0, 1)
        for place in ("attention", "feedforward.1.1", "dropout")
    },
    "affinity_dropout": {f"fusion.affinity.{i}.dropout" for i in range(3)},
    "aspp_dropout": {"aspp.project.3"},
    "decoder_dropout": {f"upsample.steps.{i}.2" for i in range(3)},  # not after the fourth
}


def rates(network: SHNet) -> dict[str, float]:
    """Where the network drops something, and how much."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, MultiHeadAttention):
            found[name] = module.dropout
        elif isinstance(module, (nn.Dropout, nn.Dropout2d)):
            found[name] = module.p
    return {name: rate for name, rate in found.items() if rate}


@pytest.mark.parametrize("setting", DROPOUTS)
def test_a_dropout_is_where_the_released_code_has_it_and_only_in_training(setting):
    plain, dropping = build(), build(**{setting: 0.5})
    assert rates(plain) == {}
    assert rates(dropping) == dict.fromkeys(PLACES[setting], 0.5)
    batch = make_batch()
    with torch.no_grad():
        expected = plain(batch)
        assert torch.equal(dropping(batch), expected)
        with_dropout, without = dropping.train()(batch), plain.train()(batch)
    assert (with_dropout - without).abs().max() > 1e-2


@pytest.mark.parametrize("place", sorted(set().union(*PLACES.values())))
def test_every_place_of_dropout_takes_something_away(place):
    network, batch = build(training=True), make_batch()
    module = network.get_submodule(place)
    setattr(module, "dropout" if isinstance(module, MultiHeadAttention) else "p", 0.5)
    assert set(rates(network)) == {place}
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            made.append(network(batch))
    assert torch.equal(made[0], made[1])
    assert (made[0] - made[2]).abs().max() > 1e-3


def test_the_papers_network_has_the_rates_of_the_released_codes_command():
    with torch.device("meta"):
        config = replace(PAPER, backbone_weights="random")
        network = SHNet(config, 3, torch.empty(3, 300))
    expected = {"sfm_dropout": 0.2, "affinity_dropout": 0.2, "decoder_dropout": 0.2}
    expected |= {"aspp_dropout": 0.25}
    assert rates(network) == {
        place: rate for setting, rate in expected.items() for place in PLACES[setting]
    }


def test_the_printed_form_is_eqs_1_to_3_alone():
    config = replace(SMALL, sfm="printed", affinity_dropout=0.5)
    network = SHNet(config, VOCABULARY, torch.randn(VOCABULARY, 8)).train()
    assert rates(network) == {}
    assert {type(part) for part in network.sfm.modules()} == {
        SFM,
        nn.ModuleList,
        type(network.sfm.blocks[0]),
        nn.LayerNorm,
        MultiHeadAttention,
        nn.Linear,
    }
    # No activation: what the fusion gives is what ASPP gets.
    seen = {}
    network.fusion.register_forward_hook(lambda _, __, out: seen.update(fused=out))
    network.aspp.register_forward_pre_hook(lambda _, given: seen.update(context=given[0]))
    network(make_batch() | {"images": make_batch()["images"].float()})
    assert torch.equal(seen["context"], seen["fused"]) and (seen["fused"] < 0).any()


# --- size -----------------------------------------------------------------------------------------


def test_the_papers_network_has_the_released_codes_parameters_and_what_ours_has_besides():
    """59,241,217 as the released code runs by its README. Ours also trains the word vectors, and a
    bias before each BatchNorm of the decoder, which has no say: the BatchNorm takes it away."""
    *parts, (_, trained, _) = count_parameters(PAPER, PAPER_WORDS)
    released_code, word_vectors, biases = 59_241_217, PAPER_WORDS * 300, 512 + 512 + 512 + 256
    assert trained == released_code + word_vectors + biases
    wider = count_parameters(replace(PAPER, sfm_feedforward=512), PAPER_WORDS)[-1][1]
    assert wider - word_vectors - biases == 59_766_017

"""Figure 2 as a whole: wiring, what must change nothing, the rows of the tables, the settings."""

from __future__ import annotations

from dataclasses import replace

import literal
import pytest
import torch
from torch.nn import functional as F

from shnet_course.measure.trace import PAPER_WORDS, count_parameters
from shnet_lib.model import TABLE_2, TABLE_4, ModelConfig, SHNet
from shnet_lib.model.shnet import PAPER

TINY = ModelConfig(
    image_size=32,
    grid=4,
    channels=16,
    heads=4,
    backbone="shapes",
    backbone_weights="random",
    sfm_feedforward=12,
    word_vectors="onehot",
    decoder_widths=(16, 8),
    sfm_dropout=0.0,
    affinity_dropout=0.0,
    aspp_dropout=0.0,
    decoder_dropout=0.0,
)
VOCABULARY = 12
ROWS = [
    *(pytest.param(row, id=f"table 2, {name}") for name, row in TABLE_2.items()),
    *(pytest.param(row, id=f"table 4, {name}") for name, row in TABLE_4.items()),
]


def build(config: ModelConfig = TINY, seed: int = 0) -> SHNet:
    """A network whose every parameter matters: none at its default."""
    torch.manual_seed(seed)
    vectors = torch.randn(VOCABULARY, 6)
    network = SHNet(config, VOCABULARY, vectors if config.word_vectors == "glove" else None)
    if config.word_vectors == "glove":
        return literal.randomised(network, seed).float()
    embedding = network.word_encoder.embedding.weight.clone()
    network = literal.randomised(network, seed).float()
    network.word_encoder.embedding.weight.data.copy_(embedding)
    return network


def make_batch(lengths=(3, 1, 5, 2), image_index=(0, 1, 1, 2), padded_to=None, seed=0) -> dict:
    """Expressions of these lengths on these images; padding is word 0, as the data gives it."""
    generator = torch.Generator().manual_seed(seed)
    padded_to = padded_to or max(lengths)
    words = torch.zeros(len(lengths), padded_to, dtype=torch.long)
    for row, length in enumerate(lengths):
        words[row, :length] = torch.randint(1, VOCABULARY, (length,), generator=generator)
    return {
        "images": torch.randn(max(image_index) + 1, 3, 32, 32, generator=generator),
        "image_index": torch.tensor(image_index),
        "words": words,
        "word_mask": torch.arange(padded_to) < torch.tensor(lengths)[:, None],
    }


@torch.no_grad()
def logits(network: SHNet, batch: dict) -> torch.Tensor:
    return network(batch)


def assert_same(one, other, tolerance=1e-5):
    assert one.shape == other.shape
    assert (one - other).abs().max() < tolerance


# --- the wiring -----------------------------------------------------------------------------------

VARIANTS = {
    "SHNet": {},
    "one layer": {"sfm_layers": 1},
    "a SFM a level": {"share_sfm": False},
    "printed": {"sfm": "printed"},
    "printed, a SFM a level": {"sfm": "printed", "share_sfm": False},
    "without positions": {"positions": False},
    "baseline": TABLE_2["baseline"],
    "only HCAM": TABLE_2["only HCAM"],
    "only SFM": TABLE_2["only SFM"],
    "GBFM": TABLE_4["GBFM"],
    "three decoder widths": {"decoder_widths": (8, 6, 4)},
    "GloVe": {"word_vectors": "glove"},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_whole_network_against_loops(changes):
    """Every step of Figure 2 from the frozen levels on, one expression an image."""
    config = replace(TINY, image_size=20, grid=3, channels=8, heads=2, **changes)
    network = build(config).double()
    batch = make_batch(lengths=(2, 4), image_index=(0, 1))
    levels = [level.double() for level in network.backbone(batch["images"].double())]
    with torch.no_grad():
        expected = literal.shnet(levels, batch["words"], batch["word_mask"], network)
        ours = network({**batch, "levels": levels})
    assert ours.shape == (2, 20, 20)
    assert expected.std() > 1e-2, "there is something to compare"
    assert_same(ours, expected)  # positions are float32: not to 1e-10


@pytest.mark.parametrize("image_size", [32, 40, 64])
def test_logits_have_the_networks_input_size(image_size):
    network = build(replace(TINY, image_size=image_size))
    assert logits(network, make_batch()).shape == (4, image_size, image_size)


# --- what must change nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("changes", ROWS)
@pytest.mark.parametrize("sfm", ["printed", "released"])
def test_the_length_of_the_padding_changes_nothing(changes, sfm):
    network = build(replace(TINY, **{"sfm": sfm, **changes}))
    expected = logits(network, make_batch())
    for padded_to in (6, 25):
        assert_same(logits(network, make_batch(padded_to=padded_to)), expected)
    rubbish = make_batch(padded_to=25)
    rubbish["words"][~rubbish["word_mask"]] = 7
    assert_same(logits(network, rubbish), expected)


def test_but_every_real_word_and_the_image_do():
    network = build()
    batch = make_batch()
    before = logits(network, batch)
    for place in range(5):  # the third expression has five words
        words = batch["words"].clone()
        words[2, place] = words[2, place] % (VOCABULARY - 1) + 1
        moved = (logits(network, {**batch, "words": words}) - before).abs().amax((1, 2))
        assert moved[2] > 1e-3 and moved[[0, 1, 3]].max() < 1e-5
    images = batch["images"].clone()
    images[1] *= -1
    moved = (logits(network, {**batch, "images": images}) - before).abs().amax((1, 2))
    assert moved[[1, 2]].min() > 1e-3 and moved[[0, 3]].max() < 1e-5


def test_the_order_of_expressions_changes_nothing():
    network, batch = build(), make_batch()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = {name: value[order] for name, value in batch.items() if name != "images"}
    ours = logits(network, {**shuffled, "images": batch["images"]})
    assert_same(ours, logits(network, batch)[order])


def test_the_order_of_images_changes_nothing():
    network, batch = build(), make_batch()
    order = torch.tensor([2, 0, 1])
    place = order.argsort()[batch["image_index"]]
    shuffled = {**batch, "images": batch["images"][order], "image_index": place}
    assert_same(logits(network, shuffled), logits(network, batch))


def test_an_image_shared_by_expressions_is_the_image_repeated():
    network, batch = build(), make_batch(lengths=(3, 1, 5, 2, 4), image_index=(0, 1, 0, 0, 1))
    repeated = {
        **batch,
        "images": batch["images"][batch["image_index"]],
        "image_index": torch.arange(5),
    }
    assert_same(logits(network, batch), logits(network, repeated))


def test_a_batch_of_one_expression_is_its_row_of_a_larger_batch():
    network, batch = build(), make_batch()
    together = logits(network, batch)
    for row in range(4):
        alone = {
            "images": batch["images"][batch["image_index"][row]][None],
            "image_index": torch.tensor([0]),
            "words": batch["words"][row][batch["word_mask"][row]][None],
            "word_mask": torch.ones(1, int(batch["word_mask"][row].sum()), dtype=torch.bool),
        }
        assert_same(logits(network, alone)[0], together[row])


def test_frozen_levels_stand_in_for_the_images():
    network, batch = build(), make_batch()
    levels = network.backbone(batch["images"])
    without_images = {name: value for name, value in batch.items() if name != "images"}
    ours = logits(network, {**without_images, "levels": levels})
    assert torch.equal(ours, logits(network, batch))


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sfm", "layers"), [("printed", 1), ("released", 2)])
@pytest.mark.parametrize("share_sfm", [True, False])
def test_attention_is_returned_for_figure_7(sfm, layers, share_sfm):
    network = build(replace(TINY, sfm=sfm, share_sfm=share_sfm))
    batch = make_batch(padded_to=7)
    with torch.no_grad():
        mask_logits, attention = network(batch, return_attention=True)
    assert_same(mask_logits, logits(network, batch))
    assert [len(level) for level in attention] == [layers] * 3
    keep = torch.cat((torch.ones(4, 16, dtype=torch.bool), batch["word_mask"]), dim=1)
    for weights in (weights for level in attention for weights in level):
        assert weights.shape == (4, 4, 23, 23)  # (B, heads, N, N), N = 16 pixels + 7 words
        assert_same(weights.sum(-1), torch.ones(4, 4, 23))
        assert (weights[~keep[:, None, None].expand_as(weights)] == 0).all()
        assert (weights >= 0).all() and weights.std() > 1e-3


def test_without_sfm_there_is_no_attention_to_return():
    network = build(replace(TINY, sfm="none"))
    mask_logits, attention = network(make_batch(), return_attention=True)
    assert attention == []
    assert_same(mask_logits, logits(network, make_batch()))


# --- the rows of Tables 2 and 4 -------------------------------------------------------------------


def test_table_2_is_the_papers():
    """Rows in the paper's order; each says only what it changes in SHNet's defaults."""
    rows = {name: ModelConfig(**row) for name, row in TABLE_2.items()}
    summary = {
        name: (row.sfm, row.fusion, row.word_vectors, row.positions) for name, row in rows.items()
    }
    assert list(summary.items()) == [
        ("baseline", ("none", "none", "glove", True)),
        ("only HCAM", ("none", "hcam", "glove", True)),
        ("only SFM", ("released", "none", "glove", True)),
        ("SFM+ConvLSTM", ("released", "convlstm", "glove", True)),
        ("SFM+Conv3D", ("released", "conv3d", "glove", True)),
        ("SHNet w/o GloVe", ("released", "hcam", "onehot", True)),
        ("SHNet w/o P.E.", ("released", "hcam", "glove", False)),
        ("SHNet", ("released", "hcam", "glove", True)),
    ]
    fusions = {name: ModelConfig(**row).fusion for name, row in TABLE_4.items()}
    assert fusions == {"MGATE": "mgate", "TGFE": "tgfe", "GBFM": "gbfm", "HCAM": "hcam"}
    assert all(set(row) <= {"fusion"} for row in TABLE_4.values())


def has_no_say(name: str, config: ModelConfig) -> bool:
    """Parameters whose gradient is zero by construction, in training mode.

    - The bias of attention's keys: it adds q . b to every score of a query, and softmax does not
      see what all scores share.
    - A bias straight before a BatchNorm: the batch's mean is taken away, and the bias with it.
    - "Only SFM": what SFM adds to all its outputs alike reaches a BatchNorm through nothing but a
      1 x 1 convolution. That is its last bias, and in Eq. 1 the bias of the values too (a query's
      weights sum to 1).
    """
    if name.endswith("attention.key.bias"):
        return True
    if config.fusion == "none" and name.startswith("sfm."):
        last = ("attention.value.bias", "attention.out.bias")
        if config.sfm == "released":
            last = tuple(f"sfm.blocks.{i}.norm.bias" for i in range(3))
        return name.endswith(last)
    before_norm = (
        [f"projections.{i}.conv.bias" for i in range(3)]
        + [f"upsample.steps.{i}.0.bias" for i in range(len(config.decoder_widths))]
        + [f"fusion.affinity.{i}.conv.bias" for i in range(3)]
        + ["fusion.aggregate.conv.bias", "fusion.mix.0.bias"]
    )
    return name in before_norm


@pytest.mark.parametrize("changes", ROWS)
@pytest.mark.parametrize("form", [{"sfm": "printed"}, {"sfm": "released", "share_sfm": False}])
def test_every_row_trains_and_every_parameter_has_its_gradient(changes, form):
    changes = {**form, "word_vectors": "glove", **changes}
    config = replace(TINY, grid=8, **changes)  # so wide that ASPP's rate 6 reaches inside
    network = build(config).double().train()
    batch = make_batch(lengths=(3, 1, 5, 2, 4, 3), image_index=(0, 1, 1, 2, 2, 3))
    mask_logits = network({**batch, "images": batch["images"].double()})
    target = (torch.arange(32)[:, None] > torch.arange(32)).double().expand(6, -1, -1)
    F.binary_cross_entropy_with_logits(mask_logits, target).backward()
    for name, parameter in network.named_parameters():
        frozen = name.startswith("backbone.") or (
            name == "word_encoder.embedding.weight" and changes["word_vectors"] == "onehot"
        )
        assert parameter.requires_grad != frozen, name
        if frozen:
            assert parameter.grad is None, name
        elif has_no_say(name, config):
            assert parameter.grad.abs().max() < 1e-12, name
        else:
            assert parameter.grad.abs().max() > 1e-9, name
            assert parameter.grad.isfinite().all(), name
    if changes["word_vectors"] == "glove":
        moved = network.word_encoder.embedding.weight.grad.abs().sum(1) > 0
        assert moved[batch["words"][batch["word_mask"]]].all()
        assert not moved[0], "padding learns nothing"


def test_a_step_of_training_moves_all_but_the_frozen():
    network = build(replace(TINY, word_vectors="glove", train_word_vectors=False)).train()
    frozen = {"word_encoder.embedding.weight"}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    network(make_batch()).square().mean().backward()
    optimizer.step()
    for name, value in network.state_dict().items():
        still = name in frozen or name.startswith("backbone.")
        assert torch.equal(value, before[name]) == still, name


# --- sizes ----------------------------------------------------------------------------------------


def trainable(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_not_sharing_sfm_triples_its_parameters():
    shared, separate = build(), build(replace(TINY, share_sfm=False))
    assert trainable(separate.sfm) == 3 * trainable(shared.sfm)
    rest = trainable(shared) - trainable(shared.sfm)
    assert trainable(separate) - trainable(separate.sfm) == rest


def test_the_papers_size():
    """Where its parameters sit; together in test_released.py. What GloVe starts is trained."""
    *parts, together = count_parameters(PAPER, PAPER_WORDS)
    assert {name: round(trained / 1e6, 1) for name, trained, _ in parts} == {
        "backbone": 0.0,
        "projections": 16.5,
        "word_encoder": 4.7,
        "sfm": 2.6,
        "fusion": 21.2,
        "aspp": 8.9,
        "upsample": 8.3,
    }
    assert together[0] == "together" and round(together[1] / 1e6, 1) == 62.2
    frozen = {name: number for name, _, number in parts if number}
    assert frozen == {"backbone": 42500160}  # ResNet-101 less fc
    assert together[2] == sum(frozen.values())

    fixed = count_parameters(replace(PAPER, train_word_vectors=False), PAPER_WORDS)
    assert together[1] - fixed[-1][1] == PAPER_WORDS * 300
    assert fixed[-1][2] - together[2] == PAPER_WORDS * 300


def test_parameters_are_counted_as_the_network_has_them_and_without_its_files():
    network = build()
    *parts, together = count_parameters(replace(TINY, backbone_weights="absent.pth"), VOCABULARY)
    assert [name for name, _, _ in parts] == [name for name, _ in network.named_children()]
    assert [trained for _, trained, _ in parts] == [trainable(p) for p in network.children()]
    assert together[1] + together[2] == sum(p.numel() for p in network.parameters())


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "vgg16"}, r"model.backbone = 'vgg16': it should be .*deeplabv3plus"),
        ({"sfm": "both"}, r"model.sfm = 'both': it should be 'released', 'printed' or 'none'"),
        ({"sfm": None}, r"model.sfm = None: "),
        ({"fusion": "sum"}, r"model.fusion = 'sum': it should be 'hcam', 'conv3d'"),
        (
            {"word_vectors": "bert"},
            r"model.word_vectors = 'bert': it .* 'glove' or 'onehot'",
        ),
        ({"channels": 18, "heads": 9}, r"model.channels = 18.*multiple of 4.*model.heads, 9"),
        ({"channels": 16, "heads": 3}, r"model.channels = 16.*model.heads, 3"),
        (
            {"decoder_widths": (8,)},
            r"model.decoder_widths = \(8,\): it should have at least 2",
        ),
        ({"decoder_widths": ()}, r"model.decoder_widths = \(\): it should have at least 2"),
        ({"heads": 0}, r"model.heads = 0: it should be greater than 0"),
        ({"grid": 0}, r"model.grid = 0: "),
        ({"image_size": -1}, r"model.image_size = -1: "),
        ({"channels": 0}, r"model.channels = 0: "),
        ({"sfm_layers": 0}, r"model.sfm_layers = 0: "),
        ({"sfm_feedforward": 0}, r"model.sfm_feedforward = 0: "),
        ({"sfm_dropout": 1.0}, r"model.sfm_dropout = 1.0: it should be less than 1"),
        ({"affinity_dropout": -0.1}, r"model.affinity_dropout = -0.1: "),
        ({"aspp_dropout": 2}, r"model.aspp_dropout = 2: "),
        ({"decoder_dropout": float("nan")}, r"model.decoder_dropout = nan: "),
    ],
)
def test_wrong_settings_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**values)


@pytest.mark.parametrize(
    ("vectors", "found"), [(None, "got none"), (torch.zeros(VOCABULARY - 1, 6), "got 11")]
)
def test_glove_needs_a_vector_a_word(vectors, found):
    with pytest.raises(ValueError, match=f"each of the 12 words, {found}.*read_glove"):
        SHNet(replace(TINY, word_vectors="glove"), VOCABULARY, vectors)

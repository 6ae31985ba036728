"""Settings: what exists, what is refused and how, and that every one of them is read."""

import json
import pickle
import re
import shlex
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

import shnet_lib
from shnet_lib import command
from shnet_lib.model.shnet import PAPER, ModelConfig
from shnet_lib.training.config import (
    PRESETS,
    ConfigError,
    TrainConfig,
    configure,
    parse_settings,
)


def test_presets_hold_the_numbers_of_section_4_2():
    asked_for = ["quick", "tables", "unc-320", "unc-448", "unc+", "gref", "referit", "photos"]
    checks = ("smoke", "unc-rehearsal")
    assert [name for name in PRESETS if name not in checks] == asked_for
    assert [config.preset for config in PRESETS.values()] == list(PRESETS)
    for name in ("unc-320", "unc-448", "unc+", "gref", "referit"):
        config = PRESETS[name]
        assert (config.batch_size, config.learning_rate) == (50, 1.2e-4)
        assert (config.weight_decay, config.decay_power, config.max_words) == (9e-5, 0.7, 25)
        assert (config.model.grid, config.model.word_vectors) == (18, "glove")
        assert config.model.backbone == "deeplabv3plus"
        assert config.model == replace(PAPER, image_size=448 if name == "unc-448" else 320)
        assert config.grayscale_probability == 0
    by_dataset = {name: config.dataset for name, config in PRESETS.items()}
    assert by_dataset == {
        "quick": "refshapes-unc",
        "tables": "refshapes-unc",
        "smoke": "refshapes-unc",
        "unc-320": "unc",
        "unc-rehearsal": "unc",
        "unc-448": "unc",
        "unc+": "unc+",
        "gref": "gref",
        "referit": "referit",
        "photos": "photos",
    }


def test_the_rehearsal_is_the_paper_s_network_for_fifty_steps_and_needs_no_file():
    rehearsal, paper = PRESETS["unc-rehearsal"], PRESETS["unc-320"]
    files = {"backbone": "resnet101", "backbone_weights": "random"}
    assert replace(paper.model, **files) == rehearsal.model
    assert (rehearsal.steps, rehearsal.epochs, rehearsal.glove) == (50, None, "shipped")
    same = {"preset": paper.preset, "steps": None, "epochs": paper.epochs, "glove": None}
    assert replace(rehearsal, model=paper.model, **same) == paper


def test_the_preset_of_the_tables_is_frozen():
    """docs/results/ablations.csv was trained so: whoever changes this trains its rows anew."""
    assert (
        PRESETS["tables"].to_dict()
        == TrainConfig(
            model=ModelConfig(
                image_size=128,
                grid=8,
                channels=64,
                backbone="shapes",
                sfm="released",
                sfm_layers=1,
                sfm_feedforward=128,
                sfm_dropout=0.0,
                affinity_dropout=0.0,
                heads=4,
                word_vectors="onehot",
                decoder_widths=(48, 32),
                aspp_dropout=0.0,
                decoder_dropout=0.0,
            ),
            preset="tables",
            dataset="refshapes-unc",
            steps=4000,
            batch_size=32,
            expressions_per_image=2,
            learning_rate=1e-3,
            evaluate_every=500,
            cache_features=True,
        ).to_dict()
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset):
    config = configure(preset, seed=7, **{"model.decoder_widths": (64, 32)})
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.model.decoder_widths == (64, 32)


def test_overrides_reach_into_the_model_and_leave_the_preset_alone():
    config = configure("quick", seed=3, learning_rate=1, **{"model.fusion": "none"})
    assert (config.seed, config.learning_rate, config.model.fusion) == (3, 1, "none")
    assert PRESETS["quick"].model.fusion == "hcam"
    assert config.batch_size == PRESETS["quick"].batch_size
    assert config.model.grid == PRESETS["quick"].model.grid


def test_steps_and_epochs_replace_each_other():
    assert (PRESETS["unc-320"].epochs, PRESETS["unc-320"].steps) == (30, None)
    config = configure("unc-320", steps=10)
    assert (config.steps, config.epochs) == (10, None)
    config = configure("quick", epochs=2)
    assert (config.steps, config.epochs) == (None, 2)
    with pytest.raises(ConfigError, match="exactly one"):
        configure("quick", steps=10, epochs=1)
    with pytest.raises(ConfigError, match="exactly one"):
        TrainConfig()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("learning_rat", "Did you mean 'learning_rate'"),
        ("model.fusoin", "Did you mean 'model.fusion'"),
        ("fusion", "model.fusion"),
        ("model", "model.grid"),
        ("zzz", "weight_decay"),
    ],
)
def test_an_unknown_setting_is_answered_with_what_exists(name, said):
    with pytest.raises(ConfigError, match=f"no setting '{re.escape(name)}'") as caught:
        configure("quick", **{name: 1})
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match="no setting"):
        parse_settings([f"{name}=1"])


def test_an_unknown_preset_or_dataset_is_answered_with_what_exists():
    with pytest.raises(ConfigError, match="Did you mean 'unc-320'.*referit"):
        configure("unc-32")
    with pytest.raises(ConfigError, match="refshapes-unc"):
        configure("quick", dataset="refshapes")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", "100", "a valid integer"),
        ("steps", True, "a valid integer"),
        ("batch_size", 1.0, "a valid integer"),
        ("batch_size", None, "a valid integer"),
        ("learning_rate", "1e-3", "a valid number"),
        ("learning_rate", True, "a valid number"),
        ("recompute", 1, "a valid boolean"),
        ("dataset", 1, "a valid string"),
        ("precision", "fp8", "'no', 'bf16' or 'fp16'"),
        ("model.grid", 4.0, "a valid integer"),
        ("model.decoder_widths", (8, "8"), "a valid integer"),
        ("model.decoder_widths", 8, "a valid tuple"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value, said):
    with pytest.raises(ConfigError, match=f"{re.escape(name)} = ") as caught:
        configure("quick", **{name: value})
    assert str(caught.value) == f"{name} = {value!r}: it should be {said}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in (
            "steps", "epochs", "batch_size", "accumulate", "expressions_per_image", "max_words",
            "min_count", "evaluate_every", "patience",
        )),
        *((name, -1) for name in ("weight_decay", "decay_power", "workers", "seed")),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("grayscale_probability", 1.5),
        ("grayscale_probability", -0.1),
        ("word_dropout", 1.5),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} = "):
        configure("quick", cache_features=False, **{name: value})


def test_values_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="equal micro-batches"):
        configure("quick", batch_size=10, accumulate=3)
    with pytest.raises(ConfigError, match="cache_features"):
        configure("quick", cache_features=True, grayscale_probability=0.3)
    with pytest.raises(ConfigError, match="cache_features.*cache_images"):
        configure("quick", cache_features=True, cache_images="folder")
    with pytest.raises(ConfigError, match="no split of gref 'testA'.*train, val"):
        configure("gref", train_split="testA")
    with pytest.raises(ConfigError, match="no split of unc 'vall'. Did you mean 'val'"):
        configure("unc-320", val_split="vall")
    with pytest.raises(ConfigError, match="cheating"):
        configure("unc-320", val_split="testA")
    with pytest.raises(ConfigError, match="model.fusion = 'nonne': .*hcam"):
        configure("quick", **{"model.fusion": "nonne"})


def test_a_command_line_is_read_as_the_types_of_the_settings():
    texts = [
        "model.fusion=none",
        "steps=100",
        "learning_rate=1e-3",
        "recompute=true",
        "keep_numbers=False",
        "patience=none",
        "glove=/a=b/glove.txt",
        "precision=bf16",
        "model.decoder_widths=64,32",
        "weight_decay=0",
    ]
    values = parse_settings(texts)
    assert values == {
        "model.fusion": "none",
        "steps": 100,
        "learning_rate": 1e-3,
        "recompute": True,
        "keep_numbers": False,
        "patience": None,
        "glove": "/a=b/glove.txt",
        "precision": "bf16",
        "model.decoder_widths": (64, 32),
        "weight_decay": 0.0,
    }
    assert configure("quick", **values).model.decoder_widths == (64, 32)
    assert parse_settings(["glove=none"]) == {"glove": None}


@pytest.mark.parametrize(
    "text", ["steps", "steps=1.5", "recompute=yes", "precision=half", "model.decoder_widths=a,b"]
)
def test_a_command_line_of_the_wrong_type_is_refused(text):
    with pytest.raises(ConfigError, match=text.split("=")[0]):
        parse_settings([text])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("glove='/Of Ada'", "'/Of Ada'"), ("glove=12", "12"), ("glove=true", "true"),
        ("learning_rate=.5", 0.5), ("weight_decay=1", 1.0), ("recompute=TRUE", True),
        ("model.sfm=none", "none"), ("model.decoder_widths= 64, 32", (64, 32)),
    ],
)  # fmt: skip
def test_a_text_is_read_as_one_type_only(text, value):
    (read,) = parse_settings([text]).values()
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("text", ["steps=true", "model.grid=none", "recompute=1", "seed='1'"])
def test_a_text_of_another_type_is_not_converted(text):
    name = text.split("=")[0]
    with pytest.raises(ConfigError, match=f"^{name} = .*: it should be a valid "):
        parse_settings([text])


def test_a_copy_with_changes_is_checked_as_the_first_was():
    config = configure("quick")
    with pytest.raises(ConfigError, match="^seed = -1: it should be greater than or equal to 0$"):
        replace(config, seed=-1)
    with pytest.raises(ConfigError, match="^model.heads = True: it should be a valid integer$"):
        replace(config.model, heads=True)
    with pytest.raises(ConfigError, match="model.channels = 30: .*multiple of 4"):
        replace(config.model, channels=30)
    with pytest.raises(ConfigError, match="^colour = 1: "):
        replace(config, colour=1)
    changed = replace(config, seed=5, model=replace(config.model, grid=9))
    assert changed == configure("quick", seed=5, **{"model.grid": 9})


def test_settings_are_values():
    """They can be pickled, hashed and compared, and nobody changes them."""
    config = configure("unc-320", **{"model.decoder_widths": [64, 32]})
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, replace(config), replace(config, seed=1)}) == 2
    for each in (config, config.model):
        with pytest.raises(FrozenInstanceError):
            each.grid = 3


def test_help_lists_every_setting_with_type_default_and_description(capsys):
    with pytest.raises(SystemExit):
        command.main(["train", "--help"])
    listed = capsys.readouterr().out
    for config, prefix in ((TrainConfig, ""), (ModelConfig, "model.")):
        for name, field in config.__pydantic_fields__.items():
            assert field.description, name
            chosen = f"{prefix}{name}" not in ("model", "preset", "model.first_edition")
            assert bool(re.search(rf"^  {prefix}{name}=\S+ +\(", listed, re.M)) == chosen, name
    lines = " ".join(listed.split())
    assert "model.grid=18 (integer > 0) H = W, section 4.2" in lines
    assert "seed=0 (integer >= 0 < 2147483648) " in lines
    assert "model.sfm=released (released, printed, none) section 3.2" in lines
    assert "model.decoder_widths=512,512,512,256 (integer > 0, ...) " in lines
    assert "patience=none (integer > 0 or none) " in lines
    assert max(map(len, listed.splitlines())) <= 100


@pytest.mark.fault
def test_the_preset_is_no_setting():
    values = parse_settings(["preset=tables"])
    with pytest.raises(ConfigError, match="^preset is a label; choose a preset with --preset$"):
        configure("quick", **values)


def test_saved_settings_of_another_version():
    """What a later version added takes its default; what it does not know is refused."""
    saved = configure("quick", seed=4, **{"model.grid": 9}).to_dict()
    del saved["recompute"], saved["model"]["share_sfm"]
    assert TrainConfig.from_dict(saved) == configure("quick", seed=4, **{"model.grid": 9})
    for unknown in ({"colour": 1}, {"model": {"colour": 1}}):
        with pytest.raises(ConfigError, match="no setting '(model.)?colour'"):
            TrainConfig.from_dict(saved | unknown)
    with pytest.raises(ConfigError, match="model.grid"):
        TrainConfig.from_dict(saved | {"model": saved["model"] | {"grid": "16"}})


DROPOUT = next(f"model.{item.name}" for item in fields(ModelConfig) if "dropout" in item.name)


@pytest.mark.parametrize(
    "setting",
    [
        *(f"{name}={value}" for value in ("nan", "inf", "-inf") for name in (
            "weight_decay", "learning_rate", "decay_power", "grayscale_probability",
            "word_dropout",
            DROPOUT,
        )),
        f"{DROPOUT}=2", f"{DROPOUT}=-0.1", "model.decoder_widths=16,0", "seed=-1",
        f"seed={2**32}", "weight_decay=-1", "workers=-1", "steps=0", "patience=0",
        "batch_size=0", "model.grid=0", "grayscale_probability=1.5",
    ],
)  # fmt: skip
def test_a_number_that_no_run_can_use_is_refused(setting):
    name, _, value = setting.partition("=")
    with pytest.raises(ConfigError, match=f"{name} = .*{value.split(',')[-1]}"):
        configure("quick", **parse_settings([setting]))


def test_the_home_folder_may_be_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("glove", "start_from", "cache_images", "model.backbone_weights")
    config = configure("unc-320", **dict.fromkeys(names, "~/file"))
    found = (
        config.glove, config.start_from, config.cache_images, config.model.backbone_weights,
    )  # fmt: skip
    assert set(found) == {str(tmp_path / "file")}
    assert TrainConfig.from_dict(config.to_dict()) == config


WEIGHTS = Path(shnet_lib.__path__[0]).parent / "data" / "weights"


def test_the_settings_of_a_network_of_the_first_edition_mean_the_old_network():
    saved = json.loads((WEIGHTS / "shnet_refshapes" / "config.json").read_text())
    assert "dropout" in saved["model"], "trained anew: the first edition can go"
    model = TrainConfig.from_dict(saved).model
    assert model.first_edition
    assert (model.sfm_dropout, model.aspp_dropout, model.decoder_dropout) == (0, 0, 0)
    for name in set(saved["model"]) - {"dropout", "decoder_widths"}:
        assert getattr(model, name) == saved["model"][name], name
    again = TrainConfig.from_dict(json.loads(json.dumps(TrainConfig.from_dict(saved).to_dict())))
    assert again.model == model, "saved once more, it is what it was"


def test_old_names_are_read_from_old_settings_only():
    old = {"model": {"sfm": "paper", "dropout": 0.3}, "steps": 1}
    model = TrainConfig.from_dict(old).model
    assert (model.sfm, model.aspp_dropout, model.decoder_dropout) == ("printed", 0.3, 0.3)
    assert model.first_edition and model.sfm_dropout == 0
    new = {"first_edition": False}
    with pytest.raises(ConfigError, match="model.sfm = 'paper': .*'released', 'printed'"):
        TrainConfig.from_dict({"model": {"sfm": "paper"} | new, "steps": 1})
    with pytest.raises(ConfigError, match="no setting 'model.dropout'"):
        TrainConfig.from_dict({"model": {"dropout": 0.3} | new, "steps": 1})


def test_the_first_edition_is_not_chosen():
    for value in (True, False):
        with pytest.raises(ConfigError, match="model.first_edition is read from old files"):
            configure("quick", **{"model.first_edition": value})
    old = TrainConfig(steps=5, model=ModelConfig(first_edition=True))
    assert "first_edition" not in old.command()


@pytest.mark.parametrize(
    ("choice", "unread"),
    [
        ("model.sfm=printed", ["sfm_layers=1", "sfm_feedforward=64", "sfm_dropout=0.1"]),
        ("model.sfm=printed", ["affinity_dropout=0.1"]),
        ("model.sfm=none", ["sfm_layers=3", "heads=2", "share_sfm=false", "positions=false"]),
        ("model.fusion=conv3d", ["affinity_dropout=0.1"]),
        ("model.fusion=mgate", ["affinity_dropout=0"]),
        ("model.word_vectors=onehot", ["train_word_vectors=false"]),
    ],
)
@pytest.mark.fault
def test_a_setting_that_the_chosen_network_does_not_read_is_refused(choice, unread):
    for setting in unread:
        name = setting.split("=")[0]
        values = parse_settings([choice, f"model.{setting}"])
        with pytest.raises(ConfigError, match=f"model.{name} = .*: with {choice} nothing reads it"):
            configure("unc-320", **values)


def test_but_a_default_is_no_claim_and_a_preset_keeps_its_own():
    for preset, config in PRESETS.items():
        made = configure(preset, **{"model.sfm": "none", "model.sfm_layers": 2, "model.heads": 8})
        assert made.model == replace(config.model, sfm="none", sfm_layers=2, heads=8)
    assert configure("tables", **{"model.sfm": "printed"}).model.sfm_layers == 1


def test_differences_name_what_would_change_a_run():
    config = configure("quick")
    assert config.differences(config) == ""
    same = {"workers": 5, "recompute": True, "cache_features": False, "glove": "moved.txt"}
    other = configure("quick", **same, cache_images="kept")
    assert config.differences(other) == "cache_features was True, is False"
    other = configure("quick", seed=9, **{"model.fusion": "none"})
    assert config.differences(other) == "model.fusion was 'hcam', is 'none', seed was 0, is 9"


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("quick", {}),
        ("unc-320", {"dataset": "unc+", "seed": 3, "precision": "fp16"}),
        ("quick", {"model.fusion": "none", "model.sfm": "none", "model.decoder_widths": (64, 32)}),
        ("quick", {"epochs": 2, "cache_features": False, "patience": 4, "learning_rate": 5e-4}),
        ("unc-320", {"glove": "/my vectors/glove.txt", "start_from": "runs/it's/best"}),
    ],
)
def test_the_command_of_a_run_makes_that_run(preset, overrides):
    config = configure(preset, **overrides)
    words = shlex.split(config.command())
    assert words[:3] == ["shnet", "train", "--preset"]
    settings = parse_settings(words[words.index("--set") + 1 :] if "--set" in words else [])
    assert configure(words[3], dataset=words[5], **settings) == config


def test_the_command_of_settings_made_by_hand_begins_with_a_preset():
    config = TrainConfig(steps=5, model=ModelConfig(grid=9))
    words = shlex.split(config.command())
    settings = parse_settings(words[words.index("--set") + 1 :])
    made = configure(words[3], dataset=words[5], **settings)
    assert made == replace(config, preset="quick")


def test_every_setting_is_read_by_the_package():
    """An option that nobody reads is a lie to the person who sets it."""
    files = Path(shnet_lib.__path__[0]).rglob("*.py")
    source = "".join(path.read_text() for path in files if path.name != "config.py")
    unread = [
        item.name
        for item in (*fields(TrainConfig), *fields(ModelConfig))
        if not re.search(rf"config(\.model)?\.{item.name}\b", source)
    ]
    assert unread == []

"""The settings of a run: typed, named, and with the paper's section beside each number.

    configure("quick")                                        # a preset as it stands
    configure("unc-320", seed=1, **{"model.fusion": "none"})  # dotted names reach into the model
    parse_settings(["model.fusion=none", "steps=100"])        # the same from a command line

A name that does not exist, a value of the wrong type or out of range: each is a `ConfigError`.
"""

import ast
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from textwrap import fill
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from shnet_lib.data import DataError, splits_of
from shnet_lib.model.shnet import ModelConfig, unread
from shnet_lib.settings import CHECKED, ConfigError, Count, FilePath, checked, first_error, setting
from shnet_lib.training import presets

# What a run computes does not depend on these: files may have moved, and a resumed run proves by
# other means that the backbone is the same, and has its word vectors from its checkpoint.
SAME_RESULT = ("workers", "cache_images", "recompute", "glove", "model.backbone_weights")
NOT_CHOSEN = {
    "preset": "is a label; choose a preset with --preset",
    "model.first_edition": "is read from old files; it cannot be chosen",
}

NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@checked()
class TrainConfig:
    """Everything that decides what a run computes. Section numbers are the paper's.

    Exactly one of `steps` and `epochs` is set. `batch_size` counts the expressions of one optimiser
    step over *all* processes and accumulated micro-batches, so that the same settings mean the same
    training on one device and on eight.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or two contradict each other.
    """

    model: ModelConfig = setting(ModelConfig(), "the network: its settings are named model.<name>")
    preset: str = setting("custom", "the name these settings started from; a label for reports")
    dataset: str = setting("refshapes-unc", "unc, unc+, gref, referit, photos, own, ...")
    train_split: str = setting("train", "the split that is trained on")
    val_split: str = setting("val", "chooses the best checkpoint; never a test split")

    steps: Count | None = setting(None, "optimiser steps; or set epochs")
    epochs: Count | None = setting(None, "not stated in the paper; or set steps")
    batch_size: Count = setting(50, "expressions per optimiser step, section 4.2")
    accumulate: Count = setting(1, "micro-batches per optimiser step, on each process")
    expressions_per_image: Count = setting(5, "at most so many per image stand side by side")
    learning_rate: Annotated[float, Field(gt=0)] = setting(1.2e-4, "AdamW's, section 4.2")
    weight_decay: NotNegative = setting(9e-5, "AdamW's, section 4.2")
    decay_power: NotNegative = setting(0.7, "power of the polynomial decay, section 4.2")
    warm_up: Annotated[int, Field(ge=0)] = setting(
        0, "first steps, over which the learning rate rises from 0; the paper has none"
    )
    dice: NotNegative = setting(0.0, "weight of a soft Dice loss beside section 3.4's; not its own")

    max_words: Count = setting(25, "longer expressions are cut, section 4.2")
    keep_numbers: bool = setting(True, 'false drops "2nd" and "3", as the field\'s code does')
    min_count: Count = setting(1, "rarer training words are read as the unknown word")
    glove: FilePath | None = setting(
        None,
        "GloVe's text file, or shipped: 50 numbers per word, from ReferIt's training phrases",
    )
    grayscale_probability: Probability = setting(
        0.0, "the released code's augmentation has 0.3, the paper none"
    )
    word_dropout: Probability = setting(
        0.0, "share of the training's words that are read as the unknown word; the paper has none"
    )

    start_from: FilePath | None = setting(None, "folder of a trained network to begin with")

    seed: Annotated[int, Field(ge=0, lt=2**31)] = setting(0, "of weights, order and dropout")
    precision: Literal["no", "bf16", "fp16"] = setting("no", "mixed precision; no: float32")
    evaluate_every: Count | None = setting(None, "optimiser steps; none: once per epoch")
    patience: Count | None = setting(None, "stop after so many evaluations without a gain")
    workers: Annotated[int, Field(ge=0)] = setting(0, "processes that read images")
    cache_features: bool = setting(False, "frozen features of every image once, in memory")
    cache_images: FilePath | None = setting(None, "folder for the resized photos, a file per split")
    recompute: bool = setting(False, "activation checkpointing: compute twice instead of keeping")

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("set exactly one of steps and epochs: they say the same thing")
        if self.cache_features and self.grayscale_probability > 0:
            raise ConfigError(
                "cache_features keeps one version of each image, grayscale_probability asks for "
                "two: set one of them to its default"
            )
        if self.cache_features and self.cache_images:
            raise ConfigError(
                "cache_features keeps what the backbone makes of each image, so that cache_images "
                "would never be read: set one of them to its default"
            )
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size = {self.batch_size} does not divide into accumulate = "
                f"{self.accumulate} equal micro-batches"
            )
        try:
            splits = splits_of(self.dataset)
        except DataError as error:
            raise ConfigError(f"dataset: {error}") from error
        if splits:  # of own data they are known when its refs are read
            _one_of(f"split of {self.dataset}", self.train_split, splits)
            _one_of(f"split of {self.dataset}", self.val_split, splits)
        if self.val_split.startswith("test"):
            raise ConfigError(f"val_split = {self.val_split}: choosing on a test split is cheating")

    def by_name(self) -> dict[str, Any]:
        """Every setting's value by its dotted name: {"model.grid": 18, ..., "seed": 0, ...}."""
        return _dotted(asdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The settings that `to_dict` wrote.

        One that was added since takes its default: what runs did before there was a choice. Of the
        first edition's networks, which had no LeakyReLU after the fusion, `_first_edition` knows
        more.

        Raises:
            ConfigError: a name is unknown, or a value has the wrong type.
        """
        model = values.get("model", {})
        if "first_edition" not in model:
            model = _first_edition(model)
        return _build(_dotted({**values, "model": model}))

    def differences(self, other: "TrainConfig") -> str:
        """The settings in which two runs would compute something else, in words; "" if none."""
        own, others = self.by_name(), other.by_name()
        return ", ".join(
            f"{name} was {own[name]!r}, is {others[name]!r}"
            for name in own
            if own[name] != others[name] and name not in SAME_RESULT
        )

    def command(self) -> str:
        """The command line that makes this run, but for its folders: what differs from a preset."""
        preset = self.preset if self.preset in PRESETS else "quick"
        usual = PRESETS[preset].by_name() | {"preset": self.preset, "dataset": self.dataset}
        no_say = {f"model.{name}" for name in (*unread(self.model), "first_edition")}
        changed = [
            f"{name}={_as_text(value)}"
            for name, value in self.by_name().items()
            if usual[name] != value and name not in no_say
        ]
        settings = f" --set {' '.join(changed)}" if changed else ""
        return f"shnet train --preset {preset} --dataset {self.dataset}{settings}"


def configure(preset: str, /, **overrides: Any) -> TrainConfig:
    """A preset with some settings replaced.

    Args:
        preset: a name in `PRESETS`.
        overrides: settings by name, those of the model as "model.<name>". Naming one of `steps` and
            `epochs` drops the preset's other one.

    Raises:
        ConfigError: no such preset or setting (the message lists what exists), a value of the wrong
            type or out of range.
    """
    _one_of("preset", preset, PRESETS)
    for name in NOT_CHOSEN.keys() & overrides:
        raise ConfigError(f"{name} {NOT_CHOSEN[name]}")
    changed = dict(overrides)
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if changed.get(name) is not None:
            changed.setdefault(other, None)
    config = _build(PRESETS[preset].by_name() | changed)
    for name, choice in unread(config.model).items():
        default = getattr(ModelConfig(), name)
        if changed.get(f"model.{name}", default) != default:
            raise ConfigError(
                f"model.{name} = {changed[f'model.{name}']}: with {choice} nothing reads it; leave "
                "it out"
            )
    return config


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """["model.fusion=none", "steps=100"] -> {"model.fusion": "none", "steps": 100}.

    Each text is read as the type its setting has. "none" is None only where None is allowed and no
    choice is called "none".

    Raises:
        ConfigError: no "=" in it, no such setting, or not a value of its type.
    """
    values = {}
    for written in settings:
        name, equals, text = written.partition("=")
        if not equals:
            raise ConfigError(f"{written!r} is no setting: write name=value")
        values[name.strip()] = _parse(name.strip(), text.strip())
    return values


def _first_edition(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model settings of a network saved before the released form was whole."""
    model = dict(model)
    dropout = model.pop("dropout", 0.2)  # then the only one, of ASPP and the decoder
    if model.get("sfm", "paper") == "paper":
        model["sfm"] = "printed"
    model |= {"sfm_dropout": 0.0, "aspp_dropout": dropout, "decoder_dropout": dropout}
    return model | {"first_edition": True}


# --- names and types ------------------------------------------------------------------------------


def _dotted(nested: Mapping[str, Any]) -> dict[str, Any]:
    """{"model": {"grid": 18}, "seed": 0} -> {"model.grid": 18, "seed": 0}."""
    model = {f"model.{name}": value for name, value in nested["model"].items()}
    return model | {name: value for name, value in nested.items() if name != "model"}


TYPES = _dotted(
    get_type_hints(TrainConfig, include_extras=True)
    | {"model": get_type_hints(ModelConfig, include_extras=True)}
)


def _build(values: Mapping[str, Any]) -> TrainConfig:
    """Dotted names and values -> TrainConfig, which checks the values."""
    inner, outer = {}, {}
    for name, value in values.items():
        _one_of("setting", name, TYPES)
        if name.startswith("model."):
            inner[name.removeprefix("model.")] = value
        else:
            outer[name] = value
    return TrainConfig(model=ModelConfig(**inner), **outer)


def _one_of(what: str, name: str, existing: Iterable[str]) -> None:
    names = list(existing)
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"there is no {what} {name!r}.{hint} There are: {', '.join(names)}")


PRESETS = {name: _build({**values, "preset": name}) for name, values in presets.SETTINGS.items()}


def _parse(name: str, text: str) -> Any:
    """A command line's text as the first of its readings that the setting's type takes."""
    _one_of("setting", name, TYPES)
    readings = [None, text] if text.lower() == "none" else [text]
    with suppress(ValueError, SyntaxError):
        readings.append(ast.literal_eval(text.capitalize()))  # 1e-3, "true", "64,32"
    for reading in readings:
        try:
            return TypeAdapter(TYPES[name], config=CHECKED).validate_python(reading)
        except ValidationError as error:
            refused = first_error(error, name, reading)
    raise ConfigError(refused)


def _as_text(value: Any) -> str:
    """A value as `_parse` reads it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return shlex.quote(str(value))


def list_settings() -> str:
    """Every setting that can be chosen: its default, its type and what it is; for `--help`."""
    train, model = (TypeAdapter(each).json_schema() for each in (TrainConfig, ModelConfig))
    lines = [
        "settings, as NAME=DEFAULT (TYPE); a preset has some values of its own. Sections, tables",
        "and equations are the paper's, the README and its options the released code's:",
    ]
    for name, schema in _dotted(train["properties"] | {"model": model["properties"]}).items():
        if name not in NOT_CHOSEN:
            told = f"{name}={_as_text(schema['default'])}".ljust(37)
            told += f" ({_spell(schema)}) {schema['description']}"
            lines.append(fill(told, 100, initial_indent="  ", subsequent_indent=" " * 40))
    return "\n".join(lines)


def _spell(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words: "integer > 0 or none"."""
    if "anyOf" in schema:
        return " or ".join(_spell(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "items" in schema:
        return f"{_spell(schema['items'])}, ..."
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f" {sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return schema["type"].replace("null", "none") + "".join(limits)

"""A run beside the paper: where each setting stands, its numbers next to the printed ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from shnet_course.measure.conventions import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_1_PHOTOS,
    bootstrap,
)
from shnet_course.tables import Table
from shnet_lib.model.shnet import PAPER, ModelConfig, unread
from shnet_lib.training.config import TrainConfig, configure
from shnet_lib.training.evaluate import Evaluation
from shnet_lib.training.fit import FitResult

README, DEFAULT = "released code, README", "released code, default"
OURS, MACHINE = "not stated: ours", "the machine's"
NO_VALUE = (OURS, MACHINE)
# Where each setting stands, in the order in which the paper speaks of them.
SOURCES = {
    "model.image_size": "section 4.2",
    "model.grid": "section 4.2",
    "model.backbone": "section 4.2",
    "model.backbone_weights": "section 4.2: VOC's; a file",
    "model.word_vectors": "section 4.2",
    "model.train_word_vectors": "section 4.2: “initializes”",
    "glove": "section 4.2: GloVe 840B; a file",
    "max_words": "section 4.2",
    "batch_size": "section 4.2",
    "learning_rate": "section 4.2",
    "weight_decay": "section 4.2",
    "decay_power": "section 4.2",
    "warm_up": OURS,
    "dice": OURS,
    "epochs": OURS,
    "steps": OURS,
    "model.positions": "section 3.2",
    "model.sfm": "released code; Eq. 1 prints less",
    "model.sfm_layers": README,
    "model.sfm_feedforward": DEFAULT,
    "model.heads": "released code",
    "model.share_sfm": "released code",
    "model.fusion": "section 3.3",
    "model.channels": "released code",
    "model.decoder_widths": "released code",
    "model.sfm_dropout": README,
    "model.affinity_dropout": README,
    "model.aspp_dropout": "released code",
    "model.decoder_dropout": README,
    "precision": OURS,
    "accumulate": OURS,
    "expressions_per_image": OURS,
    "evaluate_every": OURS,
    "workers": MACHINE,
    "seed": OURS,
}
NO_TEXT = ("preset", "dataset", "train_split", "val_split", "model.first_edition")


def settings_table(config: TrainConfig) -> Table:
    """What a run is made of, its value in the preset `unc-320`, and where that one comes from.

    Values that differ are set in bold. Left out is what this network does not read, and what nobody
    set.
    """
    own, paper = config.by_name(), configure("unc-320").by_name()
    usual = TrainConfig(model=ModelConfig(), steps=1).by_name()
    no_use = {f"model.{name}" for name in unread(config.model)}
    others = [
        name
        for name in own
        if name not in SOURCES and name not in NO_TEXT and own[name] != usual[name]
    ]
    rows, marked = [], set()
    for name in (*SOURCES, *others):
        if name in no_use or own[name] is None:
            continue
        source = SOURCES.get(name, OURS)
        given = source not in NO_VALUE and not source.endswith("file")
        if given and own[name] != paper[name]:
            marked.add(len(rows))
        rows.append(
            (name, _value_text(own[name]), _value_text(paper[name]) if given else "", source)
        )
    note = f"Preset {config.preset}, data set {config.dataset}; bold: not as at the paper's size."
    head = ("setting", "this run", "at the paper's size", "its source")
    return Table(head, rows, note, frozenset(marked))


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- the paper's numbers --------------------------------------------------------------------------

PRINTED_NAMES = {"unc": "UNC", "unc+": "UNC+", "gref": "G-Ref", "referit": "Referit"}
# Table 3, ResNet-101 with ImageNet's weights on UNC: overall IoU in per cent.
TABLE_3 = {
    320: {"val": 63.76, "testA": 67.05, "testB": 60.15},
    448: {"val": 64.88, "testA": 68.08, "testB": 60.82},
}
PERCENTILES = (2.5, 97.5)


def printed_iou(config: TrainConfig, split: str) -> tuple[float, str] | None:
    """The paper's overall IoU in per cent and its table; None where it prints none for this run."""
    model, size = config.model, config.model.image_size
    if why_not_printed(config):
        return None
    if model.backbone == "resnet101":
        found = TABLE_3[size].get(split)
        return (found, "Table 3") if found else None
    column = f"{PRINTED_NAMES[config.dataset]} {split}"
    if column not in TABLE_1_COLUMNS:
        return None
    return TABLE_1[f"SHNet {size}"][TABLE_1_COLUMNS.index(column)], "Table 1"


def why_not_printed(config: TrainConfig) -> str:
    """Why the paper prints no number for this run; "" where it does."""
    model = config.model
    if config.dataset not in PRINTED_NAMES:
        return f"the paper has no results on {config.dataset}"
    if model.image_size not in TABLE_3:
        return f"the paper has no results at {model.image_size} x {model.image_size}"
    data_sets = {"resnet101": ("unc",), "deeplabv3plus": tuple(PRINTED_NAMES)}
    known = config.dataset in data_sets.get(model.backbone, ())
    if not known or model.backbone_weights == "random":
        return (
            f"the paper has no results with {model.backbone} ({model.backbone_weights}) on "
            f"{config.dataset}"
        )
    free = ("image_size", "backbone", "backbone_weights")
    alike = replace(PAPER, **{name: getattr(model, name) for name in free})
    if model != alike:
        own, its = config.by_name(), replace(config, model=alike).by_name()
        changed = [f"{name}={_value_text(own[name])}" for name in own if own[name] != its[name]]
        return f"this network is not the paper's ({', '.join(changed)})"
    return ""


def published_photos(config: TrainConfig, split: str) -> int | None:
    """How many photos the published split has, where Table 1 has a column for it."""
    column = f"{PRINTED_NAMES.get(config.dataset)} {split}"
    known = dict(zip(TABLE_1_COLUMNS, TABLE_1_PHOTOS, strict=True))
    return known.get(column)


def interval_of(evaluation: Evaluation, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % of the overall IoUs that as many photos, drawn with replacement, would give."""
    rows = evaluation.rows
    intersection, union = (
        torch.tensor([row[name] for row in rows]) for name in ("intersection", "union")
    )
    images = [row["image"] for row in rows]
    low, high = np.percentile(bootstrap(intersection, union, images, draws, seed), PERCENTILES)
    return float(low), float(high)


def beside_the_paper(
    config: TrainConfig,
    evaluations: Mapping[str, Evaluation],
    released: Mapping[str, Evaluation],
) -> Table:
    """Overall IoU in per cent of every split, under both protocols, and what the paper prints.

    A number of the paper stands there only where data set, photos, size and backbone are the same.
    """
    rows, notes = [], dict.fromkeys([why_not_printed(config)] if why_not_printed(config) else [])
    for split, evaluation in evaluations.items():
        low, high = interval_of(evaluation)
        photos = len({row["image"] for row in evaluation.rows})
        printed, expected = printed_iou(config, split), published_photos(config, split)
        if printed and photos != expected:
            notes[f"{split} has {photos:,} photos here and {expected:,} in the paper"] = None
            printed = None
        rows.append(
            (
                split,
                f"{len(evaluation.rows):,}",
                f"{photos:,}",
                f"{100 * evaluation.metrics['overall_iou']:.2f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * released[split].metrics['overall_iou']:.2f}",
                f"{printed[0]:.2f} ({printed[1]})" if printed else "",
            )
        )
    head = ("split", "expressions", "photos", "overall IoU, %", "95 % of redrawn photos",
            "released protocol", "the paper")  # fmt: skip
    note = f"No number of the paper stands beside it: {'; '.join(notes)}." if notes else ""
    return Table(head, rows, note)


# --- what to conclude -----------------------------------------------------------------------------

GAP = 0.1  # of overall IoU between training and validation, from which it is worth a sentence


def conclude(fitted: FitResult, evaluation: Evaluation) -> list[str]:
    """What the curves and the validation split say about the next run, in sentences."""
    history, best = fitted.history, fitted.best
    metrics, sentences = evaluation.metrics, []
    if metrics["overall_iou"] < 0.01:
        return [
            "The network marks next to nothing yet: this run shows that everything works, and no "
            "more."
        ]
    if best["step"] == history[-1]["step"]:
        sentences.append(
            "The best network is the last one. Validation had not stopped rising, so a longer run "
            "would probably be better."
        )
    else:
        sentences.append(
            f"The best network came at step {best['step']:,} of {history[-1]['step']:,}. A longer "
            "run of the same kind would not help."
        )
    gap = best["iou"] - best["val_overall_iou"]
    figures = f"{best['iou']:.2f} on training batches, {best['val_overall_iou']:.2f} on validation"
    if gap > GAP:
        sentences.append(
            f"Overall IoU is {figures}. The network knows its training photos by heart in part: "
            "more photos or more dropout would help more than more steps."
        )
    else:
        sentences.append(
            f"Overall IoU is {figures}. It is hardly better on photos that it has seen, so it has "
            "not learnt them by heart: a larger network or more steps could still help."
        )
    found, exact = metrics["precision@0.5"], metrics["precision@0.9"]
    sentences.append(
        f"It finds {found:.0%} of the things that were meant (IoU above 0.5) and outlines "
        f"{exact:.0%} nearly exactly (above 0.9)."
    )
    return sentences

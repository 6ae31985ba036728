"""`shnet`: what each verb does for a person, and that what is wrong is one line and status 2."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from shnet_lib import load_shnet, predict
from shnet_lib.command import main
from shnet_lib.data import read_expressions
from shnet_lib.prediction import highlight
from shnet_lib.training.ablations import read_lines

SHIPPED = "data/weights/figure_5/only_HCAM"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "scene.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def in_the_course(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_predict_writes_what_the_function_answers(photo, tmp_path, capsys):
    out = tmp_path / "masks"
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("left red circle\n\nthe zebra\n", encoding="utf-8")
    given = ["predict", SHIPPED, str(photo.parent), "--phrases", str(phrases), "--out", str(out)]
    assert main([*given, "--threshold", "0.1", "--device", "cpu"]) == 0
    names = ["scene-left-red-circle", "scene-the-zebra"]
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}.png" for name in names for kind in ("mask", "overlay")
    }
    expected = predict(load_shnet(SHIPPED), photo, "left red circle", threshold=0.1).mask
    mask = np.asarray(Image.open(out / f"{names[0]}.mask.png"))
    assert np.array_equal(mask, expected)
    shown = np.asarray(Image.open(out / f"{names[0]}.overlay.png"))
    assert np.array_equal(shown, highlight(np.asarray(Image.open(photo)), expected))
    first, second = capsys.readouterr().out.splitlines()
    assert f"{expected.mean():.1%} of the photo" in first and "never seen" not in first
    assert "never seen in training: zebra" in second


def test_answers_of_the_same_name_do_not_overwrite_each_other(photo, tmp_path):
    photo.with_suffix(".bmp").write_bytes(b"")
    Image.open(photo).save(photo.with_suffix(".bmp"))
    given = ["predict", SHIPPED, str(photo.parent), "--phrase", "star", "--out", str(tmp_path)]
    assert main(given) == 0
    assert sorted(path.name for path in tmp_path.glob("*.mask.png")) == [
        "scene-star-2.mask.png",
        "scene-star.mask.png",
    ]


def test_the_overlay_keeps_the_inside_and_pales_the_rest():
    photo = np.full((5, 6, 3), 100, dtype=np.uint8)
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:4, 1:4] = True
    shown = highlight(photo, mask)
    assert (shown[2, 2] == 100).all(), "the inside keeps its colours"
    assert (shown[1, 1] == (230, 159, 0)).all(), "its border is orange"
    assert (shown[0, 0] > 190).all(), "the rest is pale"


def test_evaluate_gives_the_figures_of_the_function(squares, tmp_path, capsys):
    """On a data set of another name than the one that the network was trained on."""
    folder = squares
    given = ["evaluate", SHIPPED, "--data", str(folder), "--dataset", "unc", "--split", "val"]
    assert main([*given, "--out", str(tmp_path / "rows"), "--protocol", "released"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["dataset"], report["protocol"]) == ("unc", "released")
    rows = read_lines(tmp_path / "rows" / "expressions-val.csv")
    pixels = [sum(int(row[name]) for row in rows) for name in ("intersection", "union")]
    assert report["val"]["overall_iou"] == round(pixels[0] / pixels[1], 4)
    assert "testA" not in report


def test_evaluate_leaves_out_what_the_card_says_was_trained_on(squares, tmp_path, capsys):
    """Of COCO's photos, by the number in their names; all of them are an error, train is whole."""
    numbers = [each.image_id for each in read_expressions(squares, "unc", "val")]
    assert len(set(numbers)) > 1
    network = tmp_path / "network"
    shutil.copytree(SHIPPED, network)
    card = json.loads((network / "card.json").read_text())
    given = ["evaluate", str(network), "--data", str(squares), "--dataset", "unc"]

    def trained_on(photos):
        (network / "card.json").write_text(json.dumps(card | {"trained_on": sorted(photos)}))

    trained_on({numbers[0]})
    assert main([*given, "--split", "val", "--out", str(tmp_path / "rows")]) == 0
    left_out = numbers.count(numbers[0])
    assert f"val: {left_out} expressions left out" in capsys.readouterr().err
    rows = read_lines(tmp_path / "rows" / "expressions-val.csv")
    assert len(rows) == len(numbers) - left_out

    trained_on(set(numbers))
    assert main([*given, "--split", "val"]) == 2
    assert "every photo" in capsys.readouterr().err
    trained_on({each.image_id for each in read_expressions(squares, "unc", "train")})
    assert main([*given, "--split", "train"]) == 0
    assert "left out" not in capsys.readouterr().err


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    from drawn import write_drawn

    return write_drawn(tmp_path_factory.mktemp("drawn") / "data")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["predict", "no/network", "{photo}", "--phrase", "x", "--out", "{out}"], "no/network"),
        (["predict", SHIPPED, "no.jpg", "--phrase", "x", "--out", "{out}"], "no.jpg: no photo"),
        (["predict", SHIPPED, "{empty}", "--phrase", "x", "--out", "{out}"], "no photo"),
        (["predict", SHIPPED, "{photo}", "--phrase", "...", "--out", "{out}"], "holds no word"),
        (["predict", SHIPPED, "{photo}", "--phrases", "{blank}", "--out", "{out}"], "one per line"),
        (["predict", SHIPPED, "{photo}", "--phrases", "{photo}", "--out", "{out}"], "as text"),
        (["evaluate", SHIPPED, "--data", "{empty}", "--dataset", "unc"], "refs(unc).p"),
        (["evaluate", SHIPPED, "--data", "{empty}", "--dataset", "unk"], "no data set 'unk'"),
        (["data", "make", "cartoons", "--out", "{out}"], "no maker 'cartoons'; there are: own-"),
        (["data", "make"], "there is no maker None"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(photo, tmp_path, capsys, given, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    places = {"photo": photo, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    places["blank"] = tmp_path / "blank.txt"
    assert main([each.format(**places) for each in given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_python_m_shnet_lib_is_the_command_and_help_names_every_verb():
    command = [sys.executable, "-m", "shnet_lib", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    for verb in ("train", "evaluate", "predict", "ablate", "data"):
        assert f"\n    {verb} " in done.stdout


def test_make_hands_its_options_to_the_maker(tmp_path, capsys):
    given = ["data", "make", "refshapes", "--out", str(tmp_path / "made"), "--size", "64"]
    few = ["--train", "2", "--val", "2", "--testA", "2", "--testB", "2"]
    assert main([*given, *few]) == 0
    assert "8 images" in capsys.readouterr().out
    assert main(["data", "check", "--dataset", "refshapes-unc", "--data", given[4]]) == 0
    assert capsys.readouterr().out.startswith("train          2 images")

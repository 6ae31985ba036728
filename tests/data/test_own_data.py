"""Own data: instances.json, refs of one's own and a folder of photos; and COCO's other names."""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from shnet_lib.command import main
from shnet_lib.data import DataError, read_expressions, splits_of
from shnet_lib.data.refer import DATASETS

REFS = [
    {"ann_id": 1, "split": "train", "sentences": ["the left square", "dark one"]},
    {"ann_id": 2, "split": "train", "sentences": ["right square"]},
    {"ann_id": 3, "split": "val", "sentences": ["the left square"]},
    {"ann_id": 4, "split": "hard-1", "sentences": ["right square"]},
]
WRITE = {
    "refs.json": lambda refs: json.dumps(refs).encode(),
    "refs.jsonl": lambda refs: b"".join(json.dumps(ref).encode() + b"\r\n" for ref in refs),
    "refs.p": lambda refs: pickle.dumps(refs, protocol=2),
}


def write(data: Path, refs: object = REFS, name: str = "refs.json", photo: str = "{}.png") -> Path:
    """Two photos of 40 x 30 with two squares each."""
    (data / "images").mkdir(parents=True)
    for number in (1, 2):
        pixels = np.full((30, 40, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(data / "images" / photo.format(number), "PNG")
    instances = {
        "images": [
            {"id": n, "file_name": photo.format(n), "width": 40, "height": 30} for n in (1, 2)
        ],
        "annotations": [
            {
                "id": 2 * n - 1 + side,
                "image_id": n,
                "category_id": 1,
                "segmentation": [[20 * side + x + 4, y] for x, y in ((0, 5), (8, 5), (8, 13))],
            }
            for n in (1, 2)
            for side in (0, 1)
        ],
        "categories": [{"id": 1, "name": "square"}],
    }
    for annotation in instances["annotations"]:
        annotation["segmentation"] = [sum(annotation["segmentation"], [])]
    (data / "instances.json").write_text(json.dumps(instances))
    (data / name).write_bytes(WRITE[name](refs))
    return data


@pytest.mark.parametrize("name", WRITE)
def test_refs_of_ones_own_in_every_form(tmp_path, name):
    data = write(tmp_path, name=name)
    assert splits_of("own", data) == ("train", "val", "hard-1") and splits_of("own") == ()
    with warnings.catch_warnings(action="error"):
        train = read_expressions(data, "own", "train")
    assert [e.text for e in train] == ["the left square", "dark one", "right square"]
    assert [e.ref_id for e in train] == [0, 0, 1]
    assert [e.sent_id for e in train] == ["0_0", "0_1", "1_0"]
    assert {e.image_path for e in train} == {data / "images" / "1.png"}
    assert all(e.category == "square" and e.mask().any() for e in train)
    assert train[0].photo().shape == (30, 40, 3)
    (hard,) = read_expressions(data, "own", "hard-1")
    assert hard.image_path.name == "2.png"


def test_refs_with_every_field_are_read_as_they_are(tmp_path):
    sentences = [{"sent_id": 70, "sent": "left", "raw": "Left!"}]
    ref = {"ref_id": 7, "ann_id": 1, "image_id": 1, "split": "testAB", "sentences": sentences}
    (expression,) = read_expressions(write(tmp_path, [ref]), "own", "testAB")
    assert (expression.ref_id, expression.sent_id, expression.text) == (7, 70, "left")


def test_the_check_prints_the_splits_that_there_are(tmp_path, capsys):
    assert main(["data", "check", "--dataset", "own", "--data", str(write(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["train", "val", "hard-1"]
    assert lines[0].split() == "train 1 images 2 refs 3 expressions".split()


@pytest.mark.fault
def test_a_split_that_own_data_lack(tmp_path):
    data = write(tmp_path, [ref for ref in REFS if ref["split"] != "val"])
    assert splits_of("own", data) == ("train", "hard-1"), "absent, and no error"
    said = r"refs.json: no ref is of the split 'val', but of train, hard-1. Give some.*val_split="
    with pytest.raises(DataError, match=said):
        read_expressions(data, "own", "val")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"ann_id": 1}', "holds a dict, not a list"),
        (b"[{]", r"not a refs file \(Expecting"),
        (b"[" * 100_000, r"not a refs file"),
        (b"[5]", "ref at 0"),
        (b'[{"split": "train", "sentences": ["a"]}]', "ref at 0 .*ann_id"),
        (
            b'[{"ann_id": 9, "split": "train", "sentences": ["a"]}]',
            "ref 0: .*instances.json has no annotation 9",
        ),
        (b'[{"ann_id": 1, "split": "../x", "sentences": ["a"]}]', r"split '../x'. Call splits by"),
        (b'[{"ann_id": 1, "split": "train", "sentences": "a"}]', "ref at 0.*sentences"),
        (b'[{"ann_id": 1, "split": "train", "sentences": []}]', "ref 0 has no sentence"),
    ],
)
def test_refs_of_ones_own_that_are_wrong(tmp_path, content, said):
    data = write(tmp_path)
    (data / "refs.json").write_bytes(content)
    with pytest.raises(DataError, match=r"refs.json.*" + said):
        splits_of("own", data)


@pytest.mark.fault
def test_a_damaged_line_of_refs_is_named(tmp_path):
    data = write(tmp_path, name="refs.jsonl")
    with (data / "refs.jsonl").open("ab") as file:
        file.write(b'\n{"ann_id": \n')
    with pytest.raises(DataError, match=r"refs.jsonl: not a refs file \(line 6: Expecting"):
        splits_of("own", data)


@pytest.mark.fault
def test_two_files_of_refs_are_one_too_many(tmp_path):
    data = write(tmp_path)
    (data / "refs.p").write_bytes(WRITE["refs.p"](REFS))
    with pytest.raises(DataError, match=r"holds refs.json and refs.p. Keep one of them"):
        read_expressions(data, "own", "train")


@pytest.mark.fault
def test_own_data_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"refs.json: no such file. Point DATA.*docs/own_data.md"):
        read_expressions(tmp_path, "own", "train")
    (write(tmp_path) / "images" / "1.png").unlink()
    with pytest.raises(DataError, match=r"images/1.png: no such image \(1 of 1"):
        read_expressions(tmp_path, "own", "train")


def test_own_photos_that_say_they_are_turned_are_counted(tmp_path):
    data = write(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(data / "images" / "1.png") as image:
        image.save(data / "images" / "1.png", exif=exif)
    with pytest.warns(UserWarning, match="1 photos, the first .*1.png, say that they are turned"):
        read_expressions(data, "own", "train")


NAMES = ["COCO_train2014_{:012}.jpg", "{:012}.jpg", "COCO_val2014_{:012}.jpg"]


@pytest.mark.fault
@pytest.mark.parametrize("lies", NAMES)
@pytest.mark.parametrize("said", NAMES)
def test_photos_of_coco_under_the_names_of_another_release(tmp_path, said, lies):
    data = write(tmp_path, photo=said)
    for number in (1, 2):
        path = data / "images" / said.format(number)
        path.rename(data / "images" / lies.format(number))
    (expression,) = read_expressions(data, "own", "val")
    assert expression.image_path == data / "images" / lies.format(2) and expression.photo().any()


@pytest.mark.parametrize("release", ["train2017", "val2017"])
def test_unc_on_the_photos_of_2017(tmp_path, release):
    layout = DATASETS["unc"]
    data = write(tmp_path, photo=NAMES[0])
    (data / layout.folder).mkdir()
    full = [
        {
            "ref_id": n,
            "ann_id": n,
            "image_id": (n + 1) // 2,
            "split": "train",
            "sentences": [{"sent_id": n, "sent": "left"}],
        }
        for n in (1, 3)
    ]
    (data / layout.folder / layout.refs_file).write_bytes(pickle.dumps(full, protocol=2))
    (data / "instances.json").rename(data / layout.folder / "instances.json")
    folder = (data / layout.image_folder).with_name(release)
    folder.mkdir(parents=True)
    for number in (1, 2):
        (data / "images" / NAMES[0].format(number)).rename(folder / NAMES[1].format(number))
    found = read_expressions(data, "unc", "train")
    assert [e.image_path for e in found] == [folder / NAMES[1].format(n) for n in (1, 2)]

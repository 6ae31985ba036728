"""Files made to do harm: each is refused with a clear error, runs nothing, and writes nothing.

They are made here; nothing that could be executed lies in the repository.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import stat
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from sittings import SETTINGS, write_data
from small import (
    HEIGHT,
    PHOTOS,
    WIDTH,
    changed,
    image_name,
    make_instances,
    make_refs,
    photo,
    tree,
    write_small,
)

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.fetch.download import Downloader, FetchError
from shnet_lib.data.fetch.photos import LocalPhotos, MissingPhotos
from shnet_lib.data.fetch.zips import check_zip, read_members, unpack
from shnet_lib.data.glove import read_glove
from shnet_lib.data.images import MAX_PIXELS, image_size, read_pixels
from shnet_lib.data.refer import load_refs, read_refer
from shnet_lib.data.referit import read_mat_mask
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.backbone import build_backbone
from shnet_lib.model.weights import WeightsError, read_checkpoint
from shnet_lib.training.checkpoint import CheckpointError, load_shnet
from shnet_lib.training.config import configure, parse_settings
from shnet_lib.training.fit import fit
from shnet_lib.training.resume import last_checkpoint
from shnet_lib.training.run import read_splits

pytestmark = pytest.mark.hostile


class Command:
    """Its pickle runs a command as soon as it is loaded by an ordinary unpickler."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return os.system, (f"touch '{self.sentinel}'",)


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "executed"


# Pickles. The loader is called directly, and through the reader of a data set.


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_a_command(tmp_path, sentinel, protocol):
    data = write_small(tmp_path / "data")
    path = data / "refcoco" / "refs(unc).p"
    path.write_bytes(pickle.dumps([*make_refs(), Command(sentinel)], protocol=protocol))
    before = tree(data)
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which a refs file never"):
        load_refs(path)
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: not a refs file"):
        read_refer(data, "unc", "train")
    assert not sentinel.exists() and tree(data) == before
    pickle.loads(path.read_bytes())
    assert sentinel.exists(), "opened carelessly, it does run"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]cposix\nsystem\nU\x04true\x85Ra.",  # by name and call
        b"\x80\x02](iposix\nsystem\na.",  # as an instance
        b"\x80\x04]\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85Ra.",  # by names on the stack
        b"\x80\x02](U\x01xoa.",  # an instance of what lies on the stack
        b"\x80\x02]U\x01xQa.",  # a persistent id
        b"]Px\na.",
        b"\x80\x02]\x82\x01a.",  # the registry of extensions
        b"\x80\x02]}}ba.",  # a state to be set
        b"\x80\x02])\x81a.",
        b"\x80\x05\x97.",  # a buffer from outside
    ],
)
def test_every_part_of_a_pickle_that_can_call_something(tmp_path, content):
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(DataError, match="never needs"):
        load_refs(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r" + struct.pack("<I", 2**28) + b".",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"(lp4000000000\n.",
        b"(lS'caf\\xe9'\np4000000000\n.",
        b"\x80\x02(\x8d" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"]q\x00.",
        b"\x80\x02X\xff\xff\xff\xffab.",
        b"\x80\x02\x8b\xff\xff\xff\x7fab.",
    ],
)
def test_a_pickle_of_some_bytes_that_asks_for_gigabytes(tmp_path, content):
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not a refs file"):
            load_refs(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_an_image_name_that_leads_out_of_the_folder(tmp_path):
    for name in ("../../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\x.jpg", "", "a\0.jpg"):
        instances = changed(make_instances(), "images", 0, "file_name", name)
        data = write_small(tmp_path / str(len(name)), instances=instances)
        with pytest.raises(DataError, match="image 1: .* is not the name of a file in a folder"):
            read_refer(data, "unc", "train")


# Checkpoints.


def torch_file(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_checkpoint_that_runs_a_command(tmp_path, sentinel, form):
    path = tmp_path / "weights.pth"
    value = {"conv1.weight": torch.zeros(3), "epoch": Command(sentinel)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps({"epoch": Command(sentinel)}, protocol=2))
    else:
        path.write_bytes(torch_file(value, _use_new_zipfile_serialization=form == "zip"))
    for opened in (read_checkpoint, lambda path: build_backbone("resnet18", str(path))):
        with pytest.raises(WeightsError, match=r"weights.pth was not opened.*system"):
            opened(path)
    assert not sentinel.exists() and [each.name for each in tmp_path.iterdir()] == ["weights.pth"]


def test_a_checkpoint_that_calls_itself_safetensors(tmp_path, sentinel):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(torch_file({"w": Command(sentinel)}))
    with pytest.raises(WeightsError, match="damaged or no file of weights"):
        read_checkpoint(path)
    assert not sentinel.exists()


def test_a_checkpoint_that_unpacks_to_more_than_it_is(tmp_path):
    whole = torch_file({"weight": torch.zeros(3_000_000)})
    path = tmp_path / "weights.pth"
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 10**5
    with pytest.raises(WeightsError, match="weights.pth was not opened: its .* unpack to 12,0"):
        read_checkpoint(path)


# Zips.


def zip_of(path: Path, *members: tuple[str, bytes, int]) -> Path:
    """A zip with members of (name, content, Unix mode), named as they are told."""
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in members:
            entry = zipfile.ZipInfo("x")
            entry.filename, entry.external_attr = name, mode << 16
            archive.writestr(entry, content)
    return path


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
GOOD = ("refcoco/instances.json", b"{}", FILE)
HOSTILE_ZIPS = {
    "slip": ([("../../executed", b"x", FILE)], "leads out of its folder"),
    "slip inside": ([("refcoco/../../executed", b"x", FILE)], "leads out of its folder"),
    "slip with backslashes": ([("..\\..\\executed", b"x", FILE)], "leads out of its folder"),
    "absolute": ([("/tmp/executed", b"x", FILE)], "has an absolute name"),
    "absolute of Windows": ([("C:/executed", b"x", FILE)], "has an absolute name"),
    "link": ([("refcoco/link", b"/etc", LINK)], "is a link"),
    "link, then a file through it": (
        [("refcoco", b"/etc", LINK), ("refcoco/passwd", b"x", FILE)],
        "is a link",
    ),
    "device": ([("null", b"", stat.S_IFCHR | 0o666)], "is no ordinary file"),
    "pipe": ([("pipe", b"", stat.S_IFIFO | 0o666)], "is no ordinary file"),
    "twice": ([GOOD, GOOD], "is there twice"),
    "backslash": ([("refcoco\\x", b"x", FILE)], "has a name that is no file's"),
}


@pytest.mark.parametrize(("members", "message"), HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_a_zip_that_reaches_outside(tmp_path, members, message):
    path = zip_of(tmp_path / "refcoco.zip", GOOD, *members)
    target = tmp_path / "data" / "refcoco" / "instances.json"
    for opened in (
        lambda: unpack(path, GOOD[0], target, 10**6),
        lambda: check_zip(path, 10**6),
        lambda: LocalPhotos(path),
    ):
        with pytest.raises(FetchError, match=f"refcoco.zip: member .*{message}"):
            opened()
    assert [each.name for each in tmp_path.iterdir()] == ["refcoco.zip"], "nothing is written"


def test_a_zip_that_is_a_bomb(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("refcoco/instances.json", bytes(50_000_000))
    assert path.stat().st_size < 10**5
    target = tmp_path / "instances.json"
    with pytest.raises(FetchError, match="unpacks to 50,000,000 bytes, where at most 1,000,000"):
        unpack(path, GOOD[0], target, 10**6)
    assert [each.name for each in tmp_path.iterdir()] == ["bomb.zip"]


def test_a_zip_that_lies_about_its_size(tmp_path):
    """It says two bytes and holds fifty million: no more than it says is unpacked."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("refcoco/instances.json", bytes(50_000_000))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 2)))
    assert read_members(path, 100)["refcoco/instances.json"].file_size == 2
    target = tmp_path / "instances.json"
    with pytest.raises(FetchError, match="damaged"):
        unpack(path, GOOD[0], target, 100)
    assert [each.name for each in tmp_path.iterdir()] == ["liar.zip"]


def test_a_zip_that_is_encrypted(tmp_path):
    path = zip_of(tmp_path / "a.zip", GOOD)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(FetchError, match="is encrypted"):
        check_zip(path, 10**6)


def test_a_photo_zip_with_a_bomb_and_a_link_in_place_of_photos(tmp_path):
    """Neither becomes a photo, and the others come."""
    images = make_instances()["images"]
    path = tmp_path / "train2014.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"train2014/{image_name(1)}", bytes(51_000_000))
        archive.writestr(f"train2014/{image_name(2)}", b"/etc/passwd")
        archive.writestr(f"train2014/{image_name(3)}", photo(3))
    photos = MissingPhotos(images, tmp_path / "data")
    photos.look()
    photos.get(LocalPhotos(path), (), Downloader())
    assert photos.came == 1 and "51,000,000 bytes" in photos.missing[image_name(1)]
    assert [each.name for each in (tmp_path / "data").iterdir()] == [image_name(3)]


# Images.


def png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds hardly anything."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is so large."""
    content = photo(1)
    size, lie = struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", height, width)
    assert content.count(size) == 1
    return content.replace(size, lie)


@pytest.mark.parametrize(
    "content",
    [jpeg(65000, 65000), jpeg(65000, 2000), png(2**31 - 1, 2**31 - 1), png(9000, 9000)],
    ids=["jpeg 4 gigapixels", "jpeg over the limit", "png 2^62 pixels", "png over the limit"],
)
def test_an_image_of_absurd_dimensions(tmp_path, content):
    data = write_small(tmp_path)
    path = data / PHOTOS / image_name(1)
    path.write_bytes(content)
    with warnings.catch_warnings(action="error"):
        for opened in (image_size, lambda path: read_pixels(path, HEIGHT, WIDTH)):
            with pytest.raises(DataError, match="pixels"):
                opened(path)
        expressions = read_expressions(data, "unc", "train")
        dataset = ReferringDataset(expressions, Vocabulary(["<pad>", "<unk>"]), 32)
        with pytest.raises(DataError, match=f"{image_name(1)}: .*pixels"):
            dataset.read_image(0)


def test_annotations_that_ask_for_gigabytes(tmp_path):
    """They say that a photo is vast, or draw a polygon across a continent."""
    sizes = [(2**31, 2**31), (MAX_PIXELS + 1, 1), (10**400, 10), (0, 5), (-4, -4)]
    for place, (height, width) in enumerate(sizes):
        instances = changed(make_instances(), "images", 0, "height", height)
        instances = changed(instances, "images", 0, "width", width)
        data = write_small(tmp_path / str(place), instances=instances)
        with pytest.raises(DataError, match="image 1 is said to be"):
            read_refer(data, "unc", "train")
    for place, far in enumerate((1e9, -1e300, 10**400, float("nan"), float("inf"), "5", None, [1])):
        polygon = [[5, 5, far, 5, 20, 20]]
        instances = changed(make_instances(), "annotations", 0, "segmentation", polygon)
        data = write_small(tmp_path / f"far {place}", instances=instances)
        with pytest.raises(DataError, match="annotation 10: a polygon"):
            read_refer(data, "unc", "train")


def test_run_lengths_that_spell_one_endless_number(tmp_path):
    """Each character carries on the number before: without a limit that takes hours."""
    segmentation = {"size": [HEIGHT, WIDTH], "counts": "o" * 5_000_000}
    instances = changed(make_instances(), "annotations", 0, "segmentation", segmentation)
    expressions = read_refer(write_small(tmp_path, instances=instances), "unc", "train")
    with pytest.raises(DataError, match="annotation 10: a run-length is not a number of pixels"):
        expressions[0].mask()


def test_annotations_that_nest_too_deep(tmp_path):
    data = write_small(tmp_path)
    (data / "refcoco" / "instances.json").write_text("[" * 10**6)
    with pytest.raises(DataError, match="instances.json: not readable as JSON"):
        read_refer(data, "unc", "train")
    (data / "refcoco" / "instances.json").write_text("{}")
    opening, closing = b"]" * 10**5, b"a" * (10**5 - 1)
    (data / "refcoco" / "refs(unc).p").write_bytes(b"\x80\x02" + opening + closing + b".")
    with pytest.raises(DataError, match="has no field"):
        read_refer(data, "unc", "train")


# Masks and words.


def packed_mask(height: int, width: int) -> bytes:
    """A .mat file with `segimg_t`, all zeros, packed a megabyte at a time."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    pixels = height * width
    head = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<ii", height, width))
    head += element(1, b"segimg_t") + struct.pack("<II", 2, pixels)
    packer = zlib.compressobj()
    packed = packer.compress(struct.pack("<II", 14, len(head) + pixels) + head)
    packed += b"".join(packer.compress(bytes(2**20)) for _ in range(pixels // 2**20))
    packed += packer.compress(bytes(pixels % 2**20)) + packer.flush()
    intro = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    return intro + struct.pack("<II", 15, len(packed)) + packed


def test_a_mask_file_that_is_a_bomb(tmp_path):
    """600 kilobytes of packed zeros that unpack to 600 megabytes.

    The size is read first, and for it two blocks of the file at most: 300 megabytes unpacked.
    """
    path = tmp_path / "1_1.mat"
    path.write_bytes(packed_mask(HEIGHT, WIDTH))
    assert read_mat_mask(path, HEIGHT, WIDTH).all()
    path.write_bytes(packed_mask(20000, 30000))
    assert path.stat().st_size < 7 * 10**5
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"1_1.mat: a mask of \(20000, 30000\) for a photo of"):
            read_mat_mask(path, HEIGHT, WIDTH)
        assert tracemalloc.get_traced_memory()[1] < 3 * 10**8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("begin", [b"", b"the 1 2 3\n"])
def test_words_in_one_endless_line(tmp_path, begin):
    path = tmp_path / "glove.txt"
    path.write_bytes(begin + b"the " + b"1 " * 20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="glove.txt: line"):
            read_glove(path, ["the"] if not begin else ["cup", "the", "1"])
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


# What accelerate and torch give their pickles.
PICKLES = ("custom_checkpoint_0.pkl", "optimizer.bin", "optimizer.pt", "pytorch_model.bin",
           "random_states_0.pkl", "scaler.pt", "scheduler.bin", "sampler.bin")  # fmt: skip


def test_a_run_that_goes_on_executes_nothing_of_its_folder(tmp_path, sentinel):
    """Pickles stand under every name that a loader might look for; then in place of each file."""
    settings = SETTINGS | {"steps": 4, "evaluate_every": 2}
    config = configure("smoke", **parse_settings(f"{k}={v}" for k, v in settings.items()))
    expressions = read_splits(config, write_data(tmp_path / "data"))
    run = tmp_path / "run"

    def stop(_history):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(config, expressions, run, on_evaluation=stop)
    last = last_checkpoint(run)
    hostile = pickle.dumps(Command(sentinel))
    zipped = io.BytesIO()
    torch.save(Command(sentinel), zipped)
    for name in (path.name for path in last.iterdir()):
        for content in (hostile, zipped.getvalue()):
            copy = shutil.copytree(run, tmp_path / f"{name}-{len(content)}")
            (last_checkpoint(copy) / name).write_bytes(content)
            with pytest.raises(CheckpointError, match=name):
                fit(config, expressions, copy, resume=True)
    for folder in (run, run / "last", run / "best", last):
        for name in PICKLES:
            (folder / name).write_bytes(hostile)
    fit(config, expressions, run, resume=True)
    assert load_shnet(run / "best").card["step"] in (2, 4)
    assert not sentinel.exists()

"""Files of every kind that the course reads, changed at random, given to their readers.

    python tests/trust/mutations.py 1 400 /tmp/somewhere refs images

makes 400 mutations of each kind named (of every kind, if none is) from seed 1 and prints what came
of them, a line of JSON each. A reader may answer with a result or with an error of ALLOWED;
anything else stops the run and leaves the file in the folder. So does a file that takes more memory
than MEGABYTES over what was needed before. One that takes longer than SECONDS ends the process,
with the traceback of where it was.
"""

from __future__ import annotations

import faulthandler
import io
import json
import pickle
import random
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from scipy.io import savemat
from small import (
    HEIGHT,
    PHOTOS,
    WIDTH,
    glove_zip,
    image_name,
    make_instances,
    make_refs,
    photo,
    refcoco_zip,
    write_small,
)
from torch import nn

from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.dataset import ReferringDataset
from shnet_lib.data.expression import Expression
from shnet_lib.data.fetch.fetch import keep_words
from shnet_lib.data.fetch.zips import check_zip, read_members, unpack
from shnet_lib.data.glove import read_glove
from shnet_lib.data.text import Vocabulary
from shnet_lib.model.weights import WeightsError, load_weights

ALLOWED = (DataError, WeightsError)  # FetchError is a DataError
SECONDS, MEGABYTES = 20, 400
BYTES = [0x00, 0x01, 0x0A, 0x22, 0x2D, 0x30, 0x39, 0x5B, 0x7F, 0x80, 0xFF]
NUMBERS = [0, 1, 2**15 - 1, 2**16 - 1, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1]
ODD = [
    None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -1e300, float("nan"), float("inf"), "", "a",
    "..", "/", "\0", "\ud800", "שלום", "9" * 50, [], [[]], [0], [1, 2, 3, 4], {}, {"id": 1}, [None],
]  # fmt: skip


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One to four changes of bytes: bits, numbers, parts cut out, doubled, moved, or the end."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        size = len(changed)
        place = chance.randrange(size + 1)
        length = chance.choice([1, 2, 4, 8, chance.randrange(1, 200)])
        kind = chance.randrange(8)
        if kind == 0 and place < size:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1 and place < size:
            changed[place] = chance.choice(BYTES)
        elif kind == 2:
            order = chance.choice(["little", "big"])
            changed[place : place + 4] = chance.choice(NUMBERS).to_bytes(4, order)
        elif kind == 3:
            del changed[place:]
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            changed[place:place] = changed[place : place + length]
        elif kind == 6:
            other = chance.randrange(size + 1)
            changed[place : place + length] = changed[other : other + length]
        else:
            changed[place:place] = chance.randbytes(length)
    return bytes(changed)


def mutate_document(document: object, chance: random.Random) -> object:
    """A copy of JSON-like data in which a value is replaced, taken out, or put in twice."""
    document = pickle.loads(pickle.dumps(document))
    for _ in range(chance.choice([1, 1, 2])):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(node[key], (dict, list)) and node[key] and chance.random() < 0.8:
                node = node[key]
                continue
            kind = chance.randrange(4)
            if kind == 0:
                del node[key]
            elif kind == 1 and isinstance(node, list):
                node.append(node[key])
            else:
                node[key] = chance.choice(ODD)
            break
    return document


# Each kind, given a folder, answers with functions; each makes one file from a chance and reads it.
Trial = Callable[[random.Random], object]


def use(expressions: list[Expression]) -> int:
    """What training does with a data set: its words, and every mask."""
    vocabulary = Vocabulary.from_texts(expression.text for expression in expressions)
    dataset = ReferringDataset(expressions, vocabulary, 32)
    return sum(int(expression.mask().sum()) for expression in expressions) + len(dataset)


def file_trial(path: Path, content: bytes, read: Callable[[], object]) -> Trial:
    """Mutations of the bytes of one file."""
    return _trial(path, content, lambda chance: mutate(content, chance), read)


def document_trial(
    path: Path, document: object, write: Callable[[object], bytes], read: Callable[[], object]
) -> Trial:
    """Mutations of the values that one file holds."""
    return _trial(
        path, write(document), lambda chance: write(mutate_document(document, chance)), read
    )


def _trial(
    path: Path,
    content: bytes,
    mutated: Callable[[random.Random], bytes],
    read: Callable[[], object],
) -> Trial:
    """The file is whole again when another trial begins."""

    def trial(chance: random.Random) -> object:
        path.write_bytes(mutated(chance))
        try:
            return read()
        finally:
            KEPT["file"] = path.read_bytes()
            path.write_bytes(content)

    return trial


KEPT: dict[str, bytes] = {}


def refs(folder: Path) -> list[Trial]:
    data = write_small(folder / "data")
    path = data / "refcoco" / "refs(unc).p"

    def read() -> object:
        return use(read_expressions(data, "unc", "train"))

    by_bytes = [
        file_trial(path, pickle.dumps(make_refs(), protocol), read) for protocol in (0, 1, 2, 2, 4)
    ]
    by_value = document_trial(path, make_refs(), lambda document: pickle.dumps(document, 2), read)
    return [*by_bytes, by_value, by_value]


def instances(folder: Path) -> list[Trial]:
    data = write_small(folder / "data")
    path = data / "refcoco" / "instances.json"

    def read() -> object:
        return use(read_expressions(data, "unc", "train"))

    def write(document: object) -> bytes:
        return json.dumps(document).encode()

    document = make_instances()
    packed = {"size": [HEIGHT, WIDTH], "counts": "02" + "h0" * 4}  # compressed, if not a whole mask
    document["annotations"][2]["segmentation"] = packed
    plain = make_instances()
    return [
        file_trial(path, write(plain), read),
        document_trial(path, plain, write, read),
        document_trial(path, document, write, read),
    ]


def referit(folder: Path) -> list[Trial]:
    root = folder / "referit"
    (root / "images").mkdir(parents=True)
    (root / "mask").mkdir()
    queries = {"25_1": ["sky", "the blue sky"], "25_2": ["man"]}
    (root / "images" / "25.jpg").write_bytes(photo(1))
    region = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    masks = []
    for compressed in (False, True):
        stream = io.BytesIO()
        savemat(stream, {"segimg_t": region}, do_compression=compressed)
        masks.append(stream.getvalue())
    stream = io.BytesIO()
    savemat(stream, {"segimg_t": region}, format="4")
    masks.append(stream.getvalue())
    path = root / "referit_query_train.json"
    path.write_text(json.dumps(queries))
    for name in queries:
        (root / "mask" / f"{name}.mat").write_bytes(masks[0])

    def read() -> object:
        return use(read_expressions(folder, "referit", "train"))

    def write(document: object) -> bytes:
        return json.dumps(document).encode()

    by_mask = [file_trial(root / "mask" / "25_1.mat", content, read) for content in masks]
    by_text = [file_trial(path, write(queries), read), document_trial(path, queries, write, read)]
    return [*by_mask, *by_text]


def glove(folder: Path) -> list[Trial]:
    words = ["the", "left", "cup", "3", "2nd"]
    random_vectors = np.random.default_rng(0).normal(size=(40, 6))
    names = [*words, ". . .", *[f"word{n}" for n in range(34)]]
    lines = [f"{n} {' '.join(map(str, v))}" for n, v in zip(names, random_vectors, strict=True)]
    content = "\n".join(lines).encode() + b"\n"
    path = folder / "glove.txt"
    return [file_trial(path, content, lambda: read_glove(path, words))]


def images(folder: Path) -> list[Trial]:
    data = write_small(folder / "data")
    dataset = ReferringDataset(
        read_expressions(data, "unc", "train"), Vocabulary(["<pad>", "<unk>"]), 32
    )
    path = data / PHOTOS / image_name(1)

    return [
        file_trial(path, photo(1, kind), lambda: dataset.read_image(0)) for kind in ("JPEG", "PNG")
    ]


def weights(folder: Path) -> list[Trial]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    tensors = folder / "weights.safetensors"
    state = save_tensors(network.state_dict())
    trials = [file_trial(tensors, state, lambda: load_weights(network, tensors))]
    for number, zipped in enumerate((True, False)):
        stream = io.BytesIO()
        torch.save(network.state_dict(), stream, _use_new_zipfile_serialization=zipped)
        path = folder / f"weights{number}.pth"
        read = lambda path=path: load_weights(network, path)  # noqa: E731
        trials.append(file_trial(path, stream.getvalue(), read))
    return trials


def archives(folder: Path) -> list[Trial]:
    path, out = folder / "refcoco.zip", folder / "out"
    members = {f"refcoco/{name}": out / name for name in ("instances.json", "refs(unc).p")}

    def read() -> object:
        try:
            check_zip(path, 10**6)
        except DataError:
            pass  # unpacking has to withstand it all the same
        for name, target in members.items():
            unpack(path, name, target, 10**6)
        return read_members(path, 10**6)

    words = folder / "glove.zip"
    return [
        file_trial(path, refcoco_zip(), read),
        file_trial(words, glove_zip(), lambda: keep_words(words, ["cup", "left"], out / "words")),
    ]


KINDS = {
    each.__name__: each for each in (refs, instances, referit, glove, images, weights, archives)
}


def run(kind: str, seed: int, count: int, folder: Path) -> dict[str, int]:
    """Make and read `count` mutations; how many were read, and how many refused."""
    folder.mkdir(parents=True, exist_ok=True)
    trials = KINDS[kind](folder)
    for trial in trials:  # the first time, libraries are loaded and tables made
        outcome(trial, random.Random(0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit = 8 * 2**30  # of address space: what asks for more gets a MemoryError, not this machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    results = {"read": 0, "refused": 0}
    for number in range(count):
        chance = random.Random(f"{kind} {seed} {number}")
        trial = trials[number % len(trials)]
        try:
            results[outcome(trial, chance)] += 1
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak  # in KiB
            if grown > MEGABYTES * 1000:
                raise AssertionError(f"took {grown / 1000:.0f} MB")
        except BaseException:
            (folder / f"{kind}-{seed}-{number}").write_bytes(KEPT["file"])
            print(f"{kind}, seed {seed}, number {number}:", file=sys.stderr)
            raise
    results["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1000
    return results


def outcome(trial: Trial, chance: random.Random) -> str:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        trial(chance)
        return "read"
    except ALLOWED as error:
        str(error).encode(errors="backslashreplace")
        return "refused"
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seed, count, place, *names = sys.argv[1:]
    try:
        for name in names or KINDS:
            results = run(name, int(seed), int(count), Path(place) / name)
            print(json.dumps({"kind": name, **results}), flush=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)

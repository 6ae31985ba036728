"""Fetching, from a server on this machine that drops connections, lies, and serves wrong files."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from server import Answer, Server
from small import (
    PHOTOS,
    glove_zip,
    image_name,
    make_instances,
    photo,
    refcoco_zip,
    tree,
    write_small,
)

from shnet_lib.command import main
from shnet_lib.data import DataError, read_expressions
from shnet_lib.data.fetch.download import (
    DiskFull,
    Downloader,
    FetchError,
    require_space,
)
from shnet_lib.data.fetch.fetch import GLOVE_TEXT, Fetch
from shnet_lib.data.fetch.sources import NO_SOURCES, Sources
from shnet_lib.data.fetch.zips import check_zip
from shnet_lib.data.glove import read_glove

pytestmark = pytest.mark.fault

QUICK = Downloader(attempts=3, first_wait=0.01, connect=2, silence=2)
CONTENT = bytes(range(256)) * 4000  # 1 MB


def anything(path: Path) -> None:
    pass


def whole(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise DataError("other bytes")


def get(server: Server, path: Path, *names: str, check=whole, limit: int = 10**7) -> str:
    addresses = [server.url(name) for name in names]
    return QUICK.download(addresses, path, check, limit)


# One file.


def test_a_dropped_connection_is_continued_where_it_broke(tmp_path):
    with Server({"/a": Answer(CONTENT, drop_after=300_000)}) as server:
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) >= 4 and server.asked[0] == ("/a", None)
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for _, asked in server.asked[1:]]
    assert starts == sorted(starts) and starts[0] > 0
    # What was on its way when the connection broke may come again: a block at most, each time.
    assert server.sent <= len(CONTENT) + len(starts) * 2**17
    assert sorted(tree(tmp_path)) == ["a"], "no part is left behind"


def test_a_server_without_ranges_is_read_from_the_start_again(tmp_path):
    answer = Answer(CONTENT, drop_after=300_000, drops=2, ranges=False)
    with Server({"/a": answer}) as server:
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_range_that_is_not_the_one_asked_for_is_not_used(tmp_path):
    answer = Answer(CONTENT, drop_after=300_000, drops=1, wrong_range=True)
    with Server({"/a": answer}) as server:
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [asked is None for _, asked in server.asked] == [True, False, True]


def test_a_rest_that_is_shorter_than_it_should_be_is_continued_too(tmp_path):
    answer = Answer(CONTENT, drop_after=300_000, drops=1, rest=200_000)
    with Server({"/a": answer}) as server:
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert all(asked for _, asked in server.asked[1:]), "never from the start again"


def test_a_file_that_changed_meanwhile_is_read_from_the_start(tmp_path):
    answer = Answer(b"x" * len(CONTENT), drop_after=300_000, etag='"old"')
    with Server({"/a": answer}) as server:
        with pytest.raises(FetchError):
            once = Downloader(1)
            once.download([server.url("/a")], tmp_path / "a", anything, 10**7)
        assert (tmp_path / "a.part").stat().st_size > 0
        server.answers["/a"] = Answer(CONTENT, etag='"new"')
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) == 2, "the server is told which version the part is of"


def test_a_part_spliced_from_two_versions_is_noticed_and_read_again(tmp_path):
    """Without an ETag nobody can tell that the file changed, but its check does."""
    answer = Answer(b"x" * len(CONTENT), drop_after=300_000, etag=None)
    with Server({"/a": answer}) as server:
        with pytest.raises(FetchError):
            once = Downloader(1)
            once.download([server.url("/a")], tmp_path / "a", anything, 10**7)
        server.answers["/a"] = Answer(CONTENT, etag=None)
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_part_of_another_address_is_not_continued(tmp_path):
    answers = {"/a": Answer(CONTENT[::-1], drop_after=300_000, ranges=False), "/b": Answer(CONTENT)}
    with Server(answers) as server:
        assert get(server, tmp_path / "a", "/a", "/b") == server.url("/b")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [asked for path, asked in server.asked if path == "/b"] == [None]


def test_a_part_that_was_whole_already_is_only_renamed(tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    with Server({"/a": Answer(CONTENT)}) as server:
        note = {"address": server.url("/a"), "version": '"1"', "total": len(CONTENT)}
        (tmp_path / "a.part.json").write_text(json.dumps(note))
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.sent == 0


@pytest.mark.parametrize("note", [None, "", "{", "[]", '{"address": 5}', '{"address": "URL"}'])
def test_a_part_without_a_sound_note_is_not_trusted(tmp_path, note):
    (tmp_path / "a.part").write_bytes(b"other bytes")
    with Server({"/a": Answer(CONTENT)}) as server:
        if note is not None:
            text = note.replace("URL", server.url("/a"))
            (tmp_path / "a.part.json").write_text(text)
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [500, 503, 429])
def test_errors_that_pass_are_waited_for(tmp_path, status):
    with Server({"/a": Answer(CONTENT, failures=[status, status])}) as server:
        get(server, tmp_path / "a", "/a")
    assert (tmp_path / "a").read_bytes() == CONTENT and len(server.asked) == 3


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("40000", 60)])
def test_the_wait_that_a_server_asks_for_is_kept(tmp_path, monkeypatch, asked, waited):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with Server({"/a": Answer(CONTENT, failures=[429], retry_after=asked)}) as server:
        get(server, tmp_path / "a", "/a")
    assert max(waits) == waited


def test_errors_that_last_lead_to_the_next_address(tmp_path):
    answers = {"/a": Answer(CONTENT, failures=[500] * 99), "/c": Answer(CONTENT)}
    with Server(answers) as server:
        assert get(server, tmp_path / "a", "/a", "/b", "/c") == server.url("/c")
    assert [path for path, _ in server.asked] == ["/a", "/a", "/a", "/b", "/c"], "404 is final"


def test_what_every_address_answered_is_said(tmp_path):
    with Server({"/a": Answer(failures=[500] * 9)}) as server, pytest.raises(FetchError) as caught:
        get(server, tmp_path / "x", "/a", "/b")
    message = str(caught.value)
    for said in (str(tmp_path / "x"), "/a: the server answered 500 (3 attempts)", "/b", "404"):
        assert said in message
    assert tree(tmp_path) == {}


def test_nobody_at_the_address_is_said(tmp_path):
    with Server({}) as server:
        address = server.url("/a")
    with pytest.raises(FetchError, match="the connection failed .ConnectionError. .3 attempts."):
        QUICK.download([address], tmp_path / "a", anything, 10**7)


@pytest.mark.parametrize("address", ["example.org/a", "htp://example.org/a", "http://"])
def test_an_address_that_is_none_is_said(tmp_path, address):
    with pytest.raises(FetchError, match=f"{address}: not an address of the web .") as caught:
        QUICK.download([address], tmp_path / "a", anything, 10**7)
    assert "attempts" not in str(caught.value)


def test_a_server_that_falls_silent_is_left(tmp_path):
    silent = Answer(CONTENT, pause=lambda: time.sleep(3))
    with Server({"/a": silent}) as server, pytest.raises(FetchError, match="2 attempts"):
        impatient = Downloader(2, 0.01, 1, 0.3)
        impatient.download([server.url("/a")], tmp_path / "a", anything, 10**7)


def test_a_length_that_is_too_long_is_not_believed(tmp_path):
    answer = Answer(CONTENT, length=len(CONTENT) + 500)
    with Server({"/a": answer}) as server, pytest.raises(FetchError) as caught:
        get(server, tmp_path / "a", "/a")
    assert "attempts" in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_a_length_that_is_too_short_is_noticed_by_the_check(tmp_path):
    with Server({"/a": Answer(CONTENT, length=5000)}) as server:
        with pytest.raises(FetchError, match="gave a file that is not it: other bytes"):
            get(server, tmp_path / "a", "/a")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("length", "said"),
    [(None, "1,024,000 bytes, where at most 5,000 are taken"), (-1, "more than the 5,000 bytes")],
)
def test_more_than_the_limit_is_not_taken(tmp_path, length, said):
    with Server({"/a": Answer(CONTENT, length=length)}) as server:
        with pytest.raises(FetchError, match=said):
            get(server, tmp_path / "a", "/a", limit=5000)
    assert tree(tmp_path) == {}


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(tmp_path):
    with Server({"/a": Answer(CONTENT, length=10**16)}) as server:
        with pytest.raises(DiskFull, match=r"GB more are needed.*Make room"):
            get(server, tmp_path / "a", "/a", "/b", limit=10**17)
    assert len(server.asked) == 1 and tree(tmp_path) == {}
    with pytest.raises(DiskFull, match="Make room, or choose a folder on another disk"):
        require_space(tmp_path, 10**17)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_is_not_a_zip(tmp_path, kind):
    page = b"<!DOCTYPE html><html>This domain is for sale</html>"
    with Server({"/a.zip": Answer(page, type=kind)}) as server:
        with pytest.raises(FetchError, match="web page|begins with b'<!DOCTYPE html>"):
            get(server, tmp_path / "a.zip", "/a.zip", check=lambda path: check_zip(path, 10**6))
    assert tree(tmp_path) == {}


# A whole data set.


@pytest.fixture
def published():
    """A server that has UNC (of six photos) and GloVe."""
    answers = {"/refcoco.zip": Answer(refcoco_zip(6)), "/glove.840B.300d.zip": Answer(glove_zip())}
    for number in range(1, 7):
        answers[f"/train2014/{image_name(number)}"] = Answer(photo(number), type="image/jpeg")
    with Server(answers) as server:
        yield server


def fetch(server: Server, data: Path, dataset: str = "unc", download: bool = True, **options):
    sources = NO_SOURCES.first(server.url()) if download else NO_SOURCES
    return Fetch(data, dataset, sources=sources, web=QUICK, **options).run()


def paths(server: Server) -> list[str]:
    return [path for path, _ in server.asked]


def test_a_whole_data_set_comes_and_is_not_fetched_twice(published, tmp_path):
    report = fetch(published, tmp_path, glove=True)
    assert report.complete
    for said in ("6 refs, 12 sentences, on 6 photos", "6 of 6", "2 of 10 words have a vector"):
        assert said in str(report)
    assert len(read_expressions(tmp_path, "unc", "train")) == 10
    vectors, missing = read_glove(tmp_path / GLOVE_TEXT, ["left", "cup", "man"])
    assert vectors.shape == (3, 5) and missing == ["man"] and vectors[:2].any(axis=1).all()

    asked, before = len(published.asked), tree(tmp_path)
    for verify in (False, True):
        assert fetch(published, tmp_path, glove=True, verify=verify).complete
    assert len(published.asked) == asked == 8 and tree(tmp_path) == before


def test_only_what_is_missing_or_damaged_is_fetched_again(published, tmp_path):
    fetch(published, tmp_path, glove=True)
    before = tree(tmp_path)
    del published.asked[:]
    photos = tmp_path / PHOTOS
    (photos / image_name(1)).unlink()
    (photos / image_name(2)).write_bytes(photo(2)[:-200])  # its header is whole
    (photos / image_name(3)).write_bytes(b"")
    instances = tmp_path / "refcoco" / "instances.json"
    instances.write_text(instances.read_text().replace("person", "pers0n"))  # of the same length
    glove = tmp_path / GLOVE_TEXT
    glove.write_bytes(glove.read_bytes().replace(b"1", b"2"))

    looked = fetch(published, tmp_path, glove=True, download=False)
    assert not looked.complete and published.asked == []
    assert "4 of 6 (0 of them new); 2 are missing" in str(looked), "a quick look reads the headers"
    with pytest.raises(FetchError, match="instances.json: missing, or not as it was fetched"):
        fetch(published, tmp_path, download=False, verify=True)

    assert fetch(published, tmp_path, glove=True, verify=True).complete
    assert sorted(paths(published)) == [f"/train2014/{image_name(n)}" for n in (1, 2, 3)]
    damaged = instances.with_name("instances.json.damaged")
    assert "pers0n" in damaged.read_text(), "what was there may be somebody's work"
    damaged.unlink()
    after = tree(tmp_path)
    assert {**after, "downloads/fetched.json": b""} == {**before, "downloads/fetched.json": b""}


def test_a_second_data_set_in_the_folder_takes_the_glove_that_is_there(published, tmp_path):
    fetch(published, tmp_path, glove=True)
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w") as archive,
        zipfile.ZipFile(io.BytesIO(refcoco_zip(6))) as first,
    ):
        for name in ("instances.json", "refs(unc).p"):
            archive.writestr(f"refcoco+/{name}", first.read(f"refcoco/{name}"))
    published.answers["/refcoco+.zip"] = Answer(stream.getvalue())
    del published.asked[:]
    assert fetch(published, tmp_path, glove=True, dataset="unc+").complete
    assert paths(published) == ["/refcoco+.zip"]


@pytest.mark.parametrize("release", ["train2014", "train2017"])
@pytest.mark.parametrize("form", ["folder", "folder around it", "zip"])
def test_photos_come_from_what_is_there_already(published, tmp_path, form, release):
    def name_of(number: int) -> str:
        return image_name(number).removeprefix("COCO_train2014_" * (release == "train2017"))

    have = tmp_path / "have" / release
    have.mkdir(parents=True)
    for number in (1, 2, 3, 4, 5):
        (have / name_of(number)).write_bytes(photo(number))
    (have / name_of(2)).write_bytes(photo(2)[:100])  # damaged: comes from the web
    place = have if form == "folder" else have.parent
    if form == "zip":
        place = tmp_path / "photos.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted(have.iterdir()):
                archive.write(path, f"{release}/{path.name}")
    assert fetch(published, tmp_path / "data", images_from=place).complete
    assert sorted(paths(published))[1:] == [f"/train2014/{image_name(n)}" for n in (2, 6)]
    assert len(read_expressions(tmp_path / "data", "unc", "train")) == 10


def test_photos_come_from_a_folder_that_lacks_many(tmp_path):
    write_small(tmp_path, images=40)
    (tmp_path / PHOTOS).rename(tmp_path / "have")
    for number in range(1, 36):
        (tmp_path / "have" / image_name(number)).unlink()
    with Server({}) as server:
        report = fetch(server, tmp_path, images_from=tmp_path / "have")
    assert "5 of 40 (5 of them new); 35 are missing" in str(report)
    assert f"{image_name(1)}: not in {tmp_path / 'have'}. " in str(report)
    assert "the server answered 404" in str(report)


def test_photos_from_nowhere_are_refused_before_anything_is_fetched(published, tmp_path):
    with pytest.raises(FetchError, match="nowhere: no folder and no zip. Name the folder"):
        fetch(published, tmp_path / "data", images_from=tmp_path / "nowhere")
    assert published.asked == []


def test_photos_that_cannot_be_had_are_counted_and_the_rest_comes(published, tmp_path):
    del published.answers[f"/train2014/{image_name(2)}"]
    published.answers[f"/train2014/{image_name(5)}"].content = photo(5)[:-100]
    report = fetch(published, tmp_path)
    assert not report.complete and "Not everything is there." in str(report)
    assert "4 of 6 (4 of them new); 2 are missing, the first COCO_train2014_" in str(report)
    assert sorted(path.name for path in (tmp_path / PHOTOS).iterdir()) == [
        image_name(n) for n in (1, 3, 4, 6)
    ]


def test_a_server_without_photos_is_left_after_some(tmp_path):
    with Server({"/refcoco.zip": Answer(refcoco_zip(200))}) as server:
        report = fetch(server, tmp_path)
    assert not report.complete and "0 of 200" in str(report) and "200 are missing" in str(report)
    assert len(server.asked) < 80


def test_a_hostile_zip_is_answered_by_the_next_address(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../outside", "x")
    answers = {"/bad.zip": Answer(stream.getvalue()), "/refcoco.zip": Answer(refcoco_zip())}
    for number in range(1, 5):
        answers[f"/train2014/{image_name(number)}"] = Answer(photo(number), type="image/jpeg")
    with Server(answers) as server:
        good = NO_SOURCES.first(server.url())
        sources = Sources((server.url("/bad.zip"), *good.annotations), good.photos, ())
        fetch_it = Fetch(tmp_path / "data", "unc", sources=sources, web=QUICK)
        assert fetch_it.run().complete
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_damaged_glove_is_deleted_and_fetched_again(published, tmp_path):
    good = published.answers["/glove.840B.300d.zip"].content
    at = len(good) // 2
    published.answers["/glove.840B.300d.zip"].content = (
        good[:at] + bytes(byte ^ 255 for byte in good[at : at + 20]) + good[at + 20 :]
    )
    with pytest.raises(FetchError, match="zip gave a file that is not it: .*glove.*amaged"):
        fetch(published, tmp_path, glove=True)
    assert not (tmp_path / GLOVE_TEXT).exists()
    published.answers["/glove.840B.300d.zip"].content = good
    assert fetch(published, tmp_path, glove=True).complete


def test_data_that_somebody_put_there_is_used(published, tmp_path):
    write_small(tmp_path, images=6)
    assert fetch(published, tmp_path, verify=True).complete and published.asked == []
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(b"\x80")
    with pytest.raises(DataError, match=r"refs\(unc\).p: not a refs file"):
        fetch(published, tmp_path)
    assert fetch(published, tmp_path, verify=True).complete
    assert paths(published) == ["/refcoco.zip"]


def test_a_second_fetch_into_one_folder_is_refused(published, tmp_path):
    errors = []

    def second() -> None:
        if not errors:
            errors.append(None)
            with pytest.raises(FetchError, match="another fetch is at work in this folder") as one:
                fetch(published, tmp_path)
            errors.append(one)

    published.answers["/refcoco.zip"].pause = second
    assert fetch(published, tmp_path).complete
    assert len(errors) == 2


def test_a_damaged_list_of_what_was_fetched_is_named(published, tmp_path):
    fetch(published, tmp_path)
    (tmp_path / "downloads" / "fetched.json").write_text("{")
    with pytest.raises(DataError, match=r"fetched.json: not readable as JSON .* Delete it."):
        fetch(published, tmp_path)


def test_killed_at_random_moments_it_loses_no_finished_file(tmp_path):
    """kill -9 again and again; the last run completes, and nothing finished came twice."""
    slow = {"pause": lambda: time.sleep(0.03)}  # for each 64 KiB
    large = {number: photo(number) + bytes(200_000) for number in range(1, 41)}
    answers = {"/refcoco.zip": Answer(refcoco_zip(40), **slow)}
    for number, content in large.items():
        answers[f"/train2014/{image_name(number)}"] = Answer(content, "image/jpeg", **slow)
    command = [
        sys.executable,
        "-m",
        "shnet_lib",
        "data",
        "fetch",
        "--dataset",
        "unc",
        "--workers",
        "2",
    ]
    photos = tmp_path / PHOTOS
    killed = finished = 0
    with Server(answers) as server:
        command += ["--data", str(tmp_path), "--mirror", server.url()]
        for more in (0, 1, 7, 12):
            run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            begun = len(server.asked)
            while run.poll() is None and len(server.asked) <= begun + more:
                time.sleep(0.005)
            run.send_signal(signal.SIGKILL)
            killed += run.wait() == -signal.SIGKILL
            whole_now = [path for path in photos.glob("*.jpg")] if photos.is_dir() else []
            assert len(whole_now) >= finished
            finished = len(whole_now)
            for path in whole_now:
                assert path.read_bytes() == large[int(path.stem[-6:])], "half a photo has its name"
        assert killed == 4
        whole_before = {path.name for path in photos.glob("*.jpg")}
        del server.asked[:]
        last = subprocess.run(command, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert "40 of 40" in last.stdout and "Everything is there." in last.stdout
    again = {path.split("/")[-1] for path in paths(server)}
    assert whole_before and not whole_before & again and "refcoco.zip" not in again
    assert not [*tmp_path.rglob("*.part*"), *tmp_path.rglob("*.new")]


# The command, and what it says.


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("referit", "ReferIt cannot be fetched.*owners of IAPR TC-12.*lay them out"),
        ("refshapes-unc", "is generated: run `shnet data make refshapes"),
        ("coco", "There is no data set 'coco'"),
    ],
)
def test_what_cannot_be_fetched_is_said_with_the_remedy(tmp_path, capsys, dataset, said):
    assert main(["data", "fetch", "--dataset", dataset, "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and len(error.splitlines()) == 1
    assert tree(tmp_path) == {}


def test_the_help_says_that_the_addresses_were_not_reached(capsys):
    with pytest.raises(SystemExit):
        main(["data", "fetch", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "None of these addresses was reached when this was written" in said


def test_refclefs_annotations_come_and_its_photos_are_asked_for(tmp_path):
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w") as archive,
        zipfile.ZipFile(io.BytesIO(refcoco_zip())) as first,
    ):
        for name in ("instances.json", "refs(unc).p"):
            archive.writestr(f"refclef/{name}", first.read(f"refcoco/{name}"))
    with Server({"/refclef.zip": Answer(stream.getvalue())}) as server:
        report = fetch(server, tmp_path, dataset="refclef")
    assert not report.complete and "owners of IAPR TC-12 alone" in str(report)
    assert paths(server) == ["/refclef.zip"]


def test_the_report_of_a_folder_that_lacks_something_ends_with_status_2(tmp_path, capsys):
    write_small(tmp_path)
    (tmp_path / PHOTOS / image_name(1)).unlink()
    arguments = ["data", "fetch", "--dataset", "unc", "--data", str(tmp_path), "--no-download"]
    assert main(arguments) == 2
    out = capsys.readouterr().out
    assert "3 of 4" in out and "no such file" in out and "model.backbone_weights" in out
    (tmp_path / PHOTOS / image_name(1)).write_bytes(photo(1))
    assert main(arguments) == 0


def test_a_disk_that_cannot_be_written_is_said(tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir()
    (folder / "a.part").mkdir()
    (folder / "a.part" / "x").touch()
    with Server({"/a": Answer(CONTENT)}) as server, pytest.raises(DiskFull, match="Make room"):
        get(server, folder / "a", "/a")
    assert os.listdir(folder) == ["a.part"]


# COCO's validation photos, of which phrases can be made.


def coco_2017(instances: object) -> bytes:
    """What annotations_trainval2017.zip holds."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("annotations/instances_train2017.json", "{}")
        archive.writestr("annotations/instances_val2017.json", json.dumps(instances))
    return stream.getvalue()


@pytest.fixture
def coco():
    """A server that has COCO's validation split, of six photos called by their numbers alone."""
    instances = make_instances(6)
    for image in instances["images"]:
        image["file_name"] = image["file_name"].removeprefix("COCO_train2014_")
    answers = {"/annotations_trainval2017.zip": Answer(coco_2017(instances))}
    for number in range(1, 7):
        answers[f"/val2017/{number:012}.jpg"] = Answer(photo(number), type="image/jpeg")
    with Server(answers) as server:
        yield server


def test_some_of_cocos_photos_come_with_their_annotations_alone(coco, tmp_path):
    report = fetch(coco, tmp_path, "coco-val", photos=2)
    assert report.complete and "2 things on 2 photos" in str(report) and "2 of 2" in str(report)
    assert sorted(paths(coco)[1:]) == [f"/val2017/{number:012}.jpg" for number in (1, 2)]
    kept = json.loads((tmp_path / "coco-val" / "instances.json").read_text())
    assert [image["id"] for image in kept["images"]] == [1, 2]
    assert [thing["id"] for thing in kept["annotations"]] == [10, 20]
    assert kept["categories"] == make_instances()["categories"]

    assert fetch(coco, tmp_path, "coco-val", verify=True).complete, "all, and the zip is kept"
    assert sorted(paths(coco)[3:]) == [f"/val2017/{number:012}.jpg" for number in (3, 4, 5, 6)]
    kept = json.loads((tmp_path / "coco-val" / "instances.json").read_text())
    assert len(kept["images"]) == len(kept["annotations"]) == 6


def test_cocos_photos_without_the_web(coco, tmp_path):
    with pytest.raises(FetchError, match="instances_val2017.json: missing, or not as it was"):
        fetch(coco, tmp_path, "coco-val", download=False)
    fetch(coco, tmp_path, "coco-val", photos=1)
    report = fetch(coco, tmp_path, "coco-val", download=False, photos=3)
    assert not report.complete and "1 of 3 (0 of them new); 2 are missing" in str(report)


@pytest.mark.parametrize("wrong", [[], {"images": [{"id": 1}]}, {"images": 3, "annotations": []}])
def test_an_instance_file_that_is_none_is_named(coco, tmp_path, wrong):
    coco.answers["/annotations_trainval2017.zip"] = Answer(coco_2017(wrong))
    with pytest.raises(DataError, match="instances_val2017.json: .*Delete it, and fetch it again"):
        fetch(coco, tmp_path, "coco-val")

"""shnet data check: what a person sees before a run."""

import subprocess
import sys

from shnet_lib.command import main


def lines(text: str) -> list[list[str]]:
    """The words of each printed line."""
    return [line.split() for line in text.splitlines()]


def test_one_line_a_split_with_the_published_numbers_of_the_sample(refer_real, capsys):
    assert main(["data", "check", "--dataset", "unc", "--data", str(refer_real)]) == 0
    out, err = capsys.readouterr()
    assert lines(out) == [
        ["train", "56", "images", "173", "refs", "494", "expressions"],
        ["val", "8", "images", "31", "refs", "91", "expressions"],
        ["testA", "8", "images", "31", "refs", "87", "expressions"],
        ["testB", "8", "images", "30", "refs", "87", "expressions"],
    ]
    assert err == ""


def test_a_missing_file_is_named_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "shnet_lib", "data", "check", "--dataset", "unc"]
    run = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert str(tmp_path / "refcoco" / "refs(unc).p") in run.stderr
    assert "data/README.md" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path, capsys):
    assert main(["data", "check", "--dataset", "coco", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "'coco'" in error and "refshapes-unc" in error and "gref-umd" in error

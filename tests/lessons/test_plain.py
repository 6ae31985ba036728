"""Lessons that show a learner the matter and nothing of the machinery around it."""

import re
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

TEXTS = Path(__file__).parents[2] / "notebooks" / "text"
# What serves checks, screen readers and formatters, and the cutting up of source code
LESSONS = (
    "01_data_and_words",
    "02_features",
    "03_sfm",
    "04_hcam",
    "05_decoder_and_shnet",
    "06_training",
    "06b_training_on_a_gpu",
    "07_evaluation",
    "08_ablations",
    "09_looking_inside",
    "10_train_unc",
)
MACHINERY = ("NBVAL", "alt=", "fmt: skip", "inspect.", "os.environ", ".cleanup()", ".index(")


@pytest.fixture(params=LESSONS)
def lesson(request) -> NotebookNode:
    return jupytext.read(TEXTS / f"{request.param}.py")


def prose(lesson: NotebookNode) -> str:
    return "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")


def test_no_cell_shows_machinery(lesson):
    code = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    assert not [(word, cell) for cell in code for word in MACHINERY if word in cell]


def test_a_lesson_is_of_one_sitting(lesson):
    assert 25 <= len(lesson.cells) <= 50


def test_a_reader_predicts_before_a_run_that_surprises(lesson):
    assert prose(lesson).count("**Predict") >= 3


def test_five_questions_with_folded_answers_stand_at_the_end(lesson):
    (questions,) = [c.source for c in lesson.cells if "## Five questions" in c.source]
    asked, answered = questions.split("## Five questions")[1].split("<details>")
    for part in (asked, answered):
        assert re.findall(r"^(\d)\. .{10,}", part, flags=re.MULTILINE) == list("12345")
    assert answered.rstrip().endswith("</details>")


def test_every_fold_out_is_closed_and_can_be_read(lesson):
    """Markdown inside of it needs an empty line after its head and before its end."""
    text = prose(lesson)
    assert text.count("<details>") == text.count("</details>") >= 1
    assert len(re.findall(r"<details><summary>.+</summary>\n\n", text)) == text.count("<details>")
    assert text.count("\n\n</details>") == text.count("<details>")


@pytest.mark.parametrize("lesson", LESSONS[:-1], indirect=True)  # the last one has none of its own
def test_exercises_are_linked_where_they_belong(lesson):
    assert prose(lesson).count("**Now you:**") >= 3

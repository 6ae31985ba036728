"""The lessons stay what they promise: whole, executed, in step with their texts, within bounds."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from shnet_course.checks import LESSONS as LESSONS_WITH_CHECKS
from shnet_course.progress import progress_page
from shnet_course.tools.make_lessons import (
    WIDGET,
    execute,
    keep_what_is_read,
    main,
    make,
    read_text,
)

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
HEAD = re.compile(
    r"# \d\d[a-z]? · .+\n\n\*.+ · .*(second|minute)s?\b.*\*\n\n\*\*You need to know\*\*"
)
WORDS, LINES = 2000, 20  # of prose a lesson, of code a cell
CHECKED = "nbval-check-output"
# A path of the machine that a lesson was made on says nothing to a reader.
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt)/")


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def printed(cell: NotebookNode) -> str:
    """Everything a reader sees under a cell, as text."""
    texts = [output.get("text", "") for output in cell.outputs]
    return "\n".join(
        texts + [o.data.get("text/plain", "") + o.data.get("text/html", "") for o in data_of(cell)]
    )


def data_of(cell: NotebookNode) -> list[NotebookNode]:
    return [o for o in cell.outputs if o.output_type in ("display_data", "execute_result")]


def is_compared(cell: NotebookNode) -> bool:
    """Marked for nbval: by a tag, or by the first line of the cell."""
    return CHECKED in cell.metadata.get("tags", []) or cell.source.startswith(
        "# NBVAL_CHECK_OUTPUT"
    )


def bullets(text: str) -> list[str]:
    return re.findall(r"^- .+", text, flags=re.MULTILINE)


def test_every_text_has_its_notebook_and_every_notebook_its_text():
    assert LESSONS
    assert [path.stem for path in LESSONS] == sorted(
        path.stem for path in (NOTEBOOKS / "text").glob("*.py")
    )


def test_notebook_and_text_are_in_step(path, notebook):
    text = read_text(NOTEBOOKS / "text" / f"{path.stem}.py")

    def content(cell: NotebookNode) -> tuple:
        return cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])

    remedy = f"make lessons LESSONS={path.stem}"
    assert [content(c) for c in notebook.cells] == [content(c) for c in text.cells], remedy


def test_no_two_notebooks_of_a_folder_share_an_id_of_a_cell():
    """Ids begin with a lesson's number; 06 and 06b share two digits."""
    for folder in ("notebooks", "exercises", "solutions"):
        files = sorted((NOTEBOOKS.parent / folder).glob("*.ipynb"))
        ids = [cell.id for file in files for cell in nbformat.read(file, as_version=4).cells]
        assert len(ids) == len(set(ids)) > len(files), folder


def test_every_cell_was_executed_in_order_and_none_failed(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.output_type for cell in code_cells(notebook) for output in cell.outputs}
    assert "error" not in kinds


def test_outputs_hold_only_what_a_reader_can_read(notebook):
    for cell in code_cells(notebook):
        assert not [o for o in cell.outputs if o.get("name") == "stderr"], cell.source
        assert not [o for o in data_of(cell) if WIDGET in o.data], cell.source
        assert not MACHINE_PATH.search(printed(cell)), cell.source


def test_every_figure_has_a_text_for_those_who_cannot_see_it(notebook):
    for cell in code_cells(notebook):
        for output in data_of(cell):
            if "image/png" in output.data:
                alt = output.data["text/plain"]
                assert len(alt) >= 25 and not alt.startswith("<"), (cell.source, alt)


def test_no_picture_is_loaded_from_the_web(notebook):
    for text in [*prose(notebook), *map(printed, code_cells(notebook))]:
        assert not re.search(r"!\[[^\]]*\]\(http|<img[^>]+src=.http", text)


def test_links_lead_to_files_that_exist(path, notebook):
    for text in prose(notebook):
        for target in re.findall(r"\]\(([^)#]+)", text):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), target


def test_the_anatomy_of_a_lesson(notebook):
    head, *rest = prose(notebook)
    opening = next(t for t in (head, *rest) if "In this lesson you will" in t)
    closing = next(t for t in rest if t.startswith("## What you have seen"))
    assert HEAD.match(head), head[:200]
    assert 3 <= len(bullets(opening.split("In this lesson you will")[1])) <= 6
    assert len(bullets(closing)) == len(bullets(opening.split("In this lesson you will")[1]))


def test_lessons_are_short(notebook):
    words = sum(len(re.sub(r"\$[^$]*\$", "x", text).split()) for text in prose(notebook))
    assert words <= WORDS
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= LINES, cell.source


def test_outputs_are_compared_where_they_are_deterministic(path, notebook):
    """And nothing is hidden from nbval without a reason after its marker."""
    compared = [cell for cell in code_cells(notebook) if is_compared(cell)]
    if path.stem != "10_train_unc":  # its figures depend on the preset
        assert len(compared) >= 3
    for cell in compared:
        assert printed(cell).strip(), f"compared, but prints nothing: {cell.source}"
    for cell in code_cells(notebook):
        for marker in ("NBVAL_IGNORE_OUTPUT", "NBVAL_SKIP", "NBVAL_RAISES_EXCEPTION"):
            found = re.search(rf"# {marker}(.*)", cell.source)
            assert not found or len(found[1].split()) >= 3, f"{marker} needs a reason"


def test_a_lesson_leads_to_its_exercises_and_only_where_there_are_some(path, notebook):
    closing = next(t for t in prose(notebook) if t.startswith("## What you have seen"))
    link = f"Practise: [the exercises of this lesson](../exercises/{path.stem}_ex.ipynb)."
    exists = (NOTEBOOKS.parent / "exercises" / f"{path.stem}_ex.ipynb").exists()
    assert (link in closing.splitlines()) == exists, link


def test_the_stored_progress_is_that_of_a_learner_who_passed_nothing(tmp_path):
    notebook = nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    (cell,) = [cell for cell in code_cells(notebook) if "progress_page(" in cell.source]
    ((output,),) = [data_of(cell)]
    nothing = progress_page(LESSONS_WITH_CHECKS, tmp_path / "none.json")
    assert output.data["text/markdown"] == nothing, "make lessons LESSONS=00_start_here"


# --- the command that makes them ------------------------------------------------------------------

TEXT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 77 · A lesson

# %%
import os, sys
from IPython.display import display
from ipywidgets import IntSlider
print("told", os.path.basename(os.getcwd()))
print("a log", file=sys.stderr)
display(IntSlider())
bundle = IntSlider()._repr_mimebundle_() | {"image/png": "aGVsbG8=", "text/plain": "a slider"}
display(bundle, raw=True)
"""


@pytest.fixture
def text(tmp_path) -> Path:
    folder = tmp_path / "notebooks" / "text"
    folder.mkdir(parents=True)
    (folder / "77_lesson.py").write_text(TEXT)
    return folder / "77_lesson.py"


def test_made_on_a_clean_kernel_with_only_what_a_reader_can_read(text):
    notebook = nbformat.read(make(text), as_version=4)
    nbformat.validate(notebook)
    (cell,) = code_cells(notebook)
    assert cell.execution_count == 1
    stream, picture = cell.outputs
    assert (stream.name, stream.text) == ("stdout", "told notebooks\n")
    assert picture.data == {"image/png": "aGVsbG8=", "text/plain": "a slider"}


def test_made_twice_it_is_the_same_to_the_byte(text):
    first = make(text).read_bytes()
    assert make(text).read_bytes() == first


def test_a_cell_that_fails_stops_the_making_and_keeps_the_old_notebook(text, capsys):
    old = make(text).read_bytes()
    text.write_text(TEXT + "\nraise ValueError('a mistake')\n")
    with pytest.raises(CellExecutionError, match="a mistake"):
        execute(read_text(text), text.parent)
    assert main([str(text)]) == 2
    assert "a mistake" in capsys.readouterr().err
    assert (text.parents[1] / "77_lesson.ipynb").read_bytes() == old


def test_a_lesson_that_does_not_exist_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "88_none.py")]) == 2
    assert "88_none.py" in capsys.readouterr().err


def test_a_widget_without_a_picture_leaves_nothing():
    view = nbformat.v4.new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "bar"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[view])])
    assert keep_what_is_read(notebook).cells[0].outputs == []


def test_printed_pieces_are_joined():
    def printed_piece(text: str) -> NotebookNode:
        return nbformat.v4.new_output("stream", name="stdout", text=text)

    picture = nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8=", "text/plain": "a"})
    pieces = [printed_piece("a\n"), printed_piece("b\n"), picture, printed_piece("c\n")]
    cell = nbformat.v4.new_code_cell("x", outputs=pieces)
    (cell,) = keep_what_is_read(nbformat.v4.new_notebook(cells=[cell])).cells
    assert [output.get("text") for output in cell.outputs] == ["a\nb\n", None, "c\n"]

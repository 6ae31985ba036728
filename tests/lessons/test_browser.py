"""The lessons in a real browser: JupyterLab in Chromium runs them, and their controls do something.

The server works on a copy, so that no learner's file is touched.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

COURSE = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MINUTES = 60_000  # milliseconds

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
    pytest.mark.skipif(
        not (COURSE / "data" / "refshapes").exists(), reason="RefShapes is missing: make data"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that knows nothing of this machine's settings."""
    folder = tmp_path_factory.mktemp("lab")
    notebooks = folder / "course" / "notebooks"
    shutil.copytree(COURSE / "notebooks", notebooks)
    for text in (notebooks / "text").iterdir():
        text.touch()  # as in a clone: a notebook that is newer than its text opens if equal alone
    cut_behind(notebooks / "07_evaluation.ipynb", "partial(draw_threshold")
    fewer(notebooks / "07_evaluation.ipynb", 400)
    cut_behind(notebooks / "09_looking_inside.ipynb", "TokenPicker(")
    (folder / "course" / "data").symlink_to(COURSE / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {
        name: str(folder / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    places |= {f"JUPYTERLAB_{n}_DIR": str(folder / n) for n in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=", "--LabApp.news_url="]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class="]
    command[-1] += "jupyterlab.handlers.announcements.NeverCheckForUpdate"
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        command, cwd=folder / "course", env=os.environ | places, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
        yield address
    finally:
        lab = psutil.Process(process.pid)
        processes = [lab, *lab.children(recursive=True)]  # its kernels are in sessions of their own
        process.terminate()
        _, left = psutil.wait_procs(processes, timeout=30)
        for each in left:  # a kernel that still computes keeps the server from ending
            each.kill()
        process.wait(30)


def cut_behind(notebook: Path, text: str) -> None:
    """Leave out the cells behind the first one with this text: their minutes are nbval's.

    The cut notebook is no longer the pair of its text: jupytext would refuse to open the two.
    """
    document = json.loads(notebook.read_text(encoding="utf-8"))
    there = [text in "".join(cell["source"]) for cell in document["cells"]]
    document["cells"] = document["cells"][: there.index(True) + 1]
    del document["metadata"]["jupytext"]
    notebook.write_text(json.dumps(document), encoding="utf-8")


def fewer(notebook: Path, count: int) -> None:
    """Let a lesson read only the first expressions of val."""
    text = notebook.read_text(encoding="utf-8")
    assert text.count('\\"val\\")') == 1
    notebook.write_text(text.replace('\\"val\\")', f'\\"val\\")[:{count}]'), encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Lesson:
    """A lesson opened in JupyterLab."""

    def __init__(self, browser, server: str, name: str) -> None:
        self.page = browser.new_page(viewport={"width": 1400, "height": 5000})
        self.page.goto(f"{server}/lab/tree/notebooks/{name}.ipynb?reset")
        # Lab says idle before there is a kernel: ask the session, the connection and the kernel.
        self.wait(
            """() => {
                const session = window.jupyterapp?.shell?.currentWidget?.sessionContext;
                const kernel = session?.session?.kernel;
                return session?.isReady && kernel?.connectionStatus === 'connected'
                    && kernel?.status === 'idle';
            }"""
        )

    def wait(self, condition: str, argument=None) -> None:
        self.page.wait_for_function(condition, arg=argument, timeout=5 * MINUTES, polling=250)

    def run_all(self) -> None:
        self.page.evaluate(
            """() => { window.ran = false; window.jupyterapp.commands
                .execute('notebook:run-all-cells').then(() => { window.ran = true; }); }"""
        )
        self.wait("() => window.ran")
        assert not self.errors()

    def errors(self) -> list[str]:
        return json.loads(
            self.page.evaluate(
                """() => JSON.stringify([...window.jupyterapp.shell.currentWidget.content.widgets]
                    .filter(cell => cell.model.type === 'code')
                    .flatMap(cell => cell.model.outputs.toJSON())
                    .filter(output => output.output_type === 'error')
                    .map(output => output.ename + ': ' + output.evalue))"""
            )
        )

    def pictures(self) -> list[str]:
        """The address of every picture on the page: a redrawn picture has another one."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.jp-OutputArea img')].map(image => image.src)"
        )

    def told(self) -> list[str]:
        """The text of every picture in the notebook, for those who cannot see it."""
        return json.loads(
            self.page.evaluate(
                """() => JSON.stringify([...window.jupyterapp.shell.currentWidget.content.widgets]
                    .filter(cell => cell.model.type === 'code')
                    .flatMap(cell => cell.model.outputs.toJSON())
                    .filter(output => output.data && output.data['image/png'])
                    .map(output => output.data['text/plain']))"""
            )
        )

    def until_redrawn(self, before: list[str]) -> None:
        self.wait(
            """before => JSON.stringify([...document.querySelectorAll('.jp-OutputArea img')]
                .map(image => image.src)) !== before""",
            json.dumps(before, separators=(",", ":")),
        )

    def slide(self, name: str) -> None:
        """One step to the right."""
        handle = self.page.locator(f".widget-slider:has-text('{name}') .noUi-handle").first
        handle.focus()
        handle.press("ArrowRight")

    def write(self, name: str, text: str, place: int = 0) -> None:
        field = self.page.locator(f".widget-text:has-text('{name}') input").nth(place)
        field.fill(text)
        field.press("Enter")

    def choose(self, name: str, option: str) -> None:
        menu = self.page.locator(f".widget-dropdown:has-text('{name}') select").first
        menu.select_option(option)


def test_00_answers_on_photos_and_a_file_and_on_another_scene(browser, server):
    lesson = Lesson(browser, server, "00_start_here")
    lesson.run_all()
    before = lesson.pictures()
    assert len(before) >= 4
    lesson.choose("photo", "woman")
    lesson.until_redrawn(before)
    before = lesson.pictures()
    lesson.write("phrase", "woman", place=0)
    lesson.until_redrawn(before)
    lesson.write("or a file", "none.jpg")  # told under the controls, the picture stays
    lesson.page.get_by_text("there is no image").wait_for(timeout=MINUTES)
    before = lesson.pictures()
    lesson.write("phrase", "the sand", place=1)
    lesson.until_redrawn(before)
    before = lesson.pictures()
    lesson.slide("scene")
    lesson.until_redrawn(before)
    assert not lesson.errors()
    lesson.write("phrase", "!", place=1)  # no word in it: told, and the picture stays
    lesson.page.get_by_text("holds no word").wait_for(timeout=MINUTES)


@pytest.mark.slow
def test_01_leafs_through_another_data_set_and_another_split(browser, server):
    lesson = Lesson(browser, server, "01_data_and_words")
    lesson.run_all()
    for name, choice in (("data set", "refshapes-gref"), ("split", "train")):
        before = lesson.pictures()
        lesson.choose(name, choice)
        lesson.until_redrawn(before)
    before = lesson.pictures()
    lesson.slide("index")
    lesson.until_redrawn(before)
    assert not lesson.errors()


@pytest.mark.slow
def test_07_moves_a_threshold_over_probability_maps(browser, server):
    lesson = Lesson(browser, server, "07_evaluation")
    lesson.run_all()
    before = lesson.pictures()
    assert "cut at 0.50" in lesson.told()[-1]
    lesson.slide("threshold")
    lesson.until_redrawn(before)
    assert "cut at 0.55" in lesson.told()[-1]
    assert not lesson.errors()


@pytest.mark.slow
def test_09_shows_what_a_clicked_pixel_and_a_clicked_word_look_at(browser, server):
    lesson = Lesson(browser, server, "09_looking_inside")
    lesson.run_all()
    before = lesson.pictures()
    lesson.page.locator("button[title='row 0, column 0']").click()
    lesson.until_redrawn(before)
    before = lesson.pictures()
    lesson.page.locator("button.jupyter-button:has-text('bottom')").click()
    lesson.until_redrawn(before)
    assert lesson.page.locator("button.jupyter-button:has-text('?')").count() == 1
    before = lesson.pictures()
    lesson.choose("layer", "1")
    lesson.until_redrawn(before)
    assert not lesson.errors()

"""The versions, the three ways to install, and the commands say the same thing everywhere."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
CONSTRAINTS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
# What is pinned for the Python and the system that run this.
PINS = {
    canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
    for pin in CONSTRAINTS
    if pin.marker is None or pin.marker.evaluate()
}
PYTHONS = ("3.11.0", "3.12", "3.13", "3.14")
# torch's wheels for macOS begin with macOS 14, on Apple's own processors.
SYSTEMS = ("x86_64-unknown-linux-gnu", "aarch64-apple-darwin")


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, for the library alone or with extras (and what they name)."""
    found = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
    for requirement in (Requirement(line) for extra in extras for line in EXTRAS[extra]):
        if requirement.name == PYPROJECT["project"]["name"]:
            found += declared(*requirement.extras)
        else:
            found.append(requirement)
    return found


def uv_compile(*options: str) -> subprocess.CompletedProcess:
    """uv resolves pyproject.toml with all extras; a skip, with its reason, where it cannot ask."""
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed here: make test installs it")
    command = [uv, "pip", "compile", "--quiet", "--all-extras", "--no-header", "--no-annotate"]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    run = subprocess.run(
        [*command, *options, "pyproject.toml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if "Failed to fetch" in run.stderr:
        pytest.skip("the package index cannot be reached from here")
    return run


def imported(folder: Path) -> set[str]:
    """The top-level names of the modules that the Python files below `folder` import."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names


def undeclared(folder: str, *extras: str) -> dict[str, list[str]]:
    """Imported module -> its distributions, where pyproject.toml declares none of them."""
    ours = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    ours |= {"benchmarks", "shnet_lib", "refgen", "shnet_course", "tests"}
    outside = imported(ROOT / folder) - set(sys.stdlib_module_names) - ours
    names = {canonicalize_name(requirement.name) for requirement in declared(*extras)}
    providers = importlib.metadata.packages_distributions()
    return {
        module: providers.get(module, [])
        for module in sorted(outside)
        if names.isdisjoint(canonicalize_name(name) for name in providers.get(module, []))
    }


def make(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """The course's make, run in its root, with `path` alone on the PATH if it is given."""
    command = ["make", "--no-print-directory", *arguments]
    environment = os.environ | ({"PATH": str(path)} if path else {})
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_constraints_are_exact_versions():
    assert [pin for pin in CONSTRAINTS if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_can_be_installed(python, system):
    """Wheels only: a learner has no compiler, and a version without one for them is no version."""
    run = uv_compile(
        *("--python-version", python, "--python-platform", system),
        *("--constraint", "constraints.txt", "--only-binary", ":all:"),
    )
    assert run.returncode == 0, run.stderr
    pinned = {canonicalize_name(pin.name) for pin in CONSTRAINTS}
    chosen = {canonicalize_name(line.split("==")[0]) for line in run.stdout.splitlines()}
    assert {"torch", "jupyterlab"} <= chosen
    assert chosen <= pinned, "run make lock"


def test_make_lock_would_change_nothing(tmp_path):
    lock = tmp_path / "constraints.txt"
    lock.write_text((ROOT / "constraints.txt").read_text())
    run = uv_compile("--universal", "--python-version", PYTHONS[0], "-o", str(lock))
    assert run.returncode == 0, run.stderr
    assert lock.read_text() == (ROOT / "constraints.txt").read_text(), "run make lock"


def test_make_lock_resolves_as_the_tests_do():
    recipe = make("--dry-run", "lock").stdout
    assert f"--universal --python-version {PYTHONS[0]} --all-extras" in recipe


def test_everything_that_is_asked_for_is_pinned():
    assert {canonicalize_name(each.name) for each in declared("test")} <= set(PINS), "run make lock"
    broken = [
        f"{requirement} but {version}"
        for requirement in declared("test")
        if (version := PINS[canonicalize_name(requirement.name)])
        and not requirement.specifier.contains(version, prereleases=True)
    ]
    assert broken == []


@pytest.mark.skipif(
    not (Path(sys.prefix) / ".installed-with-tests").exists(),
    reason="this environment was not made by make test, and may hold other versions",
)
def test_the_pinned_versions_are_the_installed_ones():
    installed = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    direct = {canonicalize_name(requirement.name) for requirement in declared("test")}
    assert sorted(direct - set(installed)) == [], "not installed: use make test"
    different = {
        name: f"{installed[name]} installed, {pin} pinned"
        for name, pin in PINS.items()
        # A wheel of an index of its own calls its version 2.15.0+cpu.
        if name in installed and installed[name].split("+")[0] != pin
    }
    assert different == {}, "run make test, which installs what constraints.txt says"


def test_the_build_uses_the_pinned_setuptools():
    requires = PYPROJECT["build-system"]["requires"]
    assert requires == [f"setuptools=={PINS['setuptools']}"], "write this pin in pyproject.toml"


def test_what_the_code_imports_is_declared():
    assert undeclared("shnet_lib") == {}, "the library is installed alone, too"
    assert undeclared("refgen") == {}
    assert undeclared("shnet_course", "course") == {}
    assert undeclared("tests", "test") == {}
    assert undeclared("benchmarks", "test") == {}


def test_conda_brings_python_and_pip_and_pip_reads_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    assert by_pip == {"pip": ["--constraint constraints.txt", "--editable .[course]"]}
    # A package name and nothing else here would be a second list of dependencies.
    assert re.fullmatch(r"python[<>=.,0-9]+", python)
    allowed = SpecifierSet(python.removeprefix("python"))
    versions = ("3.10.14", *PYTHONS, "3.15.0")
    assert [version for version in versions if version in allowed] == list(PYTHONS)


def test_github_runs_what_our_own_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    job = workflow["jobs"]["tests"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    known = (ROOT / ".ci" / "run").read_text()
    assert commands and all(re.search(rf"^{each}\b", known, re.M) for each in commands)
    machines = job["strategy"]["matrix"]["include"]
    pythons = {machine["python"] for machine in machines}
    assert pythons <= {re.match(r"\d+\.\d+", python)[0] for python in PYTHONS}
    assert {machine["system"].split("-")[0] for machine in machines} == {"ubuntu", "macos"}


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [name for name in re.findall(r"`([\w./]+)`", text) if "/" in name or "." in name]
    assert len(paths) > 10
    missing = [
        path for path in paths if not list(ROOT.glob(re.sub("NN_name|NN", "*", path).rstrip("/")))
    ]
    assert missing == []
    for way in text.split("\n## ")[1:]:
        assert len(re.findall(r"^\d\. ", way, re.M)) <= 4 and len(way.splitlines()) <= 15


def test_every_target_is_in_the_readme():
    targets = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert {"lab", "train", "test", "lock", "clean"} <= set(targets)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in targets if not re.search(rf"\bmake {name}\b", readme)]
    assert missing == [], "README.md does not name these targets of the Makefile"
    listed = re.findall(r"^make ([\w-]+)", make("help").stdout, re.M)
    assert listed == targets


def python_that_says(path: Path, version: tuple[int, int], without: str = "-") -> Path:
    """An executable at `path`: this Python, which calls itself another, and lacks a module."""
    code = f"import sys; sys.version_info = {(*version, 4)}; sys.modules['{without}'] = None"
    path.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "{code}; exec(sys.argv[1])" "$2"\n')
    path.chmod(0o755)
    return path


@pytest.mark.fault
@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_a_python_that_does_not_fit_is_refused_before_anything_is_made(tmp_path, version):
    python = python_that_says(tmp_path / "python", version)
    run = make("install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert run.returncode != 0
    assert f"needs Python 3.11 to 3.14, and {python} is {version[0]}.{version[1]}." in run.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.fault
def test_a_python_that_cannot_make_environments_is_answered_with_the_package(tmp_path):
    """Debian has `ensurepip` in a package of its own."""
    python = python_that_says(tmp_path / "python3", (3, 11), without="ensurepip")
    run = make("install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert run.returncode != 0
    assert "apt install python3-venv" in run.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.fault
def test_the_first_python_that_fits_is_taken(tmp_path):
    python_that_says(tmp_path / "python3", (3, 10))
    python_that_says(tmp_path / "python3.12", (3, 12))
    python_that_says(tmp_path / "python3.11", (3, 11))
    for tool in ("make", "sh", "date"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    run = make("--dry-run", "install", f"VENV={tmp_path / 'venv'}", path=tmp_path)
    assert f"is made with {tmp_path}/python3.12" in run.stdout, run.stderr
    (tmp_path / "python3.12").unlink()
    (tmp_path / "python3.11").unlink()
    run = make("--dry-run", "install", f"VENV={tmp_path / 'venv'}", path=tmp_path)
    assert "There is no Python from 3.11 to 3.14 on the PATH" in run.stderr


def test_pip_installs_where_uv_cannot_be_had(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "ran $*"\ncase "$*" in *" uv") exit 1; esac\n')
    python.chmod(0o755)
    run = make("install", f"VENV={tmp_path}")
    assert run.returncode == 0, run.stderr
    ran = [line for line in run.stdout.splitlines() if line.startswith("ran ")]
    assert ran == [
        "ran -m pip install --quiet --constraint constraints.txt uv",
        "ran -m pip install -c constraints.txt -e .[course]",
    ]
    assert (tmp_path / ".installed").exists()


def test_install_makes_the_environment_and_nothing_else(tmp_path):
    run = make("--dry-run", "install", f"VENV={tmp_path}", "INDEX=https://x.example/cpu")
    assert run.returncode == 0, run.stderr
    assert "data" not in run.stdout
    assert run.stdout.count("--extra-index-url https://x.example/cpu -c constraints.txt") == 2


@pytest.mark.parametrize(
    ("data", "generated"),
    [("data/refshapes", True), ("elsewhere/folder", False)],
)
def test_train_generates_refshapes_only_where_it_reads_it(data, generated):
    run = make("--dry-run", "train", f"DATA={data}")
    assert run.returncode == 0, run.stderr
    assert ("refgen.refshapes --out data/refshapes" in run.stdout) == generated
    assert f'--data "{data}"' in run.stdout


@pytest.mark.parametrize("target", ["lab", "test", "data"])
def test_lessons_and_tests_generate_refshapes_whatever_data_is_named(target):
    run = make("--dry-run", target, "DATASET=unc", "DATA=elsewhere/folder", "FETCH=--glove")
    assert run.returncode == 0, run.stderr
    fetches = 'shnet_lib.data.fetch --dataset "unc" --data "elsewhere/folder" --glove'
    assert (fetches in run.stdout) == (target == "data")
    assert ("refgen.refshapes --out data/refshapes" in run.stdout) == (target != "data")


def test_a_real_data_set_has_a_folder_of_its_own_by_default():
    run = make("--dry-run", "data", "DATASET=unc+")
    assert '--dataset "unc+" --data "data/unc"' in run.stdout, run.stderr
    assert "refgen.refshapes --out" in make("--dry-run", "data").stdout

"""The versions, the three ways to install, and the commands say the same thing everywhere."""

import ast
import importlib.metadata
import re
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
RUNTIME = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
TEST = [Requirement(line) for line in PYPROJECT["project"]["optional-dependencies"]["test"]]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(line.split("==")[0]): line.split("==")[-1] for line in CONSTRAINTS}

# Every kind of machine that the course is meant for, as the markers of requirements see it.
PLATFORMS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system.lower(),
        "platform_system": system,
        "platform_machine": machine,
    }
    for python in ("3.11", "3.12", "3.13")
    for system, machine in (
        ("Linux", "x86_64"),
        ("Linux", "aarch64"),
        ("Darwin", "arm64"),
        ("Darwin", "x86_64"),
    )
]


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether some platform needs `requirement`, asked for by a package with these `extras`."""
    return requirement.marker is None or any(
        requirement.marker.evaluate({**platform, "extra": extra})
        for platform in PLATFORMS
        for extra in (extras or {""})
    )


def closure(requirements: list[Requirement]) -> dict[str, list[Requirement]]:
    """Canonical name -> the requirements on it, over everything that `requirements` bring along.

    A package that is not installed here (another platform's) is in it, without what it brings.
    """
    found: dict[str, list[Requirement]] = {}
    seen = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(requirement)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        brought = [Requirement(line) for line in lines]
        waiting += [each for each in brought if applies(each, frozenset(requirement.extras))]
    return found


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


def undeclared(folder: str, declared: list[Requirement]) -> dict[str, list[str]]:
    """Imported module -> its distributions, where pyproject.toml declares none of them."""
    ours = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    ours |= {"benchmarks", "refgen", "shnet_course", "shnet_lib", "tests"}
    outside = imported(ROOT / folder) - set(sys.stdlib_module_names) - ours
    names = {canonicalize_name(requirement.name) for requirement in declared}
    providers = importlib.metadata.packages_distributions()
    return {
        module: providers.get(module, [])
        for module in sorted(outside)
        if names.isdisjoint(canonicalize_name(name) for name in providers.get(module, []))
    }


def make(*arguments: str) -> subprocess.CompletedProcess:
    """The course's make, run in its root."""
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_constraints_are_names_and_exact_versions_only():
    exact = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.]*")
    assert [line for line in CONSTRAINTS if not exact.fullmatch(line)] == []
    assert len(PINS) == len(CONSTRAINTS), "a package is pinned twice"


def test_everything_that_is_installed_is_pinned_on_every_platform():
    unpinned = sorted(set(closure(RUNTIME + TEST)) - set(PINS))
    assert unpinned == [], "run make lock; what other platforms need goes into its recipe"


def test_the_pins_satisfy_every_requirement():
    broken = [
        f"{requirement} but {name}=={PINS[name]}"
        for name, requirements in closure(RUNTIME + TEST).items()
        for requirement in requirements
        if not requirement.specifier.contains(PINS[name], prereleases=True)
    ]
    assert broken == []


def test_the_pinned_versions_are_the_installed_ones():
    installed = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    direct = {canonicalize_name(requirement.name) for requirement in RUNTIME + TEST}
    assert sorted(direct - set(installed)) == [], "not installed: use make test"
    different = {
        name: f"{installed[name]} installed, {PINS[name]} pinned"
        for name in closure(RUNTIME + TEST)
        if name in installed and installed[name] != PINS[name]
    }
    assert different == {}, "run make test, which installs what constraints.txt says"


def test_the_build_uses_the_pinned_setuptools():
    requires = PYPROJECT["build-system"]["requires"]
    assert requires == [f"setuptools=={PINS['setuptools']}"], "write this pin in pyproject.toml"


def test_what_the_code_imports_is_declared():
    for package in ("shnet_lib", "refgen", "shnet_course"):
        assert undeclared(package, RUNTIME) == {}
    assert undeclared("tests", RUNTIME + TEST) == {}
    assert undeclared("benchmarks", RUNTIME + TEST) == {}


def test_conda_brings_python_and_pip_and_pip_reads_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    assert by_pip == {"pip": ["--constraint constraints.txt", "--editable ."]}
    # A package name and nothing else here would be a second list of dependencies.
    assert re.fullmatch(r"python[<>=.,0-9]+", python)
    allowed = SpecifierSet(python.removeprefix("python"))
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert (version in allowed) == (version in supported), version


def test_every_target_is_in_the_readme():
    targets = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert {"lab", "train", "test", "lock", "clean"} <= set(targets)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in targets if not re.search(rf"\bmake {name}\b", readme)]
    assert missing == [], "README.md does not name these targets of the Makefile"
    listed = re.findall(r"^make ([\w-]+)", make("help").stdout, re.M)
    assert listed == targets


def test_an_old_python_is_refused_before_anything_is_made(tmp_path):
    old = tmp_path / "python3.10"
    code = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$2\"\n")
    old.chmod(0o755)
    venv = tmp_path / "venv"
    run = make(f"PYTHON={old}", f"VENV={venv}", f"{venv}/.installed")
    assert run.returncode != 0
    assert "needs Python 3.11 or newer" in run.stderr and "is 3.10" in run.stderr
    assert not venv.exists()


@pytest.mark.parametrize(
    ("data", "generated"),
    [("data/refshapes", True), ("elsewhere/folder", False)],
)
def test_train_generates_refshapes_only_where_it_reads_it(data, generated):
    run = make("--dry-run", "train", f"DATA={data}")
    assert run.returncode == 0, run.stderr
    assert ("refgen.refshapes --out data/refshapes" in run.stdout) == generated
    assert f'shnet_lib.data.check --dataset "refshapes-unc" --data "{data}"' in run.stdout


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

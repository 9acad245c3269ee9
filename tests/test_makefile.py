"""Cheap checks that what the README promises of make is there; `make test` itself is the dear one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

if shutil.which("make") is None:
    pytest.skip("needs make", allow_module_level=True)


def _make(repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    # When make runs these tests, its own variables would change how the inner make speaks.
    free = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(["make", *arguments], cwd=repository, capture_output=True, text=True, env=free)


def _phony(repository: Path) -> set[str]:
    line = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    return set(line[1].split())


def test_make_alone_lists_every_target(repository):
    done = _make(repository)
    assert done.returncode == 0, done.stderr
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert listed == _phony(repository)
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("test", ["ruff check .", "ruff format --check .", "-m pytest", "--nbval-lax"]),
        ("demo", ["minicourt render --level game", "courtside track"]),
        ("lock", ["uv pip compile pyproject.toml"]),
        ("bench", ["benchmarks/"]),
        ("sportsmot", ["courtside sportsmot"]),
        ("eval", ["minicourt render --level easy --seed 901", 'courtside eval "data/eval.toml"']),
    ],
)
def test_targets_do_what_their_help_says(target, commands, repository):
    # --always-make shows the steps that are finished here, too.
    shown = _make(repository, "--dry-run", "--always-make", target).stdout
    places = [shown.find(command) for command in commands]
    assert -1 not in places, shown
    assert places == sorted(places)
    assert shown.find("-r requirements.lock") < places[0]


def test_a_set_of_ones_own_renders_nothing(repository):
    shown = _make(repository, "--dry-run", "--always-make", "eval", "SET=my.toml", "JOBS=3").stdout
    assert 'courtside eval "my.toml" --jobs 3' in shown
    assert "minicourt" not in shown


def test_setup_without_a_fitting_python_says_what_to_install(repository, tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(repository / name, tmp_path)
    done = _make(tmp_path, "setup", "PYTHON=/bin/false")
    assert done.returncode != 0
    assert "No Python 3.11 or 3.12 with venv found (tried: /bin/false)" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_what_a_person_runs(repository):
    script = repository / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert script.read_text().rstrip().endswith("\nmake test")


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_the_lock_pins_every_dependency(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lines = (repository / "requirements.lock").read_text().splitlines()
    pinned = {_name(line) for line in lines if re.match(r"[\w.-]+==", line)}
    assert {_name(requirement) for requirement in wanted} <= pinned
    # setup installs the project itself without a build environment of its own.
    assert "setuptools" in pinned


def test_conda_takes_its_packages_from_the_lock(repository):
    text = (repository / "environment.yml").read_text()
    assert re.findall(r"^      - (.*)$", text, re.MULTILINE) == ["-r requirements.lock", "-e ."]


def test_the_readme_has_a_line_for_each_command_and_notebook(repository):
    text = (repository / "README.md").read_text()
    for name in (
        "make demo",
        "make test",
        "courtside track",
        "courtside score",
        "courtside report",
        "make eval",
    ):
        assert name in text
    notebooks = sorted(path.stem for path in (repository / "notebooks").glob("*.ipynb"))
    assert notebooks
    assert [name for name in notebooks if f"| `{name}` |" not in text] == []

"""The source archive and the wheel built from it, away from the sources: what `pip install` of them would give."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from runs import bindings, flags, rows

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Archive and wheel in dist/, and the wheel unpacked in lib/; the packages it needs are this environment's."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("tfsac", "export", "docs", "gin"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, target / "dist"], cwd=source, check=True, capture_output=True, text=True
    )
    archive = target / "dist" / done.stdout.splitlines()[-1]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", target / "dist", archive], check=True)
    (wheel,) = (target / "dist").glob("*.whl")
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--target", target / "lib", wheel], check=True)
    return target


def python(installed, *arguments):
    """Runs Python in an empty directory with the wheel's tfsac before any other that is installed."""
    cwd = installed / "cwd"
    cwd.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(installed / "lib")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_every_module_and_the_device_kit_are_in_it(installed):
    shipped = {path.relative_to(installed / "lib").as_posix() for path in (installed / "lib").rglob("*")}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tfsac/**/*.py")} <= shipped
    assert "tfsac/data/furuta.xml" in shipped
    kit = ["run_policy.py", "README.md", "requirements.txt", "c/Makefile", "c/run_header.c", "c/lines.h"]
    assert {f"tfsac/_device_kit/{name}" for name in kit} <= shipped
    assert not [name for name in shipped if "_device_kit/policies" in name]  # the released ones


def test_the_source_archive_has_the_documents_and_the_settings(installed):
    (archive,) = (installed / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "gin/reacher.gin", "docs/training.md"} <= names


def test_it_finds_its_own_kit(installed):
    done = python(installed, "-c", "from tfsac.deploy import device_kit as kit; print(kit.FOLDER); kit.copy_to('.')")
    assert done.stdout.strip() == str(installed / "lib" / "tfsac" / "_device_kit"), done.stderr
    assert (installed / "cwd" / "c" / "Makefile").is_file()


def test_its_command_trains(installed):
    params = flags(bindings(total_steps=64, eval_every=32))
    done = python(installed, installed / "lib" / "bin" / "tfsac", "train", "--logdir=run", "--no-video", *params)
    assert (done.returncode, done.stderr) == (0, "") and "done at step 64" in done.stdout
    assert [row["step"] for row in rows(installed / "cwd" / "run" / "evaluations.csv")] == ["32", "64"]


def test_a_command_starts_from_it(installed):
    done = python(installed, "-m", "tfsac.export", "--help")
    assert done.returncode == 0 and "--logdir" in done.stdout, done.stderr

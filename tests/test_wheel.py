"""The built wheel, away from the sources: what `pip install` of it would give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel unpacked where nothing else is; the packages it needs are this environment's."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("tfsac", "export"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
    for path in (*ROOT.glob("*.toml"), *ROOT.glob("setup.py"), *ROOT.glob("README*"), *ROOT.glob("LICENSE*")):
        shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", target / "dist", source], check=True)
    (wheel,) = (target / "dist").iterdir()
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
    kit = ["run_policy.py", "README.md", "requirements.txt", "c/Makefile", "c/run_header.c", "c/lines.h"]
    assert {f"tfsac/_device_kit/{name}" for name in kit} <= shipped
    assert not [name for name in shipped if "_device_kit/policies" in name]  # the released ones


def test_it_finds_its_own_kit(installed):
    done = python(installed, "-c", "from tfsac.deploy import device_kit as kit; print(kit.FOLDER); kit.copy_to('.')")
    assert done.stdout.strip() == str(installed / "lib" / "tfsac" / "_device_kit"), done.stderr
    assert (installed / "cwd" / "c" / "Makefile").is_file()


@pytest.mark.parametrize("command", ["train", "export"])
def test_commands_start_from_it(installed, command):
    done = python(installed, "-m", f"tfsac.{command}", "--help")
    assert done.returncode == 0 and "--logdir" in done.stdout, done.stderr

"""export/c/run_litert.c on the LiteRT library of the wheel: as the interpreter in Python answers, so does C."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from random_policy import deployable, expected_actions, random_policy

from tfsac.deploy.formats.tflite import KINDS, convert

KIT = Path(__file__).parent.parent / "export" / "c"
LOW, HIGH = np.array([-1, -0.3]), np.array([1, 1.7])

pytestmark = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("make")), reason="no C compiler, or no make")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The program and a small policy as every kind of .tflite."""
    folder = tmp_path_factory.mktemp("litert")
    shutil.copytree(KIT, folder / "c", ignore=shutil.ignore_patterns("build"))
    command = ["make", "-s", "-C", folder / "c", f"PYTHON={sys.executable}", "build/run_litert"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    states = np.random.default_rng(0).normal(size=[200, 5])
    made = deployable(random_policy([5, 16, 16, 2], seed=0), LOW, HIGH, states)
    for kind in KINDS:
        (folder / f"{kind}.tflite").write_bytes(convert(made, kind))
    return folder


def run(folder, name, text):
    program = folder / "c" / "build" / "run_litert"
    return subprocess.run([program, folder / name], input=text, capture_output=True, text=True, timeout=60)


def faults(done):
    """Standard error without what LiteRT says of itself."""
    return [line for line in done.stderr.splitlines() if not line.startswith(("INFO: ", "ERROR: ")) and line]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sample"])
def test_answers_as_the_interpreter_does(folder, kind):
    observations = np.random.default_rng(1).normal(size=[50, 5]).astype(np.float32)
    done = run(folder, f"{kind}.tflite", "\n".join(" ".join(map(repr, row)) for row in observations.tolist()))
    assert done.returncode == 0 and not faults(done), done.stderr
    actions = np.array([line.split() for line in done.stdout.splitlines()], np.float32)

    interpreter = Interpreter(str(folder / f"{kind}.tflite"))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    for observation, action in zip(observations, actions, strict=True):
        interpreter.set_tensor(source["index"], observation[None])
        interpreter.invoke()
        assert np.allclose(action, interpreter.get_tensor(target["index"])[0], rtol=0, atol=1e-6)
    if kind == "float32":
        expected = expected_actions(random_policy([5, 16, 16, 2], seed=0), observations, LOW, HIGH)
        assert (np.abs(actions - expected) / (HIGH - LOW)).max() <= 1e-5


def test_it_speaks_the_runners_protocol(folder):
    done = run(folder, "float32.tflite", "1 2\n1 2 3 4 nan\n\n1 2 3 4 5\n1 2 3 4 1e39\n1 2 3 4 x\n 1\t2 3 4 5 \r\n")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == second == run(folder, "float32.tflite", "1 2 3 4 5").stdout.strip()
    assert faults(done) == [
        "line 1: expected 5 numbers, received 2",
        "line 2: number 5 is none, or not finite",
        "line 3: expected 5 numbers, received 0",
        "line 5: number 5 is none, or not finite",
        "line 6: number 5 is none, or not finite",
    ]


def test_what_it_cannot_run_is_refused_in_one_line(folder):
    (folder / "text.tflite").write_text("not a model, but long enough")
    (folder / "half.tflite").write_bytes((folder / "float32.tflite").read_bytes()[:1000])
    for name in ("missing.tflite", "text.tflite", "half.tflite"):
        done = run(folder, name, "1 2 3 4 5\n")
        assert done.returncode == 2 and not done.stdout
        assert faults(done) == [f"error: {folder / name}: not a readable .tflite file"]
    done = run(folder, "sample.tflite", "1 2 3 4 5\n")
    assert done.returncode == 2 and not done.stdout
    assert "expected one signature from one observation to one action" in faults(done)[0]
    usage = subprocess.run([folder / "c" / "build" / "run_litert"], capture_output=True, text=True)
    assert usage.returncode == 2 and usage.stderr.startswith("usage: ")


def test_make_says_where_the_library_is_missing(folder):
    command = ["make", "-s", "-B", "-C", folder / "c", f"LITERT_DIR={folder}", "build/run_litert"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode != 0 and f'no libLiteRt.so in "{folder}": pip install ai-edge-litert' in made.stderr

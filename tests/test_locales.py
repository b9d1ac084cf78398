"""Names of files that are no UTF-8, and locales that lack their letters: nothing goes elsewhere, nothing raises."""

import os
import subprocess
import sys

import numpy as np
import pytest
from random_policy import deployable, random_policy

from tfsac.deploy import artefact
from tfsac.deploy.formats.saved_model import SavedModel
from tfsac.run import directory, pictures
from tfsac.run.log import RunLog

LATIN_1 = os.fsdecode("Läufe".encode("latin-1"))


def test_tensorboards_events_lie_in_the_run_directory(tmp_path):
    logdir = tmp_path / LATIN_1
    logdir.mkdir()
    log = RunLog(logdir, total_steps=10)
    log.evaluation(10, [2.0], [3])
    log.close()
    assert os.listdir(tmp_path) == [LATIN_1]
    assert any(path.stat().st_size for path in (logdir / "tensorboard").iterdir())


def test_a_saved_model_is_written_and_loaded_under_its_own_name(tmp_path):
    bounds, states = np.float32([1.0]), np.random.default_rng(0).normal(size=[20, 3]).astype(np.float32)
    made, path = deployable(random_policy([3, 4, 1], seed=0), -bounds, bounds, states), tmp_path / LATIN_1
    SavedModel().write(path, made)
    assert os.listdir(tmp_path) == [LATIN_1]
    act = SavedModel().load(path)
    np.testing.assert_allclose(act.batch(states), made.actions, rtol=0, atol=1e-5)
    assert artefact.load(path)[1] == made.facts
    assert all(SavedModel().finish(path, act, made, {})[0].values())


def test_a_text_that_names_such_a_file_holds_its_bytes(tmp_path):
    directory.write_whole(tmp_path / "text", f"{LATIN_1} größer")
    assert (tmp_path / "text").read_bytes() == b"L\xe4ufe gr\xc3\xb6\xc3\x9fer"


@pytest.mark.parametrize("name", [LATIN_1, "$x^$", "a$"])
def test_pictures_of_it_are_drawn(tmp_path, name):
    logdir = tmp_path / name
    logdir.mkdir()
    (logdir / "evaluations.csv").write_text("step,episode,return,length\n0,0,1.0,9\n8,0,2.0,9\n")
    (logdir / "metrics.csv").write_text("step,q1_loss\n8,0.5\n16,0.4\n")
    pictures.draw([logdir], logdir)
    pictures.draw_returns({name: [logdir]}, "title", logdir / "labelled.png")
    assert all((logdir / f"{x}.png").stat().st_size > 1_000 for x in ("returns", "losses", "labelled"))


@pytest.mark.parametrize(
    "encoding, name, shown",
    [
        ("utf-8:strict", LATIN_1, b"L\xe4ufe"),
        ("ascii:strict", LATIN_1, b"L\xe4ufe"),
        ("ascii:strict", "größer", rb"gr\xf6\xdfer"),
        ("latin-1:strict", "größer", "größer".encode("latin-1")),
    ],
)
def test_a_command_prints_every_name(tmp_path, encoding, name, shown):
    (tmp_path / f"{name}.csv").write_text("step,alpha\n1,0.5\n2,0.5\n")
    command = [sys.executable, "-m", "tfsac.diagnose", os.fsencode(f"{name}.csv")]
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(shown + b".csv:\n")

"""The pictures: drawn for one run and for several, and a clear word where there is nothing to draw."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from tfsac.errors import UserError
from tfsac.run import pictures
from tfsac.run.tables import read_csv


def write_run(folder, seed, steps=(100, 200, 300), loss="q1_loss"):
    """The tables of a run, as run_log leaves them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    tables = {
        "episodes": [("step", "return", "length"), *((step, rng.normal(), 50) for step in range(50, 301, 50))],
        "metrics": [("step", "seconds", loss), *((step, step / 100, rng.normal()) for step in steps)],
        "evaluations": [
            ("step", "episode", "return", "length"),
            *((step, episode, rng.normal(), 50) for step in steps for episode in range(2)),
        ],
    }
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def drawn(path):
    """Whether the picture shows anything but its background."""
    picture = image.imread(path)
    return picture.std() > 0.01 and min(picture.shape[:2]) > 100


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_both_pictures_are_drawn(tmp_path, seeds):
    runs = [write_run(tmp_path / f"run{seed}", seed) for seed in range(seeds)]
    pictures.draw(runs, tmp_path / "deep" / "out")
    assert drawn(tmp_path / "deep" / "out" / "returns.png")
    assert drawn(tmp_path / "deep" / "out" / "losses.png")


def test_several_runs_show_their_mean_and_its_95_percent_band():
    runs = [(np.array([1, 2, 3]), np.array([1.0, 2.0, 9.0])), (np.array([1, 2]), np.array([3.0, 6.0]))]
    axes = Figure().subplots()
    pictures._band(axes, runs, "return")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_data(), [[1, 2], [2, 4]])  # at the steps that both have
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    # Standard deviations sqrt(2) and sqrt(8) of two runs, and 12.7062 from the table of Student's t: half bands of
    # 12.7062 and twice that.
    assert (low, high) == (pytest.approx(4 - 2 * 12.7062, rel=1e-5), pytest.approx(4 + 2 * 12.7062, rel=1e-5))
    path = axes.collections[0].get_paths()[0].vertices
    assert set(np.round(path[path[:, 0] == 1, 1], 3)) >= {round(2 - 12.7062, 3), round(2 + 12.7062, 3)}


def test_a_run_without_gradient_steps_has_returns_only(tmp_path):
    run = write_run(tmp_path / "run", 0)
    (run / "metrics.csv").unlink()
    (run / "episodes.csv").unlink()
    pictures.draw([run], run)
    assert drawn(run / "returns.png") and not (run / "losses.png").exists()


def test_a_row_that_is_still_being_written_is_left_out(tmp_path):
    run = write_run(tmp_path / "run", 0)
    whole = read_csv(run / "metrics.csv")
    text = (run / "metrics.csv").read_bytes()
    for end in (b"400", b"400,4", b"400,4.0,-1"):
        (run / "metrics.csv").write_bytes(text + end)
        for name, values in read_csv(run / "metrics.csv").items():
            np.testing.assert_array_equal(values, whole[name])
    pictures.draw([run], run)


@pytest.mark.parametrize("text", [None, "", "step,episode,return,length\r\n"], ids=["missing", "empty", "no row yet"])
def test_where_no_evaluation_is_a_line_says_so(tmp_path, text):
    run = write_run(tmp_path / "run", 0)
    (run / "evaluations.csv").unlink()
    if text is not None:
        (run / "evaluations.csv").write_text(text)
    with pytest.raises(UserError, match="evaluation.*run"):
        pictures.draw([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_table_is_named(tmp_path):
    run = write_run(tmp_path / "run", 0)
    (run / "metrics.csv").write_text("step,q1_loss\r\n100,oops\r\n")
    with pytest.raises(UserError, match="metrics.csv"):
        pictures.draw([run], run)


def test_runs_that_are_no_seeds_of_one_experiment_are_refused(tmp_path):
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 0, steps=(150, 250))]
    with pytest.raises(UserError, match="no step in common"):
        pictures.draw(runs, tmp_path)


def test_losses_that_only_one_run_has_are_left_out(tmp_path):
    """A run of sac beside one of sac_v1."""
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 0, loss="v_loss")]
    pictures.draw(runs, tmp_path)
    assert drawn(tmp_path / "returns.png") and not (tmp_path / "losses.png").exists()


def test_matplotlib_stays_as_its_user_set_it(tmp_path):
    """Its backend is not chosen, and no figure of pyplot's is made."""
    pictures.draw([write_run(tmp_path / "run", 0)], tmp_path)
    code = (
        "import sys, matplotlib; matplotlib.use('svg'); import tfsac.plot, tfsac.train\n"
        f"from tfsac.run.pictures import draw; draw([{str(tmp_path / 'run')!r}], {str(tmp_path)!r})\n"
        "sys.exit(matplotlib.get_backend() != 'svg' or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

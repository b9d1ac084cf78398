"""CSV tables, TensorBoard and the progress bar; and no row lost or doubled by a resume."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfsac.run.log import LogState, RunLog
from tfsac.run.loop import Block

METRICS = {"q1_loss": np.float32([1.0, 3.0]), "alpha": np.float32([0.5, 0.7])}


@pytest.fixture(autouse=True)
def metrics_every_ten_steps(monkeypatch):
    monkeypatch.setattr("tfsac.run.log.METRICS_EVERY", 10)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_block(log, step, metrics=METRICS):
    """A block of 10 steps at whose end an episode ended."""
    log.block(Block(step - 10, step, False, [(step, -float(step), 200)], metrics))


def write_up_to(log, start, stop):
    """One row of each table every 10 steps."""
    for step in range(start + 10, stop + 1, 10):
        write_block(log, step)
        log.evaluation(step, [-1.0, -2.0], [200, 199])


def test_the_tables_hold_what_was_logged(tmp_path):
    log = RunLog(tmp_path, 100)
    log.block(Block(0, 12, False, [(7, -12.5, 200)], METRICS))
    log.evaluation(8, [-1.5, -2.5], [200, 150])
    log.block(Block(12, 18, False, [(13, -3.5, 6), (16, 1.0, 3)], METRICS))  # metrics are not due
    log.block(Block(18, 24, False, [], None))  # they are, but nothing was learned yet
    log.close()
    assert rows(tmp_path / "episodes.csv") == [
        {"step": "7", "return": "-12.5", "length": "200"},
        {"step": "13", "return": "-3.5", "length": "6"},
        {"step": "16", "return": "1.0", "length": "3"},
    ]
    assert rows(tmp_path / "evaluations.csv") == [
        {"step": "8", "episode": "0", "return": "-1.5", "length": "200"},
        {"step": "8", "episode": "1", "return": "-2.5", "length": "150"},
    ]
    (row,) = rows(tmp_path / "metrics.csv")
    assert list(row) == ["step", "seconds", "steps_per_second", "q1_loss", "alpha"]
    assert row["step"] == "12" and float(row["q1_loss"]) == 2.0  # means over the gradient steps of the call
    assert float(row["alpha"]) == pytest.approx(0.6)
    assert float(row["seconds"]) > 0
    assert float(row["steps_per_second"]) == pytest.approx(12 / float(row["seconds"]))


def test_only_columns_named_after_seconds_depend_on_the_clock(tmp_path):
    tables = []
    for name in ("a", "b"):
        log = RunLog(tmp_path / name, 100)
        (tmp_path / name).mkdir(exist_ok=True)
        write_up_to(log, 0, 50)
        log.close()
        tables.append(
            [
                {column: value for column, value in row.items() if "second" not in column}
                for table in ("metrics", "episodes", "evaluations")
                for row in rows(tmp_path / name / f"{table}.csv")
            ]
        )
    assert tables[0] == tables[1] and len(tables[0]) == 5 + 5 + 10


def scalars(folder):
    return sorted(
        (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for path in folder.glob("tensorboard/*")
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        for event in [tf.compat.v1.Event.FromString(record)]
        for value in event.summary.value
    )


def test_tensorboard_holds_the_scalars(tmp_path):
    log = RunLog(tmp_path, 100)
    write_up_to(log, 0, 20)
    log.close()
    found = {(tag, step): value for tag, step, value in scalars(tmp_path)}
    assert found["metrics/q1_loss", 10] == 2.0
    assert found["evaluations/return", 20] == -1.5
    assert {tag for tag, _ in found} == {
        "metrics/q1_loss", "metrics/alpha", "metrics/seconds", "metrics/steps_per_second", "evaluations/return",
    }  # fmt: skip


@pytest.mark.parametrize("lost", [0, 10, 40], ids=lambda steps: f"{steps} steps logged after the checkpoint")
def test_a_resumed_log_has_neither_gaps_nor_doubled_rows(tmp_path, lost):
    log = RunLog(tmp_path, 100)
    write_up_to(log, 0, 50)
    state = log.get_state()
    write_up_to(log, 50, 50 + lost)  # and then it was killed
    log.close()

    log = RunLog(tmp_path, 100, 50, LogState.read(state, 50))
    write_up_to(log, 50, 100)
    log.close()
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == [str(step) for step in range(10, 101, 10)]
    assert [row["step"] for row in rows(tmp_path / "episodes.csv")] == [str(step) for step in range(10, 101, 10)]
    assert [(row["step"], row["episode"]) for row in rows(tmp_path / "evaluations.csv")] == [
        (str(step), episode) for step in range(10, 101, 10) for episode in "01"
    ]
    assert [step for tag, step, _ in scalars(tmp_path) if tag == "evaluations/return"] == list(range(10, 101, 10))


def test_a_state_from_before_any_row_empties_the_tables(tmp_path):
    log = RunLog(tmp_path, 100)
    state = log.get_state()
    write_up_to(log, 0, 30)
    log.close()
    log = RunLog(tmp_path, 100, 0, LogState.read(state, 0))
    write_up_to(log, 0, 20)
    log.close()
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["10", "20"]


def test_a_kill_in_the_middle_of_a_row_leaves_nothing_of_it(tmp_path):
    log = RunLog(tmp_path, 100)
    write_up_to(log, 0, 20)
    state = log.get_state()
    log.close()
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("30,0.1")
    log = RunLog(tmp_path, 100, 20, LogState.read(state, 20))
    write_up_to(log, 20, 40)
    log.close()
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["10", "20", "30", "40"]


def test_files_that_are_not_its_own_are_left_alone(tmp_path):
    (tmp_path / "notes.csv").write_text("mine")
    RunLog(tmp_path, 100).close()
    assert (tmp_path / "notes.csv").read_text() == "mine"
    log = RunLog(tmp_path, 100)
    state = log.get_state()
    log.close()
    (tmp_path / "later.csv").write_text("mine, too")
    RunLog(tmp_path, 100, 0, LogState.read(state, 0)).close()
    assert (tmp_path / "later.csv").read_text() == "mine, too"


def test_seconds_go_on_after_a_resume(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log = RunLog(tmp_path, 100)
    now[0] += 5
    write_block(log, 10)
    now[0] += 1
    state = log.get_state()
    log.close()
    now[0] += 1000  # between the two
    log = RunLog(tmp_path, 100, 10, LogState.read(state, 10))
    now[0] += 2
    write_block(log, 30)
    log.close()
    assert [(row["seconds"], row["steps_per_second"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("5.0", "2.0"),
        ("8.0", "10.0"),
    ]


def test_without_a_terminal_it_prints_a_line_for_each_evaluation(tmp_path, capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log = RunLog(tmp_path, 100, shown=("alpha", "of another algorithm"))
    for start in (0, 10, 20):
        now[0] += 2
        write_up_to(log, start, start + 10)
    log.close()
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"step {step}/100  5 steps/s  training -{step}  alpha 0.6  evaluation -1.5  left 00:{left}"
        for step, left in ((10, 18), (20, 16), (30, 14))
    ]


def test_on_a_terminal_a_bar_moves_instead(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    log = RunLog(tmp_path, 100, shown=("alpha",))
    write_up_to(log, 0, 100)
    log.close()
    out, err = capsys.readouterr()
    assert out == "" and "q1_loss" not in err
    for words in ("100/100", "step/s", "evaluation=-1.5", "alpha=0.6"):
        assert words in err


def test_the_step_of_the_last_evaluation_is_known_and_kept(tmp_path):
    """By which an evaluation that was broken off is found missing."""
    log = RunLog(tmp_path, 100)
    assert log.evaluated == 0
    write_up_to(log, 0, 20)
    assert log.evaluated == 20
    write_block(log, 30)
    state = log.get_state()
    log.close()
    log = RunLog(tmp_path, 100, 30, LogState.read(state, 30))
    assert log.evaluated == 20
    log.close()
    del state["evaluated"]  # of tfsac 0.1, which saved after its evaluations only
    log = RunLog(tmp_path, 100, 30, LogState.read(state, 30))
    assert log.evaluated == 30
    log.close()


def test_a_table_that_another_version_began_keeps_its_columns(tmp_path):
    """A metric less is not a number, one more has no column."""
    log = RunLog(tmp_path, 100)
    write_block(log, 10)
    state = log.get_state()
    log.close()
    log = RunLog(tmp_path, 100, 10, LogState.read(state, 10))
    write_block(log, 20, {"alpha": np.float32([0.25]), "policy_loss": np.float32([1.0])})
    log.close()
    first, second = rows(tmp_path / "metrics.csv")
    assert first.keys() == second.keys() == {"step", "seconds", "steps_per_second", "q1_loss", "alpha"}
    assert (second["step"], second["q1_loss"], second["alpha"]) == ("20", "nan", "0.25")

"""A search: what is drawn, what is pruned, what is told to Optuna, and that it goes on where it was cut off."""

import importlib.util
import math
import signal

import numpy as np
import pytest
from commands import TESTS, Command, run
from envs_for_tests import reached
from rich.console import Console
from runs import bindings, flags, rows

from tfsac.errors import UserError
from tfsac.run import checkpoint, config
from tfsac.run import trials as tried

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (the extra `search`): its tests are skipped")
ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`): its tests are skipped")

from tfsac import sweep  # noqa: E402
from tfsac.data.remote_collectors import connect  # noqa: E402

TAU = "SAC.tau = loguniform(1e-3, 1e-1)"


def search(out, *texts, trials=100, seeds=(0,), **options):
    return tried.make_search([], bindings(**options), list(seeds), texts or [TAU], trials, out)


# Distributions.


@pytest.mark.parametrize(
    "text, name, kind, values",
    [
        (TAU, "SAC.tau", "loguniform", (0.001, 0.1)),
        ("  SAC.discount=uniform( 0.9 ,1 )", "SAC.discount", "uniform", (0.9, 1.0)),
        ("train.batch_size = loguniform(16, 1e3)", "train.batch_size", "loguniform", (16, 1000)),
        ("SAC.target_entropy = uniform(-3, -0.5)", "SAC.target_entropy", "uniform", (-3.0, -0.5)),
        ("SAC.policy_hidden_units = choice((8,), [4, 4])", "SAC.policy_hidden_units", "choice", ((8,), (4, 4))),
    ],
)
def test_a_distribution_is_read_as_data_of_the_settings_own_type(tmp_path, text, name, kind, values):
    (distribution,) = search(tmp_path, text).distributions
    assert distribution == (name, kind, values)
    assert [type(value) for value in distribution.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text, message",
    [
        ("SAC.tau", r"expected name.parameter = uniform\(LEAST, MOST\), .* received 'SAC.tau'"),
        ("SAC.tau = 0.1", "expected name.parameter = uniform"),
        ("SAC.tau = normal(0, 1)", "expected name.parameter = uniform"),
        ("SAC.tau = uniform(low=0.1, high=0.2)", "expected name.parameter = uniform"),
        ("SAC.tau = uniform(0.1, 1 / 3)", "expected name.parameter = uniform"),
        ("SAC.tau = uniform(0.1, open('x'))", "expected name.parameter = uniform"),
        ("SAC.tau = __import__('os').system('true')", "expected name.parameter = uniform"),
        ("SAC.tau = uniform(0.1, 0.2); SAC.tau = 1", "expected name.parameter = uniform"),
        ("SAC.tau = uniform(0.1, 0.2, 0.3)", r"SAC.tau: expected uniform\(LEAST, MOST\), two numbers"),
        ("SAC.tau = uniform(0.2, 0.1)", "two numbers"),
        ("SAC.tau = uniform(0.1, 2)", "SAC.tau: expected a number above 0, up to 1, received 2"),
        ("SAC.discount = loguniform(0, 1)", "SAC.discount: expected LEAST above 0"),
        ("SAC.tau = choice(0.1)", "SAC.tau: expected two choices or more, received 1"),
        ("SAC.tau = choice(0.1, 0.1)", "a choice is given twice"),
        ("SAC.policy_hidden_units = uniform((8,), (9,))", "SAC.policy_hidden_units: expected uniform"),
        ("train.batch_size = uniform(8, 16.5)", "train.batch_size: expected a whole number, received 16.5"),
        ("SAC.tua = uniform(0.1, 0.2)", "did you mean SAC.tau"),
        ("train.seed = choice(0, 1)", "seeds are chosen with --seeds"),
    ],
)
def test_a_distribution_that_cannot_work_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        search(tmp_path / "out", text)
    assert not (tmp_path / "out").exists()


def test_a_search_that_cannot_work_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="SAC.tau is given twice"):
        search(tmp_path, TAU, "SAC.tau = uniform(0.1, 0.2)")
    with pytest.raises(UserError, match="train.eval_every = None: a sweep compares evaluations"):
        search(tmp_path, eval_every=None)
    with pytest.raises(UserError, match="--trials: expected a positive number"):
        search(tmp_path, trials=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--search needs Optuna, .* pip install optuna"):
        search(tmp_path)


def test_values_are_drawn_from_the_distributions(tmp_path):
    texts = TAU, "train.batch_size = uniform(8, 11)", "SAC.policy_hidden_units = choice((8,), (4, 4))"
    subject = search(tmp_path, *texts)
    drawn = [subject.ask()[1] for _ in range(40)]
    taus = [values["SAC.tau"] for values in drawn]
    assert min(taus) < 0.01 < max(taus) and min(taus) >= 0.001 and max(taus) <= 0.1
    assert len([tau for tau in taus if tau < 0.01]) > 10  # half of them; a tenth, were the scale not logarithmic
    assert {values["train.batch_size"] for values in drawn} == {8, 9, 10, 11}
    assert {values["SAC.policy_hidden_units"] for values in drawn} == {(8,), (4, 4)}


# The study.


def test_a_trial_below_the_median_is_pruned_once_five_are_done(tmp_path):
    subject = search(tmp_path)
    for number in range(5):
        assert subject.ask()[0] == number
        assert not subject.prunes(number, {10: number, 20: 2 * number})
        subject.tell(number, 3.0 * number)
    for number, value, pruned in [(5, 1.9, True), (6, 2.1, False)]:  # the median at step 10 is 2
        subject.ask()
        assert subject.prunes(number, {10: value}) is pruned
    assert not subject.prunes(6, {10: 2.1})  # reported before
    assert subject.prunes(6, {10: 2.1, 20: 3.9})  # the median at step 20 is 4, and its best is 3.9
    states = [state for _, _, state in search(tmp_path).told()]
    assert states == ["done"] * 5 + ["pruned"] * 2


def test_a_search_goes_on_where_it_was_left(tmp_path):
    subject = search(tmp_path, trials=4)
    asked = dict(subject.ask() for _ in range(3))
    subject.tell(0, 1.0)
    subject.tell(2, None)
    resumed = search(tmp_path, trials=4)
    assert resumed.told() == [(0, asked[0], "done"), (2, asked[2], "failed")]
    assert resumed.ask() == (1, asked[1])
    number, values = resumed.ask()
    assert number == 3 and values["SAC.tau"] not in [x["SAC.tau"] for x in asked.values()]
    assert resumed.ask() is None
    assert search(tmp_path, trials=5).total == 5  # more trials are the same search


@pytest.mark.parametrize(
    "texts, options, message",
    [
        (["SAC.tau = uniform(0.1, 0.2)"], {}, r"--search SAC.tau was SAC.tau = loguniform\(0.001, 0.1\) and cannot"),
        ([TAU, "SAC.discount = uniform(0.9, 1)"], {}, "--search SAC.discount was None"),
        ([TAU], {"batch_size": 4}, "train.batch_size was 8 and cannot become 4"),
        ([TAU], {"seeds": (0, 1)}, r"--seeds was \[0\]"),
    ],
)
def test_another_search_is_refused_its_place(tmp_path, texts, options, message):
    search(tmp_path)
    with pytest.raises(UserError, match=message):
        search(tmp_path, *texts, **options)


def test_a_damaged_file_is_one_line(tmp_path):
    search(tmp_path).ask()
    path = tmp_path / "search.journal"
    path.write_bytes(path.read_bytes()[:-9] + b"\n{}\n")
    with pytest.raises(UserError, match="search.journal holds what tfsac did not write"):
        search(tmp_path)


def test_importances_name_what_matters(tmp_path):
    subject = search(tmp_path, TAU, "SAC.discount = uniform(0.9, 1)")
    assert subject.importances() == {}
    for _ in range(40):
        number, values = subject.ask()
        subject.tell(number, -((math.log10(values["SAC.tau"]) + 2) ** 2))
    shares = subject.importances()
    assert sum(shares.values()) == pytest.approx(1) and shares["SAC.tau"] > 0.8


# The sweep, with trainings that only write what a training leaves behind.


@pytest.fixture(scope="module")
def cluster(ray_address):
    connect(ray_address)
    yield
    ray.shutdown()


STEPS = 40  # evaluated every 10


def quality(tau):
    return -((math.log10(tau) + 2) ** 2)


@pytest.fixture
def trainings(monkeypatch, cluster):
    @ray.remote(num_cpus=1, max_retries=0)
    def fake(logdir, settings):
        import math
        import time

        tau, seed = settings["SAC"]["tau"], settings["train"]["seed"]
        value = -((math.log10(tau) + 2) ** 2)
        logdir.mkdir(parents=True)
        (logdir / ".lock").touch()
        if seed == 7:
            raise RuntimeError("no simulator\nhere")
        with open(logdir / "evaluations.csv", "w", buffering=1) as file:
            file.write("step,episode,return,length\n")
            for step in range(10, 41, 10):
                file.write(f"{step},0,{value + seed - 1},9\n{step},1,{value + seed + 1},9\n")
                time.sleep(0.1)  # so that an evaluation may be seen while there are others to come
        (logdir / "checkpoints" / "step-000000040").mkdir(parents=True)
        (logdir / "returns.png").touch()

    monkeypatch.setattr(sweep, "_remote_train", lambda: fake)
    monkeypatch.setattr(sweep, "LOOK_EVERY", 0.05)


def swept(out, seeds, trials):
    """A whole search in this process; -> the Sweep and the Search."""
    params = bindings(total_steps=STEPS, eval_every=10)
    study = tried.make_search([], params, seeds, [TAU], trials, out)
    subject = sweep.Sweep(
        [], None, study, lambda number, values: tried.make_trial([], params, seeds, number, values, out / f"t{number}")
    )
    subject.run(lambda _: None)
    return subject, study


def test_a_search_finds_the_best_values(tmp_path, trainings):
    subject, study = swept(tmp_path, [0, 2], 10)
    assert [trial.number for trial in subject.trials] == list(range(10))
    states = [{subject.states[run.logdir] for run in trial.runs} for trial in subject.trials]
    assert states[:5] == [{"done"}] * 5 and {word for x in states for word in x} <= {"done", "pruned"}
    best = tried.write_results(subject.trials, subject.states, tmp_path)
    done = [trial for trial, x in zip(subject.trials, states, strict=True) if x == {"done"}]
    assert best == max(done, key=lambda trial: quality(trial.values["SAC.tau"]))
    assert abs(math.log10(best.values["SAC.tau"]) + 2) < 0.5
    assert config.read([tmp_path / "best.gin"], [])["SAC.tau"] == best.values["SAC.tau"]
    ended = study._study.trials  # Optuna's own record: the objective is the mean over both seeds, and their episodes
    for trial in done:
        assert ended[trial.number].value == pytest.approx(quality(trial.values["SAC.tau"]) + 1)
    assert len({row["configuration"] for row in rows(tmp_path / "sweep.csv")}) == 10
    console = Console(width=200)
    with console.capture() as captured:
        console.print(sweep._Display(None).table(subject))
    lines = captured.get().splitlines()
    assert f"{best.number} SAC.tau={best.values['SAC.tau']:.4g}" in lines[4]  # the title, the head, and then the best


def test_a_pruned_trial_is_ended_and_told_as_one(tmp_path, trainings, monkeypatch):
    asked = []

    def prunes(self, number, evaluations):
        asked.append((number, dict(evaluations)))
        ends = number == 0 and len(evaluations) > 0
        if ends:
            self._study.tell(self._open[number], state=optuna.trial.TrialState.PRUNED)
        return ends

    monkeypatch.setattr("tfsac.run.search.Search.prunes", prunes)
    subject, study = swept(tmp_path, [0], 2)
    assert [subject.states[trial.runs[0].logdir] for trial in subject.trials] == ["pruned", "done"]
    assert [state for _, _, state in study.told()] == ["pruned", "done"]
    value = quality(subject.trials[0].values["SAC.tau"])
    number, evaluations = next(x for x in asked if x[1])
    assert number == 0 and 40 not in evaluations and evaluations[10] == pytest.approx(value)


def test_a_failing_run_fails_its_trial_and_costs_no_other(tmp_path, trainings):
    subject, study = swept(tmp_path, [0, 7], 2)
    assert [state for _, _, state in study.told()] == ["failed", "failed"]
    for trial in subject.trials:
        states = [subject.states[run.logdir] for run in trial.runs]
        assert states[0] == "done" and states[1].startswith("failed: ") and "no simulator" in states[1]
    assert tried.write_results(subject.trials, subject.states, tmp_path) is None


# The command, with trainings as they are.


def test_a_search_that_is_interrupted_goes_on_and_ends_with_its_results(tmp_path, ray_address):
    """Interrupted in the middle of a trial, which waits for it."""
    opens, out = tmp_path / "gate", tmp_path / "out"
    holds = "envs_for_tests:HoldsUntilInterrupted", {"path": str(opens), "at": 300}
    options = bindings(total_steps=1_000, eval_every=500, checkpoint_every=10_000, env_wrappers=[holds])
    arguments = ["--out=out", f"--ray_address={ray_address}", "--trials=2", f"--search={TAU}", *flags(options)]
    command = Command("tfsac.sweep", *arguments, cwd=tmp_path, PYTHONPATH=TESTS)
    command.wait_until(reached(opens).exists)
    command.signal(signal.SIGINT)
    done = command.wait()
    assert done.status == 130 and "the same command with --out=out goes on" in done.err, done.err
    folders = [out / f"trial{number}" / "seed0" for number in range(2)]
    waited = max(folders, key=lambda folder: checkpoint.steps(folder / "checkpoints"))
    assert checkpoint.steps(waited / "checkpoints") == [0, 304]  # saved after its block
    before = {x: config.read([x / "config.gin"], [])["SAC.tau"] for x in folders if (x / "config.gin").exists()}
    done = run("tfsac.sweep", *arguments, cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 0, done.err
    assert checkpoint.steps(waited / "checkpoints") == [304, 1_000]  # it did not begin anew
    table = rows(out / "sweep.csv")
    assert [(row["trial"], row["state"], row["step"]) for row in table] == [(x, "done", "1000") for x in "01"]
    for folder, tau in before.items():
        assert table[folders.index(folder)]["configuration"] == f"SAC.tau={tau}"
    assert "importances.png" in done.out
    assert all((out / name).read_bytes()[:4] == b"\x89PNG" for name in ("returns.png", "importances.png"))
    best = max(table, key=lambda row: float(row["return_mean"]))
    assert best["configuration"] == f"SAC.tau={config.read([out / 'best.gin'], [])['SAC.tau']}"
    assert np.isfinite(float(best["return_mean"]))

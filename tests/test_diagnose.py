"""The diagnosis: each number by hand, each fault of the study by its name, and healthy runs left in peace."""

import csv
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

import tfsac
from tfsac.data.replay import Transition
from tfsac.diagnosis import findings, picture
from tfsac.diagnosis.findings import diagnose
from tfsac.diagnosis.measures import MEASURES, View
from tfsac.diagnosis.record import COLUMNS, FACTS, Record, mean_reward, read_run, read_table
from tfsac.diagnosis.symptoms import NOTE, STRONG, SYMPTOMS
from tfsac.diagnosis.thresholds import MIN_UPDATES, THRESHOLDS
from tfsac.errors import UserError

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "benchmarks" / "study"
sys.path.append(str(STUDY))  # behind tests/, which has a runs.py, too

import labelled  # noqa: E402
import thresholds as derivation  # noqa: E402

DOCUMENT, SYMPTOMS_PAGE = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("diagnose", "symptoms"))
# The symptom that names the study's fault. Of one Q in place of two nothing is seen: it learns as well here.
NAMED = {
    "average_as_printed": "value_held_back",
    "b_against_b1": "q_same_everywhere",
    "no_gradient_through_q": "policy_has_no_gradient",
    "no_reward_scale": "rewards_small",
    "no_tanh_correction": "entropy_too_high",
    "one_q": None,
    "policy_minimises_q": "policy_lowers_q",
    "replay_actions_for_v": "value_of_other_actions",
    "target_never_moves": "target_still",
    "time_limit_is_terminal": "time_limit",
    "wrong_sign_of_entropy": "entropy_without_end",
}


@pytest.fixture(scope="module")
def runs():
    """All of the study's runs that kept their metrics."""
    return list(labelled.labelled_runs())


@pytest.fixture(scope="module")
def whole():
    """Those that kept every table."""
    return list(labelled.whole_runs())


@pytest.fixture(scope="module")
def calibrated():
    """The thresholds anew, from the first two seeds."""
    return derivation.calibrated()


def names(record, **options):
    return [finding.symptom.name for finding in diagnose(record, **options).findings]


def clear(record, **options):
    """Names of the findings that are sure and nobody's consequence."""
    found = diagnose(record, **options).findings
    return [x.symptom.name for x in found if x.symptom.level == STRONG and not x.cause]


def named(runs, **options):
    """The faults that are among the first two findings in every one of the runs that have them."""
    missed = {run.fault for run in runs if NAMED.get(run.fault) not in names(run.record, **options)[:2]}
    return {run.fault for run in runs if run.fault in NAMED} - missed


# What the study's runs show


def test_the_thresholds_are_those_that_the_runs_give(calibrated):
    assert derivation.written(*calibrated) == (ROOT / "tfsac/diagnosis/thresholds.py").read_text()


def test_the_thresholds_of_what_is_clear_do_not_know_the_seeds_they_are_tested_on(runs, whole):
    known = [run for run in runs + whole if run.seed in (0, 1)] + [run for run in labelled.sb3_runs() if run.seed == 0]
    for name, threshold in derivation.derive(known).items():
        assert derivation.short(threshold.value) == THRESHOLDS[name].value, name


def test_at_least_nine_of_eleven_faults_are_named_on_a_seed_that_no_threshold_has_seen(runs):
    faulty = [run for run in runs if run.fault in NAMED and run.seed == 2]
    assert {run.fault for run in faulty} == set(NAMED)
    found = named(faulty)
    assert len(found) >= 9
    first = {run.fault for run in faulty if run.fault in found and names(run.record)[0] != NAMED[run.fault]}
    assert f"| {len(found)} named, all of them first |" in DOCUMENT and not first


def test_so_they_are_from_the_whole_tables_of_that_seed(whole):
    """Rewards are those of training episodes here, not of evaluations."""
    faulty = [run for run in whole if run.algorithm == "sac_v1" and run.fault != "none"]
    assert {run.fault for run in faulty} == set(NAMED) - {"no_reward_scale"}  # Pendulum cannot lack one
    assert len(named(faulty)) >= 9


@pytest.mark.parametrize("known, other", [("pendulum", "reacher"), ("reacher", "pendulum")])
def test_thresholds_of_one_task_name_the_faults_of_the_other(runs, whole, known, other):
    thresholds = derivation.derive([run for run in runs + whole if run.task == known])
    faulty = [run for run in runs if run.task == other and run.fault in NAMED]
    found = named(faulty, thresholds=thresholds)
    assert len(found) >= 9
    assert f"| {len(found)} of {len({run.fault for run in faulty})} named |" in DOCUMENT
    healthy = [run for run in runs if run.task == other and run.fault == "none"]
    assert len(healthy) >= 20
    assert sum(bool(clear(run.record, thresholds=thresholds)) for run in healthy) <= 1


def test_no_healthy_run_is_called_faulty_at_its_end_or_on_its_way(runs, whole):
    healthy = [run for run in runs + whole if run.fault == "none"]
    count = sum(run.fault == "none" for run in runs)  # the one of `whole` is among these
    tasks = {(run.task, run.algorithm) for run in healthy}
    assert count == len(healthy) - 1 == 59 and len(tasks) == 7
    false_alarms = {run.name for run in healthy if clear(run.record)}
    for run in healthy:
        for part in (0.1, 0.25, 0.5, 0.75):
            step = part * run.record.metrics["step"][-1]
            if clear(run.record.until(step)):
                false_alarms.add(f"{run.name} at {part}")
    assert len(false_alarms) <= 1, false_alarms
    assert f"| {count} healthy runs on five tasks" in DOCUMENT
    assert f"| nothing clear is found in {count - len(false_alarms)} |" in DOCUMENT


def test_no_run_of_crossq_is_called_faulty_but_one_that_has_met_no_reward():
    """No threshold knows them, nor most of their tasks."""
    runs = list(labelled.crossq_runs())
    moments = [(run, step) for run in runs for step in np.arange(1, 21) / 20 * run.record.metrics["step"][-1]]
    alarms = [(run.name, step, name) for run, step in moments for name in clear(run.record.until(step))]
    assert alarms == [("pendulum_swingup-crossq_12_hz_four-seed0", 2500, "reward_unseen")]
    tasks = {11: "eleven"}[len({run.task for run in runs})]
    assert f"| {len(runs)} runs of `crossq` on {tasks} tasks" in DOCUMENT
    assert f"| nothing clear is found in {len(runs) - 1};" in DOCUMENT


def test_one_q_is_no_alarm_either(runs):
    assert not any(clear(run.record) for run in runs if run.fault == "one_q")


@pytest.mark.parametrize("fault", ["rewards_small", "rewards_large"])
def test_rewards_that_do_not_suit_sac_are_named_first(whole, fault):
    found = [clear(run.record) for run in whole if run.fault == fault]
    assert found and all(x == [fault] for x in found)


# Stable-Baselines3


@pytest.mark.parametrize("factor", ["1", "1e-3", "1e3"])
def test_runs_of_stable_baselines3(factor):
    """On the second seed; no threshold has seen it."""
    (record,) = (run.record for run in labelled.sb3_runs() if run.name == f"sb3-reward-{factor}-seed1")
    expected = {"1": [], "1e-3": ["rewards_small"], "1e3": ["rewards_large"]}[factor]
    assert clear(record)[:1] == expected
    assert expected or not diagnose(record).suspicious


def test_so_are_those_whose_first_seed_the_thresholds_know():
    found = {run.name: clear(run.record)[:1] for run in labelled.sb3_runs() if run.seed == 0}
    assert found == {
        "sb3-reward-1-seed0": [],
        "sb3-reward-1e-3-seed0": ["rewards_small"],
        "sb3-reward-1e3-seed0": ["rewards_large"],
    }


def test_what_stable_baselines3_leaves_out_follows_from_what_it_logs(tmp_path):
    alpha, entropy, q = 0.5, -0.3, -7.0
    header = "time/total_timesteps,train/n_updates,train/actor_loss,train/critic_loss,train/ent_coef,"
    header += "train/ent_coef_loss,rollout/ep_rew_mean,rollout/ep_len_mean\n"
    # actor_loss = E[alpha log pi - Q]; ent_coef_loss = -log alpha (E[log pi] + target), target -1.
    row = f"200,99,{-alpha * entropy - q},0.8,{alpha},{-math.log(alpha) * (-entropy - 1)},-50,200\n"
    (tmp_path / "progress.csv").write_text(header + "100,,,,,,-60,200\n" + row)
    record = read_table(tmp_path / "progress.csv", facts={"action_dim": 1})
    assert record.metrics["step"] == [200]  # the row before has no loss yet
    assert record.metrics["entropy"] == pytest.approx([entropy]) and record.metrics["q1"] == pytest.approx([q])
    assert record.metrics["q1_loss"] == record.metrics["q2_loss"] == [0.4]
    assert record.training["step"].tolist() == [100, 200] and record.training["return"].tolist() == [-60, -50]
    assert record.facts["start_steps"] == 100 and record.assumed == (
        "discount",
        "tau",
        "reward_scale",
        "updates_per_step",
    )


def test_a_setback_of_stable_baselines3_needs_no_standard_error(tmp_path):
    rows = "".join(f"{step},{reward}\n" for step, reward in [(1000, -100), (2000, -20), (3000, -60)])
    (tmp_path / "progress.csv").write_text("time/total_timesteps,eval/mean_reward\n" + rows)
    # It has lost 40 of its rise of 80.
    assert measured(read_table(tmp_path / "progress.csv"), "setback") == pytest.approx(0.5)


def test_what_was_computed_from_a_loss_is_not_held_against_it():
    (record,) = (run.record for run in labelled.sb3_runs() if run.name == "sb3-reward-1-seed0")
    assert measured(record, "loss_sign") is None and measured(record, "alpha_sign") is None
    unseen = [symptom.name for symptom, _ in diagnose(record).unseen]
    assert "policy_lowers_q" in unseen and "alpha_backwards" in unseen


# The measures, by hand

ROWS = 40


def record(metrics=None, facts=None, returns=-100.0, length=100, **options):
    """A run of `sac` of 40 rows, one for each 250 steps; metrics are numbers or arrays [40]."""
    columns = {"q1_loss": 1.0, "q2_loss": 1.0, "policy_loss": 50.0, "alpha": 0.1, "entropy": -1.0, "q1": -50.0}
    columns |= {"step": np.arange(1, ROWS + 1) * 250.0} | (metrics or {})
    columns = {name: np.broadcast_to(np.asarray(x, float), ROWS) for name, x in columns.items() if x is not None}
    steps = np.arange(1, 101) * 100.0
    training = {"step": steps, "return": np.full(100, returns, float), "length": np.full(100, float(length))}
    if np.isscalar(returns):
        training["return"][0] *= 1 + 1e-9  # all alike would be a symptom
    known = {"discount": 0.99, "tau": 0.005, "action_dim": 1, "start_steps": 0, "updates_per_step": 1}
    return Record(columns, training, {}, known | (facts or {}), **options)


def measured(record, name):
    with np.errstate(all="ignore"):
        found = MEASURES[name](View(record))
    return None if found is None else found.value


LATE = np.where(np.arange(ROWS) < ROWS * 3 // 4, 1.0, 3.0)  # 3 in the last quarter


@pytest.mark.parametrize(
    "name, metrics, facts, expected",
    [
        ("loss_sign", {"policy_loss": 50.1, "q1": -50.0}, {}, 1),  # -policy_loss - alpha H = -50.1 + 0.1
        ("loss_sign", {"policy_loss": -49.9, "q1": -50.0}, {}, -1),
        ("entropy_excess", {"entropy": 2.0 * LATE}, {"action_dim": 4}, 6 / 4 - math.log(2)),
        ("entropy_gap", {"entropy": 2.0 * LATE}, {"action_dim": 4}, math.log(2) - 6 / 4),
        ("entropy_depth", {"entropy": 2.0 * LATE}, {"action_dim": 4}, -6 / 4),
        ("value_loss", {"v_loss": LATE}, {}, 3),
        ("q_growth", {"q1": -10.0 * LATE}, {}, 3),
        ("limit_error", {"q1": -10.0, "q1_loss": 1.0, "q2_loss": 3.0}, {}, 2 * 2 * 100 / 10**2),
        ("relative_q_error", {"q1": -10.0, "q1_loss": 1.0, "q2_loss": 3.0}, {}, 2 / 10),
        ("relative_q_error", {"q1": 6.0 - 2 * LATE, "q1_loss": 2.0, "q2_loss": 2.0}, {}, 2 / 4),  # the largest |Q|: 4
        ("limit_trace", {}, {}, 0.1),
        ("q_loss_floor", {"q1_loss": LATE, "q2_loss": 4 - LATE}, {}, 1),
        ("q_loss_floor", {"q1_loss": 1 / LATE, "q2_loss": 1 / LATE}, {}, 1 / 3),
        ("alpha_growth", {"alpha": LATE}, {}, 3),
        ("exchange", {"alpha": 0.5}, {"action_dim": 4}, 0.5 * 4 / 1),  # rewards of -1 a step
        ("exchange_at_first", {"alpha": LATE}, {"action_dim": 4}, 4),
        ("exchange", {"alpha": 0.5, "v_loss": 1.0}, {"reward_scale": 8.0}, 1 / 8),  # sac_v1: the entropy counts 1
        ("policy_gradient", {"policy_gradient_norm": LATE, "alpha": 0.5}, {}, 6),
        ("q_gradient", {"q_gradient_norm": LATE, "q1": -10.0}, {}, 0.3),
        ("alpha_sign", {"alpha": np.exp(-np.arange(ROWS)), "entropy": 3.0}, {}, 1),
        ("alpha_sign", {"alpha": np.exp(np.arange(ROWS)), "entropy": 3.0}, {}, -1),
        ("alpha_sign", {"alpha": np.exp(np.arange(ROWS)), "entropy": 3.0}, {"target_entropy": 4.0}, 1),
        ("not_finite", {"q1": np.where(LATE > 1, np.inf, 0), "alpha": np.inf}, {}, 2),
        ("share_held", {}, {"replay_capacity": 2500}, 0.25),
    ],
)
def test_a_measure_is_what_it_says(name, metrics, facts, expected):
    assert measured(record(metrics, facts), name) == pytest.approx(expected)


def bootstrapped(reward, bonus, discount, tau, updates):
    """Q after so many gradient steps, one at a time: Q = r + gamma (Q-bar + w H), then Q-bar moves by tau."""
    target, values = 0.0, []
    for _ in range(updates):
        q = reward + discount * (target + bonus)
        values.append(q)
        target += tau * (q - target)
    return np.array(values)


def test_what_rewards_and_entropy_add_up_to_is_what_a_target_network_takes_in():
    q = bootstrapped(-1.0, 0.1 * -1.0, 0.99, 0.005, 10_000)[249::250]
    exact = record({"q1": q})
    np.testing.assert_allclose(View(exact).reward_part + View(exact).entropy_part, q, rtol=0.02)
    assert measured(exact, "q_bias") == pytest.approx(0, abs=0.02)
    assert measured(exact, "q_reach") == pytest.approx(1.0, abs=0.05)  # of |r| + |w H|; gamma aside
    entropy = bootstrapped(0.0, -0.1, 0.99, 0.005, 10_000)[249::250]
    assert measured(record({"q1": q}), "entropy_share") == pytest.approx(np.median(entropy / np.abs(q)), rel=0.02)


def all_entropy(alpha, total_steps=None, updates_per_step=1):
    """A run of 10,000 steps whose policy is random and whose Q is entropy alone, with rewards of 0.001 beside it."""
    run = record({"alpha": alpha, "entropy": 0.6}, {"updates_per_step": updates_per_step}, returns=0.1)
    run = run._replace(metrics=run.metrics | {"q1": View(run).entropy_part + View(run).reward_part})
    return run._replace(facts=run.facts | {"total_steps": total_steps} if total_steps else run.facts)


FALLING = np.exp(-np.arange(ROWS) / 10)  # alpha: a tenth each 250 steps


@pytest.mark.parametrize("updates_per_step", [1, 2])  # as many steps, and the same alpha at each
def test_what_entropy_will_count_for_falls_as_alpha_does(updates_per_step):
    run = all_entropy(FALLING, 12_000, updates_per_step)
    entropy, rewards = View(run).entropy_part[-10:], np.abs(View(run).reward_part[-10:])
    left = entropy * math.exp(-0.8)  # 2,000 steps are eight rows
    assert measured(run, "entropy_share_to_come") == pytest.approx(np.median(left / (left + rewards)))
    assert measured(run, "entropy_share") == pytest.approx(np.median(entropy / (entropy + rewards)))


def test_small_rewards_are_no_finding_while_alpha_falls_soon_enough():
    """As of `crossq` on HalfCheetah after a tenth of its steps; it then learns."""
    assert "rewards_small" not in names(all_entropy(FALLING, 40_000))
    for alpha, total in [(FALLING, 10_000), (FALLING, 11_000), (FALLING, None), (0.1, 10**6)]:
        assert "rewards_small" in clear(all_entropy(alpha, total)), total
    rising = all_entropy(1 / FALLING, 10**6)
    assert measured(rising, "entropy_share_to_come") == measured(rising, "entropy_share")
    v = {"v_loss": np.full(ROWS, 0.1)}  # of `sac_v1` no alpha falls, whatever the column says
    run = all_entropy(0.1, 10**6)
    assert "rewards_small" in names(run._replace(metrics=run.metrics | v | {"alpha": FALLING}))


def test_the_horizon_ends_at_one_over_one_less_the_discount():
    far = record({"step": np.arange(1, ROWS + 1) * 1e6})
    np.testing.assert_allclose(View(far).horizon[-1], 100)


def test_the_mean_reward_is_that_of_the_episodes_in_the_replay():
    returns = np.repeat([-300.0, -100.0], 50)
    full, short = (record(returns=returns, facts={"replay_capacity": x}) for x in (10**6, 2500))
    assert mean_reward(full)[-1] == -2 and mean_reward(full)[0] == -3
    assert mean_reward(short)[-1] == -1
    unknown = record()._replace(training={})
    assert mean_reward(unknown) is None and measured(unknown, "exchange") is None
    evaluated = unknown._replace(
        evaluations={"step": np.array([5e3]), "return": np.array([-8.0]), "length": np.array([4.0])}
    )
    assert set(mean_reward(evaluated)) == {-2}


def test_a_time_limit_is_only_looked_for_where_every_episode_is_as_long():
    uneven = record()
    uneven.training["length"][3] = 99
    assert measured(uneven, "limit_error") is None and measured(uneven, "limit_trace") is None


def evaluations(returns, error=0.1):
    returns = np.array(returns, float)
    return {"step": np.arange(len(returns)) * 1000.0, "return": returns, "error": np.full(len(returns), error)}


@pytest.mark.parametrize(
    "returns, error, expected",
    [
        ([0, 10, 8], 0.1, 0.2),
        ([0, 10, 10], 0.1, 0.0),
        ([0, 10, 8], 3.0, None),  # the rise is chance
        ([0, 10, 8], np.nan, 0.2),  # one episode each: unknown
        ([10, 8], 0.1, None),
    ],
)
def test_a_setback_is_a_share_of_the_rise(returns, error, expected):
    run = record()._replace(evaluations=evaluations(returns, error))
    assert measured(run, "setback") == (pytest.approx(expected) if expected is not None else None)


def test_evaluation_is_compared_with_training():
    run = record()._replace(evaluations=evaluations([-100] * 10 + [-80]))  # training has -100
    assert measured(run, "evaluation_gap") == pytest.approx(((-100 * 2 - 80) / 3 + 100) / 100)


@pytest.mark.parametrize(
    "returns, expected",
    [([0, 0, 0, 0], None), ([0] * 5, 0), ([0, 0, 0, 0, 7], 0.25), ([-3, -3, -2, -1, -3], 0.5), ([5, 1, 2, 3, 4], 1)],
)
def test_returns_are_compared_with_the_first(returns, expected):
    steps = np.arange(len(returns)) * 100.0
    training = {"step": steps, "return": np.array(returns, float), "length": np.full(len(steps), 100.0)}
    assert measured(record()._replace(training=training), "other_returns") == expected


def test_a_reward_that_is_never_met_is_named_and_not_called_small():
    """As in finger-spin of dm_control: Q is what the entropy adds up to, and the policy stays random."""
    metrics = {"q1": 3.0, "entropy": 0.6, "alpha": 0.05, "policy_loss": -3.03, "q1_loss": 0.01, "q2_loss": 0.01}
    run = record(metrics, returns=0.0)
    assert clear(run) == ["reward_unseen"]
    met = run.training["return"] + (np.arange(100) % 20 == 10)  # in one episode of twenty
    found = clear(run._replace(training=run.training | {"return": met}))
    assert "rewards_small" in found and "reward_unseen" not in found


# The replay


def with_transitions(observation, action=None, terminated=None, **options):
    observation = np.asarray(observation, np.float32)
    count = len(observation)
    action = np.zeros([count, 1], np.float32) if action is None else action
    terminated = np.zeros(count, np.float32) if terminated is None else terminated
    return record(transitions=Transition(observation, action, np.zeros(count), observation, terminated), **options)


def test_observations_are_measured_as_the_networks_see_them():
    rng = np.random.default_rng(0)
    observation = np.stack([np.full(1000, 7.1), 1000 * rng.normal(size=1000), rng.normal(size=1000)], axis=1)
    run = with_transitions(observation, observation_scale=(1.0, 0.001, 0.01))
    assert measured(run, "constant_observations") == 1
    assert measured(run, "largest_observation") == pytest.approx(7.1)
    assert measured(run, "smallest_observation") == pytest.approx(0.01, rel=0.1)


def test_remembered_actions_stand_behind_the_observations_that_are_scaled():
    observation = np.stack([np.full(100, 2.0), np.full(100, 30.0), np.full(100, 0.5)], axis=1)
    run = with_transitions(observation, observation_scale=(2.0, 0.1))
    assert measured(run, "largest_observation") == pytest.approx(4)
    assert measured(run._replace(observation_scale=(0.1, 0.01)), "largest_observation") == pytest.approx(0.5)


def test_a_ready_line_brings_observations_to_about_one():
    rng = np.random.default_rng(0)
    observation = np.stack([np.full(1000, 7.1), 1000 * rng.normal(size=1000), 0.3 * rng.normal(size=1000)], axis=1)
    diagnosis = diagnose(with_transitions(observation))
    text = "\n".join(findings.described(diagnosis, with_transitions(observation)))
    assert "observation_scale = (1, 0.001, 3)" in text
    assert {"observations_differ", "observation_constant"} <= {x.symptom.name for x in diagnosis.findings}


def test_a_ready_line_is_for_one_observation_without_what_is_remembered():
    rng = np.random.default_rng(0)
    now, before, action = 1000 * rng.normal(size=[1000, 2]), 1000 * rng.normal(size=[1000, 2]), rng.normal(size=1000)
    run = with_transitions(np.column_stack([now, before, action]), observations=2)
    assert "observation_scale = (0.001, 0.001)\n" in "\n".join(findings.described(diagnose(run), run))


@pytest.mark.parametrize("settings", [{}, {"action_delay": 1, "observation_history": 2}], ids=["nothing", "2 and 1"])
def test_how_many_observations_there_are_is_read_from_the_checkpoint(tmp_path, settings):
    networks = {"policy_hidden_units": (4,), "critic_hidden_units": (4,), "replay_capacity": 10, "batch_size": 1}
    tfsac.SAC("Pendulum-v1", **networks, **settings).save(tmp_path)
    assert read_run(tmp_path).observations == 3  # of rows with 3 and with 2 x 3 + 1


def test_saturated_actions_are_those_of_late():
    action = np.zeros([1000, 2], np.float32)
    action[-250:, 0] = -0.995
    assert measured(with_transitions(np.zeros([1000, 3]), action), "saturation") == 0.5
    action[-250:, 0] = 0.98
    assert measured(with_transitions(np.zeros([1000, 3]), action), "saturation") == 0


def test_an_end_of_every_episode_that_is_terminal_is_a_time_limit():
    terminated = np.zeros(1000, np.float32)
    terminated[99::100] = 1
    run = with_transitions(np.random.default_rng(0).normal(size=[1000, 3]), None, terminated)
    assert measured(run, "terminal_ends") == 1
    assert "time_limit" in names(run)
    assert "time_limit" not in names(with_transitions(np.zeros([1000, 3])))


def test_what_the_loss_hints_at_is_no_time_limit_where_nothing_ever_ended():
    hint = {"q1": -10.0, "q1_loss": 1.0, "q2_loss": 3.0}
    observation, ends = np.random.default_rng(0).normal(size=[1000, 3]), np.eye(1, 1000, 99, np.float32)[0]
    assert measured(record(hint), "limit_error") == 4  # the replay is not known
    assert measured(with_transitions(observation, None, ends, metrics=hint), "limit_error") == 4
    assert measured(with_transitions(observation, metrics=hint), "limit_error") is None


# The findings


def test_a_consequence_stands_behind_its_cause_and_says_so():
    run = record({"entropy": 1.4})  # above log 2: and so the entropy's share is too large
    found = diagnose(run).findings
    assert found[0].symptom.name == "entropy_too_high" and found[0].cause is None
    assert all(x.cause is found[0].symptom for x in found[1:] if x.symptom.name in found[0].symptom.explains)


def test_the_strongest_come_first():
    levels = [x.symptom.level for x in diagnose(record({"entropy": 1.4, "alpha": LATE})).findings if not x.cause]
    assert levels == sorted(levels, key=findings.LEVELS.index)


def test_symptoms_explain_only_what_there_is():
    known = {symptom.name for symptom in SYMPTOMS}
    assert len(known) == len(SYMPTOMS)
    assert all(set(symptom.explains) <= known - {symptom.name} for symptom in SYMPTOMS)


def test_every_condition_has_its_measure_and_its_threshold():
    conditions = [c for symptom in SYMPTOMS for alternative in symptom.alternatives for c in alternative]
    assert {c.measure for c in conditions} == set(MEASURES)
    assert {c.threshold for c in conditions} == set(THRESHOLDS)


def test_before_enough_gradient_steps_nothing_is_said_but_of_numbers_that_are_none():
    early = record({"entropy": 5.0, "step": np.linspace(1, MIN_UPDATES - 1, ROWS)})
    assert diagnose(early).too_early and not diagnose(early).findings
    assert "Too early" in "\n".join(findings.described(diagnose(early), early))
    assert names(record({"entropy": 5.0, "step": np.linspace(1, 4 * MIN_UPDATES, ROWS)}))
    assert names(early._replace(stopped=True)) == ["not_finite"]


def test_nothing_at_all_is_no_finding():
    empty = Record({}, {}, {}, {})
    assert not diagnose(empty).findings and diagnose(empty).too_early


def test_little_to_look_at_is_not_called_healthy():
    little = record(dict.fromkeys(("q1", "entropy", "policy_loss"), None))._replace(training={}, facts={})
    text = "\n".join(findings.described(diagnose(little), little))
    assert "Nothing is suspicious, but only" in text and "healthy" not in text
    assert "without q1, entropy" in text and "--fact" in text


# The command


def command(*words, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, "-m", "tfsac.diagnose", *map(str, words)], cwd=cwd, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done


def write_run(folder, record, settings="train.start_steps = 0\nSAC.discount = 0.99\nSAC.target_entropy = None\n"):
    """The record as a run directory, without a checkpoint."""
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text(settings)
    for name, columns in {"metrics": record.metrics, "episodes": record.training}.items():
        write_csv(folder / f"{name}.csv", columns)
    return folder


def write_csv(path, columns):
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *zip(*columns.values(), strict=True)])


def test_a_run_directory_is_read_and_drawn(tmp_path):
    logdir = write_run(tmp_path / "run", record({"policy_loss": -50.0}))
    done = command(logdir, "--fact=action_dim=1")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "1. clear: The policy lowers Q instead of raising it" in said
    assert "(policy_loss, q1, entropy, alpha; steps 250 to 10,000)" in said
    assert "healthy 1 to 1 in healthy runs; suspicious below" in said
    assert "docs/symptoms.md#the-policy-lowers-q-instead-of-raising-it" in said
    assert "observations and actions were not looked at: no checkpoint" in said
    drawn = image.imread(logdir / "diagnosis.png")
    assert drawn.std() > 0.01 and min(drawn.shape[:2]) > 100


def test_another_programs_columns_are_named(tmp_path):
    columns = {name: x for name, x in record({"entropy": 9.0}).metrics.items() if name in ("step", "entropy")}
    write_csv(tmp_path / "log.csv", {"frames": columns["step"], "policy/H": columns["entropy"]})
    words = "--column=step=frames", "--column=entropy=policy/H", "--fact=action_dim=2", f"--out={tmp_path}/deep/out"
    done = command(tmp_path / "log.csv", *words)
    assert done.returncode == 0, done.stderr
    assert "1. clear: The entropy is higher than it can be" in done.stdout and "policy/H; steps" in done.stdout
    assert "Assumed: discount = 0.99" in done.stdout
    assert (tmp_path / "deep/out/diagnosis.png").exists() and not (tmp_path / "diagnosis.png").exists()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["nowhere"], "expected a run directory or a CSV file"),
        (["."], "config.gin"),
        (["log.csv"], "--column=step=NAME"),
        (["log.csv", "--column=step=nothing"], "no column 'nothing'"),
        (["log.csv", "--column=steps=frames"], "--column"),
        (["log.csv", "--column=step"], "--column"),
        (["log.csv", "--fact=gamma=1"], "--fact"),
        (["log.csv", "--fact=action_dim=two"], "a whole number"),
        (["log.csv", "--fact=discount=much"], "a number from 0 to 1"),
        (["log.csv", "--fact=discount=1.5"], "a number from 0 to 1, received 1.5"),
        (["log.csv", "--fact=target_entropy=nan"], "received nan"),
        (["log.csv", "--fact=action_dim=0"], "a whole number from 1"),
        (["bad.csv"], "received 'oops'"),
        (["log.csv", "--column=step=nan"], "no number in the column nan"),
        (["log.csv", "bad.csv"], "one RUN"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, words, expected):
    from tfsac import diagnose as module

    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("frames,loss,nan\n1,2,nan\n")
    Path("bad.csv").write_text("step,q1_loss\n1,oops\n")
    flags = {"--column": [], "--fact": []}
    paths = [word for word in words if not word.startswith("--")]
    for word in words:
        if word.startswith("--"):
            flags[word.split("=")[0]].append(word.split("=", 1)[1])
    with pytest.raises(UserError, match=re.escape(expected)):
        module.say(paths, flags["--column"], flags["--fact"], None)


@pytest.mark.parametrize(
    "fact, measure",
    [
        ("discount=0.9", "q_reach"),
        ("tau=0.5", "q_reach"),
        ("action_dim=3", "entropy_gap"),
        ("target_entropy=5", "alpha_sign"),
        ("start_steps=5000", "q_reach"),
        ("updates_per_step=9", "q_reach"),
        ("replay_capacity=500", "share_held"),
        ("total_steps=12000", "entropy_share_to_come"),
    ],
)
def test_every_fact_counts(fact, measure):
    name, value = fact.split("=")
    run = record({"alpha": np.exp(-np.arange(ROWS) / 10), "entropy": 3.0}, {"replay_capacity": 10**6})
    changed = run._replace(facts=run.facts | {name: FACTS[name][0](value)})
    assert measured(changed, measure) != pytest.approx(measured(run, measure))


def test_the_reward_scale_counts_where_there_is_a_v():
    v1 = record({"v_loss": 1.0})
    assert measured(v1._replace(facts=v1.facts | {"reward_scale": 4.0}), "exchange") == measured(v1, "exchange") / 4


def test_every_fact_has_its_turn_above():
    cases = test_every_fact_counts.pytestmark[0].args[1]
    assert {fact.split("=")[0] for fact, _ in cases} | {"reward_scale"} == set(FACTS)


def test_a_row_that_is_still_being_written_is_left_out(tmp_path):
    logdir = write_run(tmp_path / "run", record())
    whole = read_run(logdir, replay=False)
    with open(logdir / "metrics.csv", "a") as file:
        file.write("10250.0,1.0,1")
    assert read_run(logdir, replay=False).metrics["step"].tolist() == whole.metrics["step"].tolist()


def test_settings_of_the_run_are_its_facts(tmp_path):
    text = "train.start_steps = 7\ntrain.replay_capacity = 99\nSAC.discount = 0.9\nSAC.tau = 0.1\n"
    text += "SAC.target_entropy = None\nSAC.observation_scale = (1.0, 2.0)\nenv.id = 'Pendulum-v1'\n"
    run = read_run(write_run(tmp_path / "run", record(), text), {"tau": 0.2}, replay=False)
    assert run.facts == {"start_steps": 7, "replay_capacity": 99, "discount": 0.9, "tau": 0.2}
    assert run.observation_scale == (1.0, 2.0)
    text += "env.observation_history = 3\n"
    run = read_run(write_run(tmp_path / "remembers", record(), text), replay=False)
    assert run.observation_scale == (1.0, 2.0) * 3


@pytest.mark.parametrize("extra", ["env.training_kwargs = {'g': 1.0}", "env.training_wrappers = ['ClipReward']"])
def test_evaluations_of_another_task_are_not_compared_with_training(tmp_path, extra):
    gaps = []
    for name, more in (("same", ""), ("none", "\nenv.training_kwargs = {}"), ("other", f"\n{extra}")):
        logdir = write_run(tmp_path / name, record(), f"train.start_steps = 0{more}\n")
        write_csv(logdir / "evaluations.csv", {"step": [10_000], "episode": [0], "return": [-300.0], "length": [100]})
        gaps.append(measured(read_run(logdir, replay=False), "evaluation_gap"))
    assert gaps == [pytest.approx(-2 / 3), pytest.approx(-2 / 3), None]


def test_an_algorithm_without_a_tau_follows_at_once(tmp_path):
    assert read_run(write_run(tmp_path / "run", record()), replay=False).facts["tau"] == 1.0


def test_where_there_is_no_target_network_none_stands_still():
    """LunarLander of `crossq`, on the way from -200 to 100: Q passes 0, and the replay's rewards would make it -100."""
    metrics = {"q1": np.linspace(-15.0, 5.0, ROWS), "policy_loss": np.linspace(15.1, -4.9, ROWS)}
    metrics |= {"q1_loss": 0.01, "q2_loss": 0.01}
    assert "target_still" in clear(record(metrics))
    alone = diagnose(record(metrics, {"tau": 1.0}))
    assert not alone.suspicious
    assert ("target_still", ()) in {(symptom.name, lacking) for symptom, lacking in alone.unseen}  # it does not apply


def test_a_run_that_stopped_for_a_number_that_is_none(tmp_path):
    logdir = write_run(tmp_path / "run", record())
    assert "not_finite" not in names(read_run(logdir, replay=False))
    np.savez(logdir / "non_finite.npz", q1_loss=np.nan)
    assert names(read_run(logdir, replay=False))[0] == "not_finite"


def test_a_written_nan_is_no_number_and_an_empty_cell_is_none(tmp_path):
    (tmp_path / "log.csv").write_text("step,q1_loss,alpha\n1,0.5,\n2,nan,0.1\n3,inf,0.1\n")
    metrics = read_table(tmp_path / "log.csv").metrics
    assert metrics["q1_loss"].tolist() == [0.5, np.inf, np.inf]
    assert np.isnan(metrics["alpha"][0]) and metrics["alpha"][1] == 0.1


odd_numbers = st.sampled_from([0.0, -1.0, 1.0, 1e-300, 1e300, -1e300, np.nan, np.inf, 250.0])


@given(st.data())
def test_whatever_the_tables_hold_there_is_an_answer(data):
    """The trainer asks, too: a diagnosis that fails must not end a run."""

    def table(columns, rows):
        kept = data.draw(st.sets(st.sampled_from(columns)))
        values = {name: np.array(data.draw(st.lists(odd_numbers, min_size=rows, max_size=rows))) for name in kept}
        return {"step": np.arange(1, rows + 1) * 1e4} | values

    metrics = table(
        [name for name in COLUMNS if name not in ("step", "return", "length")], data.draw(st.integers(1, 6))
    )
    training, evaluated = (table(["return", "length"], data.draw(st.integers(0, 4))) for _ in range(2))
    known = {"action_dim": 1} | data.draw(st.sampled_from([{}, {"discount": 1.0, "tau": 1.0}, {"discount": 0.0}]))
    both = [x if {"return", "length"} <= set(x) else {} for x in (training, evaluated)]
    both[1] |= {"error": np.full(len(both[1]["step"]), np.nan)} if both[1] else {}
    run = Record(metrics, *both, known)
    assert findings.described(diagnose(run), run)


# What the trainer says


@pytest.mark.parametrize(
    "metrics, finished, expected",
    [
        ({}, True, "nothing looks wrong; python -m tfsac.diagnose"),
        ({}, False, None),
        ({"policy_loss": -50.0}, True, "something is wrong: the policy lowers Q instead of raising it; python -m"),
        ({"policy_loss": -50.0}, False, "something is wrong: the policy lowers Q instead of raising it; python -m"),
        ({"q1": -5000.0, "policy_loss": 5000.0}, True, "perhaps something is wrong: Q is far from what"),
        ({"q1": -5000.0, "policy_loss": 5000.0}, False, None),
        ({"step": np.linspace(1, 100, ROWS)}, True, "too early to say"),
        ({"step": np.linspace(1, 100, ROWS)}, False, None),
    ],
)
def test_the_trainer_has_one_line_or_none(tmp_path, metrics, finished, expected):
    logdir = write_run(tmp_path / "run", record(metrics))
    line = findings.one_line(logdir, action_dim=1, finished=finished)
    if expected is None:
        assert line is None
    else:
        assert line.startswith(expected) and str(logdir) in line and "\n" not in line


def test_what_the_trainer_says_to_type_can_be_typed(tmp_path):
    logdir = write_run(tmp_path / "Jörgs Läufe" / "1 & 2", record())
    typed = findings.one_line(logdir, action_dim=1).partition("; ")[2].removesuffix(" says what was looked at")
    assert shlex.split(typed) == ["python", "-m", "tfsac.diagnose", str(logdir)]


def test_tables_that_cannot_be_read_do_not_end_a_run(tmp_path):
    logdir = write_run(tmp_path / "run", record())
    (logdir / "metrics.csv").write_text("step,q1_loss\n1,oops\n")
    assert findings.one_line(logdir, action_dim=1) is None
    assert findings.one_line(tmp_path / "nowhere", action_dim=1) is None


# The document


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.name)
def test_every_symptom_has_its_paragraph_and_its_picture(symptom):
    assert f"\n### {symptom.title}\n" in SYMPTOMS_PAGE
    paragraph = SYMPTOMS_PAGE.split(f"\n### {symptom.title}\n")[1].split("\n### ")[0].split("\n## ")[0]
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", paragraph)
    assert pictures
    for path in pictures:
        drawn = image.imread(ROOT / "docs" / path)
        assert drawn.std() > 0.01
        assert (ROOT / "docs" / path).stat().st_size < 60_000


def test_the_document_has_the_thresholds_in_one_table(calibrated):
    thresholds, updates = calibrated
    assert derivation.table(thresholds) in SYMPTOMS_PAGE
    assert f"{updates:,} gradient steps" in DOCUMENT


def test_the_document_names_every_column_and_fact():
    assert all(f"`{name}`" in DOCUMENT for name in (*COLUMNS, *FACTS))


def test_levels_are_explained():
    assert all(f"**{level}**" in DOCUMENT for level in (*findings.LEVELS, NOTE))


def test_the_picture_of_a_healthy_run_and_of_next_to_nothing(tmp_path):
    for name, run in (("healthy", record()), ("little", record({"step": np.linspace(1, 100, ROWS)}))):
        picture.draw(run, diagnose(run), tmp_path / f"{name}.png")
        assert image.imread(tmp_path / f"{name}.png").std() > 0.01


def test_the_replay_of_a_checkpoint_is_read(tmp_path, monkeypatch):
    """A run of today, through the trainer's own checkpoint."""
    from runs import bindings, run_here

    run_here(tmp_path / "run", bindings(total_steps=300, checkpoint_every=100))
    run = read_run(tmp_path / "run")
    assert run.facts["action_dim"] == 1 and not run.remarks
    assert run.transitions.observation.shape == (300, 3) and run.transitions.action.shape == (300, 1)
    np.testing.assert_allclose(np.sum(run.transitions.observation[:, :2] ** 2, axis=1), 1, rtol=1e-5)  # cos and sin
    assert np.all(run.transitions.reward <= 0)
    monkeypatch.setattr("tfsac.diagnosis.record.TRANSITIONS", 150)  # of a large replay the last files are enough
    newest = read_run(tmp_path / "run").transitions.action
    assert 150 <= len(newest) < 300
    np.testing.assert_array_equal(newest, run.transitions.action[-len(newest) :])


def test_the_history_of_an_agent_that_python_saved_stands_for_its_tables(tmp_path):
    agent = tfsac.SAC("Pendulum-v1", policy_hidden_units=(4,), critic_hidden_units=(4,), batch_size=8)
    agent.save(tmp_path / "untrained")
    (remark,) = read_run(tmp_path / "untrained").remarks
    assert remark.startswith("this run has no tables")
    agent.history.metrics.extend({"step": step, "q1_loss": step / 100} for step in (4000, 8000))
    agent.history.episodes.append({"step": 200, "return": -900.0, "length": 200})
    agent.history.evaluations.append({"step": 5000, "returns": [-300.0, -100.0]})
    agent.save(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.metrics["step"].tolist() == [4000, 8000] and run.metrics["q1_loss"].tolist() == [40, 80]
    assert {name: x.tolist() for name, x in run.training.items()} == {"step": [200], "return": [-900], "length": [200]}
    assert run.evaluations["return"].tolist() == [-200] and run.evaluations["error"] == pytest.approx([100 / 2**0.5])
    assert not run.remarks and diagnose(run).updates == 7000  # after 1,000 start_steps
    (tmp_path / "run" / "episodes.csv").write_text("step,return,length\n")  # tables that a command writes
    assert not read_run(tmp_path / "run").metrics

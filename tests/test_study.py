"""The study's faults: each changes what it should, nothing else, and nothing at all where it cannot do harm."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfsac.algorithms import registry
from tfsac.algorithms.sac_v1 import SACv1
from tfsac.data.collector import Collector
from tfsac.data.envs import EnvSettings
from tfsac.data.replay import Transition
from tfsac.run import settings

STUDY = Path(__file__).parents[1] / "benchmarks" / "study"
sys.path.insert(0, str(STUDY))

import faults  # noqa: E402
import results  # noqa: E402

O, A, B = 3, 2, 8  # noqa: E741 (the sizes' names everywhere)
OF_THE_AGENT = [name for name, fault in faults.FAULTS.items() if issubclass(fault, SACv1)]
# Where a fault is seen after one gradient step, in which V learns first, then both Q, then the policy, then target V.
V, Q, POLICY = {"v", "v_optimizer"}, {"q1", "q2", "q_optimizer"}, {"policy", "policy_optimizer"}
CHANGED = {
    "average_as_printed": {"v", "v_target"},
    "b_against_b1": V | Q | POLICY | {"v_target"},
    "no_gradient_through_q": POLICY,
    "no_reward_scale": Q | POLICY,
    "no_tanh_correction": V | POLICY | {"v_target"},
    "one_q": V | POLICY | {"v_target"},
    "policy_minimises_q": POLICY,
    "replay_actions_for_v": V | {"v_target"},
    "target_never_moves": {"v_target"},
    "wrong_sign_of_entropy": V | POLICY | {"v_target"},
}


def make(fault, **options):
    """An agent with the fault of that name, or without one, with weights of its own in every array.

    Adam's second moments are 1: from 0, its first step is the sign of the gradient, whatever its size.
    """
    sizes = dict(policy_hidden_units=(6, 5), critic_hidden_units=(6, 5))
    rates = dict(v_learning_rate=0.1, q_learning_rate=0.1, policy_learning_rate=0.1)
    options = dict(tau=0.1, reward_scale=5.0) | sizes | rates | options
    agent = faults.FAULTS.get(fault, SACv1)(O, A, 0, **options)
    rng, state = np.random.default_rng(0), agent.get_state()
    networks = [name for name in state if name.partition("/")[0] in ("policy", "q1", "q2", "v", "v_target")]
    state |= {name: rng.normal(0, 0.5, state[name].shape).astype(np.float32) for name in networks}
    agent.set_state(state | {name: np.ones_like(x) for name, x in state.items() if "optimizer/v/" in name})
    return agent


def batch_and_noise(size=B):
    rng = np.random.default_rng(1)
    observation, next_observation = rng.normal(size=[2, size, O])
    action, reward = np.tanh(rng.normal(size=[size, A])), rng.normal(size=size)
    batch = observation, action, reward, next_observation, rng.random(size) < 0.3
    return Transition(*(tf.constant(x, tf.float32) for x in batch)), rng.normal(size=[2, size, A]).astype(np.float32)


def step(agent, batch, noise):
    """One gradient step: metrics, and the state after it."""
    return {name: float(x) for name, x in agent.gradient_step(batch, noise).items()}, agent.get_state()


def different(one, other):
    """The parts of an agent whose states are not equal bit for bit."""
    assert one.keys() == other.keys()
    return {name.partition("/")[0] for name, x in one.items() if x.tobytes() != other[name].tobytes()}


def assert_same(one, other):
    """Metrics and states are equal but for the order of float32 sums, a thousandth of what a step of 0.1 moves."""
    for mine, others in zip(one, other, strict=True):
        assert mine.keys() == others.keys()
        for name, x in mine.items():
            np.testing.assert_allclose(x, others[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def right():
    """A gradient step without a fault."""
    return step(make("none"), *batch_and_noise())


def test_every_fault_is_told_apart():
    assert sorted(CHANGED) == sorted(OF_THE_AGENT)


@pytest.mark.parametrize("fault", OF_THE_AGENT)
def test_a_fault_changes_what_it_should_and_nothing_else(fault, right):
    assert different(step(make(fault), *batch_and_noise())[1], right[1]) == CHANGED[fault]


def make_q1_the_lower(agent):
    agent.q2.trainable_variables[-1].assign([100.0])  # the bias of its last layer


def make_critics_blind_to_the_action(agent):
    for critic in (agent.q1, agent.q2):
        kernel = critic.trainable_variables[0]  # [O + A, units]
        kernel.assign(np.where(np.arange(O + A)[:, None] < O, kernel.numpy(), 0.0))


@pytest.mark.parametrize(
    "fault, options, prepare",
    [
        ("no_reward_scale", {"reward_scale": 1.0}, None),
        ("target_never_moves", {"tau": 0.0}, None),
        ("one_q", {}, make_q1_the_lower),
        ("no_gradient_through_q", {"q_learning_rate": 0.0}, make_critics_blind_to_the_action),
    ],
)
def test_a_fault_does_nothing_where_it_cannot(fault, options, prepare):
    agents = [make(name, **options) for name in (fault, "none")]
    for agent in agents:
        if prepare:
            prepare(agent)
    assert_same(*(step(agent, *batch_and_noise()) for agent in agents))


def test_b_against_b1_is_right_for_a_batch_of_one():
    assert_same(*(step(make(fault), *batch_and_noise(1)) for fault in ("b_against_b1", "none")))


def test_b_against_b1_holds_every_prediction_to_every_target(right):
    metrics, _ = step(make("b_against_b1"), *batch_and_noise())
    agent, (batch, noise) = make("none"), batch_and_noise()
    action, log_prob = agent.sample(batch.observation, noise[0])
    v, target = agent.v(batch.observation).numpy(), (agent.min_q(batch.observation, action) - log_prob).numpy()
    assert metrics["v_loss"] == pytest.approx(np.mean([[(x - y) ** 2 / 2 for y in target] for x in v]), rel=1e-5)
    assert right[0]["v_loss"] == pytest.approx(np.mean((v - target) ** 2) / 2, rel=1e-5)


def test_replayed_actions_are_right_where_the_policy_has_just_drawn_them():
    agents = [make(fault) for fault in ("replay_actions_for_v", "none")]
    batch, noise = batch_and_noise()
    batch = batch._replace(action=agents[0].sample(batch.observation, noise[0])[0])
    assert_same(*(step(agent, batch, noise) for agent in agents))


def test_the_average_as_printed_draws_v_to_its_target(right):
    before, (_, after), tau = make("none").get_state(), step(make("average_as_printed"), *batch_and_noise()), 0.1
    for name in (name for name in before if name.startswith("v_target/")):
        learned = right[1][name.replace("v_target", "v", 1)]  # which the right average does not touch
        found = after[name.replace("v_target", "v", 1)]
        np.testing.assert_allclose(found, tau * learned + (1 - tau) * before[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(after[name], before[name])


def test_a_policy_that_minimises_q_learns_from_minus_q_what_a_right_one_learns_from_q():
    agents = [make(fault, q_learning_rate=0.0) for fault in ("policy_minimises_q", "none")]
    for agent in agents:
        make_q1_the_lower(agent)
    for variable in agents[0].q1.trainable_variables[-2:]:  # of the last layer: Q_1 is -Q_1 now
        variable.assign(-variable.numpy())
    one, other = (step(agent, *batch_and_noise()) for agent in agents)
    assert one[0]["policy_loss"] == other[0]["policy_loss"]
    assert not different(one[1], other[1]) & POLICY


def test_the_wrong_sign_of_the_entropy_is_in_both_losses(right):
    metrics, _ = step(make("wrong_sign_of_entropy"), *batch_and_noise())
    # mean(-log pi - Q) = mean(log pi - Q) + 2 mean(-log pi), of the same Q, which has learned nothing wrong yet
    expected = right[0]["policy_loss"] + 2 * right[0]["entropy"]
    assert metrics["policy_loss"] == pytest.approx(expected, rel=1e-4)
    agent, (batch, noise) = make("none"), batch_and_noise()
    action, log_prob = agent.sample(batch.observation, noise[0])
    errors = agent.v(batch.observation) - (agent.min_q(batch.observation, action) + log_prob)
    assert metrics["v_loss"] == pytest.approx(np.mean(np.square(errors)) / 2, rel=1e-5)


def test_without_the_change_of_variables_the_density_is_that_of_the_noise():
    batch, noise = batch_and_noise()
    (action, log_prob), (same, _) = (
        make(fault).sample(batch.observation, noise[0]) for fault in ("no_tanh_correction", "none")
    )
    np.testing.assert_array_equal(action, same)
    expected = -0.5 * np.sum(np.square(noise[0], dtype=np.float64) + np.log(2 * np.pi), axis=-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


@pytest.mark.parametrize("fault", ["none", *faults.FAULTS])
def test_the_setting_names_the_fault(fault):
    found = settings.read([], ["train.algorithm = 'sac_v1'", faults.setting(fault)])
    expected = faults.FAULTS.get(fault, SACv1)
    wrapped = expected is faults.TimeLimitIsTerminal
    assert registry.find(found["train"]["algorithm"]) is (SACv1 if wrapped else expected)
    assert found["env"]["wrappers"] == (("faults:TimeLimitIsTerminal",) if wrapped else ())


@pytest.mark.parametrize("fault, terminal_steps", [("none", []), ("time_limit_is_terminal", [199, 399])])
def test_pendulum_has_a_terminal_state_only_where_its_time_limit_is_taken_for_one(fault, terminal_steps):
    env = EnvSettings(**settings.read([], [faults.setting(fault)])["env"])
    transitions, episodes = Collector([env.make()], 0).collect(400, lambda observation, step: [0.0])
    assert np.flatnonzero(transitions.terminated).tolist() == terminal_steps
    assert [(step, length) for step, _, length in episodes] == [(200, 200), (400, 200)]


def test_a_table_has_the_runs_that_were_added_to_it(tmp_path):
    table = results.Table(tmp_path / "new" / "table.csv.gz", ("step", "return"))
    assert table.runs() == {}
    table.add("b-seed0", [(1, "-0.5"), (2, "")])
    table.add("a-seed1", [(1, 'text, "quoted"')])
    written = gzip.decompress(table.path.read_bytes()).decode()
    assert written == 'run,step,return\nb-seed0,1,-0.5\nb-seed0,2,\na-seed1,1,"text, ""quoted"""\n'
    expected = {"b-seed0": [{"step": "1", "return": "-0.5"}, {"step": "2", "return": ""}],
                "a-seed1": [{"step": "1", "return": 'text, "quoted"'}]}  # fmt: skip
    assert table.runs() == results.Table(table.path, table.columns).runs() == expected


@pytest.mark.parametrize(
    "lost, started", [("", ""), ("reacher-sac-seed7", "--seeds=7"), ("pendulum-sbx-ours-seed4", "--seed=4")]
)
def test_the_study_runs_what_its_table_lacks_and_nothing_else(lost, started, tmp_path):
    program = (
        "import subprocess, sys, results, runs\n"
        "def start(command, **_): print(*command); sys.exit('no process is started here')\n"
        "subprocess.Popen = subprocess.run = start\n"
        f"results.RETURNS.runs().pop({lost!r}, None)\n"
        "runs.RUNS = runs.Path(sys.argv.pop())\n"
        "runs.main()\n"
    )
    command = [sys.executable, "-c", program, "--sb3=SB3", "--sbx=SBX", tmp_path]
    done = subprocess.run(command, cwd=STUDY, capture_output=True, text=True)
    assert bool(done.returncode) == bool(lost), done.stderr
    assert done.stdout.count("\n") == bool(lost) and started in done.stdout

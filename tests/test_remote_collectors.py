"""Collectors in processes of their own: nothing counted twice, nobody runs ahead, and what happens when one dies."""

import importlib.util

import envs_for_tests  # noqa: F401  registers the environments
import numpy as np
import pytest
from commands import TESTS, Command, run
from runs import bindings, flags, rows, run_here, state

from tfsac.data.collector import BehaviourPolicy
from tfsac.data.envs import EnvSettings
from tfsac.errors import NonFiniteError, RunError, UserError, require_ray
from tfsac.policy import Layer, Policy
from tfsac.run import checkpoint

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`): its tests are skipped")
# Before a Ray of this process asks for tokens, which the commands of other tests would lack.
pytestmark = pytest.mark.usefixtures("ray_address")

from ray.cluster_utils import Cluster  # noqa: E402

from tfsac.data.remote_collectors import DEATHS, IN_FLIGHT, WEIGHTS_EVERY, RemoteCollectors, connect  # noqa: E402

BLOCK = 8
TAG, COUNT = 0, 1  # what Walk's observations are made of


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    """Started once: the collectors of all tests but those of clusters and of commands join it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", TESTS)  # where the collectors find the environments
        connect()
        yield
        ray.shutdown()


def env(name):
    return EnvSettings(f"envs_for_tests:{name}")


@pytest.fixture
def collectors():
    """Makes RemoteCollectors and ends them."""
    made = []

    def make(number=2, env_id="Walk-v0", num_envs=1, start_steps=0, seed=0):
        made.append(RemoteCollectors(number, env(env_id), num_envs, start_steps, seed, BLOCK))
        return made[-1]

    yield make
    for subject in made:
        subject.close()


def acting(action, observation_dim=3):
    """A way of acting of which the deterministic part is tanh(action) and the spread is nothing."""
    mu, log_std = (Layer(np.zeros([observation_dim, 1], "f"), np.full(1, bias, "f")) for bias in (action, -20))
    return BehaviourPolicy(Policy((), mu, log_std), 1, 0, None)


def no_transition_twice(replay):
    """Of rows that begin with Walk's observation: its tag is one of an episode, its count one of a step."""
    return len(np.unique(replay[:, [TAG, COUNT]], axis=0)) == len(replay)


def test_transitions_are_those_of_whole_episodes_and_none_comes_twice(collectors):
    subject, seen, episodes = collectors(3, num_envs=2), [], []
    for _ in range(30):
        (s, a, _, next_s, terminated), ended = subject.collect(BLOCK, acting(0.5))
        assert [x.shape for x in (s, a, terminated)] == [(BLOCK, 3), (BLOCK, 1), (BLOCK,)]
        np.testing.assert_array_equal(next_s[:, TAG], s[:, TAG])
        np.testing.assert_array_equal(next_s[:, COUNT], s[:, COUNT] + 1)
        assert len(ended) == sum(terminated)
        seen.append(s)
        episodes += ended
    assert subject.steps == 30 * BLOCK
    assert no_transition_twice(np.concatenate(seen))
    assert all(length == 7 and 0 < step <= subject.steps for step, _, length in episodes)
    np.testing.assert_allclose([total for _, total, _ in episodes], -7 * (1 + 2 * np.tanh(0.5)) ** 2, rtol=1e-5)


def test_actions_are_uniform_for_exactly_start_steps(collectors):
    subject = collectors(1, start_steps=5 * BLOCK)
    actions = np.concatenate([subject.collect(BLOCK, acting(20.0))[0].action[:, 0] for _ in range(12)])
    assert np.sum(actions < 1) == 5 * BLOCK
    assert np.sum(np.abs(actions[actions < 1]) < 0.9) > 10


def test_a_policy_reaches_every_collector_and_is_no_older_than_it_says(collectors):
    """The learner rests first, until all that it asked for is done: collectors that ran ahead would come with blocks of
    the old policy for long."""
    subject = collectors(2)
    for _ in range(WEIGHTS_EVERY // BLOCK):
        subject.collect(BLOCK, acting(-20.0))
        assert 0 <= subject.metrics()["policy_age"][0] <= subject.steps
    ray.wait(list(subject._pending), num_returns=len(subject._pending), timeout=None)
    allowed = WEIGHTS_EVERY + 2 * IN_FLIGHT * BLOCK  # to be sent, and what was asked for before
    actions, ages = [], []
    for _ in range(20):
        actions.append(subject.collect(BLOCK, acting(20.0))[0].action[0, 0])
        ages += subject.metrics()["policy_age"]
    old = int(np.sum(np.array(actions) == -1))
    # Which come when is not promised: a slow collector's last old block may come behind a quick one's new ones.
    assert 0 < old <= 2 * IN_FLIGHT and set(actions) == {-1, 1}
    late = sum(age > allowed for age in ages)  # what a collector that had to wait for a core was asked for before
    assert late <= 2 * IN_FLIGHT and len(set(ages)) > 1


def test_a_short_block_drops_what_is_over(collectors):
    subject = collectors(1)
    transitions, episodes = subject.collect(3, acting(0.0))
    assert len(transitions.reward) == subject.steps == 3 and episodes == []


@pytest.mark.parametrize(
    "env_id, kind, message",
    [
        ("Raises-v0", RunError, "the environment .*Raises-v0 raised KeyError"),
        ("NanObservation-v0", NonFiniteError, "the environment's observation is not finite"),
    ],
)
def test_what_goes_wrong_in_an_environment_is_told_as_without_collectors(collectors, env_id, kind, message):
    subject = collectors(1, env_id)
    with pytest.raises(kind, match=message) as raised:
        for _ in range(10):
            subject.collect(BLOCK, acting(0.0))
    if kind is NonFiniteError:
        assert np.isnan(raised.value.batch["observation"]).any()


def test_collectors_that_always_die_end_the_run(collectors, capfd):
    subject = collectors(1, "KillsAtOnce-v0")
    with pytest.raises(RunError, match="collectors die before their first block"):
        subject.collect(BLOCK, acting(0.0))
    assert capfd.readouterr().err.count("a collector died") == DEATHS


def run_with(logdir, env_id="Kills-v0", resume=False, **options):
    params = bindings(env_id=f"envs_for_tests:{env_id}", collectors=2, steps_per_call=BLOCK, **options)
    return run_here(logdir, params, resume=resume)


def test_collectors_die_and_the_run_ends_with_the_steps_it_was_asked_for(tmp_path, capfd):
    """Each collector kills itself after 200 steps."""
    assert run_with(tmp_path, total_steps=1003, updates_per_step=2) == 1003
    assert "a collector died" in capfd.readouterr().err
    arrays, _, replay = state(tmp_path)
    assert len(replay) == 1000 and no_transition_twice(replay)  # the capacity
    assert arrays["agent/gradient_steps"] == pytest.approx(2 * (1003 - 16), rel=0.05)
    assert all(float(row["policy_age"]) >= 0 for row in rows(tmp_path / "metrics.csv"))


def test_a_resumed_run_goes_on_with_new_episodes(tmp_path):
    run_with(tmp_path, "Walk-v0", total_steps=96)
    assert run_with(tmp_path, "Walk-v0", total_steps=400, resume=True) == 400
    arrays, _, replay = state(tmp_path)
    assert len(replay) == 400 and no_transition_twice(replay)
    assert arrays["agent/gradient_steps"] == 400 - 16 + BLOCK  # the block that reaches start_steps is the first
    steps = [int(row["step"]) for row in rows(tmp_path / "episodes.csv")]
    assert steps == sorted(steps)


def test_a_killed_run_is_resumed_from_its_last_checkpoint(tmp_path):
    """Killed in a run that would take for ever, and asked for a little more than it had come to."""
    options = {"env_id": "envs_for_tests:Walk-v0", "collectors": 2, "checkpoint_every": 64}
    arguments, folder = flags(bindings(total_steps=10**9, **options)), tmp_path / "run" / "checkpoints"
    command = Command("tfsac.train", "--logdir=run", *arguments, cwd=tmp_path, PYTHONPATH=TESTS)
    command.wait_until(lambda: len(checkpoint.steps(folder)) > 1)
    command.kill()
    assert command.wait().status == -9
    total = checkpoint.steps(folder)[-1] + 100
    again = ["--resume", "--trust=envs_for_tests", f"--gin_param=train.total_steps = {total}"]
    done = run("tfsac.train", "--logdir=run", *again, cwd=tmp_path, PYTHONPATH=TESTS)
    assert done.status == 0, done.err
    arrays, _, replay = state(tmp_path / "run")
    assert len(replay) == min(total, 1000) and no_transition_twice(replay)
    assert arrays["agent/gradient_steps"] == total - 16 + BLOCK


def test_without_collectors_nothing_of_ray_is_imported(tmp_path):
    (tmp_path / "look.py").write_text(
        "import sys, tfsac.train\n"
        "from tfsac.run import settings\n"
        "assert tfsac.train.run('run', settings.read([], sys.argv[1:])) == 0\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ray']\n"
    )
    done = run("look", *bindings(total_steps=24), cwd=tmp_path)
    assert done.status == 0, done.err


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"train.collectors needs Ray, .*pip install ray rich"):
        require_ray("train.collectors")


def test_no_ray_at_the_address_is_one_line(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(UserError, match="no Ray at --ray_address=127.0.0.1:1 .*ray start --head"):
        connect("127.0.0.1:1")


@pytest.mark.parametrize(
    "error, reason",
    [
        (RuntimeError("no room\nfor more"), "no room"),
        (Exception("The current node timed out during startup."), "The current node timed out during startup."),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_ray_that_does_not_start_here_is_no_fault_of_an_address(error, reason, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(RunError, match=f"^Ray could not be started on this machine: {reason}$"):
        connect()


def test_who_is_connected_connects_no_second_time():
    assert not connect()


def test_a_run_outlives_a_node(tmp_path):
    """Two nodes of Ray's own test cluster; the one without the learner goes. The last test here: it ends our Ray."""

    def node_of(_):  # in here: Ray would import this whole file for a function outside
        return ray.get_runtime_context().get_node_id()

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2)
    try:
        connect(cluster.address)
        subject = RemoteCollectors(4, env("Walk-v0"), 1, 0, 0, BLOCK, cluster.address)
        seen = [subject.collect(BLOCK, acting(0.0))[0].observation for _ in range(10)]
        places = {ray.get(actor.__ray_call__.remote(node_of)) for actor in subject._actors}
        assert len(places) == 2  # else the loss of a node would prove nothing
        cluster.remove_node(node, allow_graceful=False)
        seen += [subject.collect(BLOCK, acting(0.0))[0].observation for _ in range(40)]
        assert subject.steps == 50 * BLOCK and no_transition_twice(np.concatenate(seen))
    finally:
        ray.shutdown()
        cluster.shutdown()

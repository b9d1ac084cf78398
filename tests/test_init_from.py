"""train.init_from: a run that begins with another run's networks, and maybe with its replay."""

import numpy as np
import pytest

import tfsac
from tfsac.errors import UserError
from tfsac.run import checkpoint

SMALL = {"policy_hidden_units": (4,), "critic_hidden_units": (4,), "batch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An agent that has learned for a few steps, and the run directory it left."""
    path = tmp_path_factory.mktemp("run")
    agent = tfsac.SAC("Pendulum-v1", seed=1, start_steps=10, **SMALL)
    agent.fit(60, progress=False)
    agent.save(path)
    return agent, path


def test_it_begins_with_the_other_runs_networks_but_steps_and_replay_of_its_own(trained):
    agent, path = trained
    other = tfsac.SAC("Pendulum-v1", seed=2, init_from=str(path), start_steps=50, max_episode_steps=20, **SMALL)
    assert other.step == 0 and len(other._loop.replay) == 0
    for name, x in agent._loop.agent.get_state().items():
        np.testing.assert_array_equal(other._loop.agent.get_state()[name], x)
    # It acts with that policy at once: not uniformly, as the first start_steps of another run.
    other.fit(20, progress=False)
    rows = other._loop.replay.rows(0, 20)
    noise = np.random.default_rng([2, 2]).standard_normal([20, 1], np.float32)
    np.testing.assert_allclose(rows[:, 3:4], agent.policy.sample(rows[:, :3], noise), rtol=1e-5)


def test_it_may_take_the_replay_along(trained):
    agent, path = trained
    other = tfsac.SAC("Pendulum-v1", seed=2, init_from=str(path), init_replay=True, start_steps=0, **SMALL)
    np.testing.assert_array_equal(other._loop.replay.rows(0, 60), agent._loop.replay.rows(0, 60))
    other.fit(8, progress=False)
    assert len(other._loop.replay) == 68


def test_a_saved_run_goes_on_without_the_run_that_it_began_with(trained, tmp_path):
    _, path = trained
    other = tfsac.SAC("Pendulum-v1", seed=2, init_from=str(path), start_steps=0, **SMALL)
    other.fit(16, progress=False)
    other.save(tmp_path / "other")
    config = tmp_path / "other" / "checkpoints" / "step-000000016" / "facts.json"
    assert str(path) in config.read_text()  # and yet it is not read:
    again = tfsac.load(tmp_path / "other")
    for one, two in zip(other.policy.arrays().values(), again.policy.arrays().values(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_does_not_fit_is_refused_in_one_line(trained, tmp_path):
    _, path = trained
    with pytest.raises(UserError, match="no checkpoint in"):
        tfsac.SAC("Pendulum-v1", init_from=str(tmp_path), **SMALL)
    with pytest.raises(UserError, match="is of another network: .* differs"):
        tfsac.SAC("Pendulum-v1", init_from=str(path), action_delay=1, **SMALL)
    with pytest.raises(UserError, match="init_replay needs train.init_from"):
        tfsac.SAC("Pendulum-v1", init_replay=True, **SMALL)


def test_other_factors_of_the_observations_are_refused(trained, monkeypatch):
    agent, path = trained
    with pytest.raises(UserError, match="expected that run's factors of .*observation_scale.* received others"):
        tfsac.SAC("Pendulum-v1", init_from=str(path), observation_scale=(1.0, 1.0, 0.1), **SMALL)
    same = tfsac.SAC("Pendulum-v1", init_from=str(path), observation_scale=(1.0, 1.0, 1.0), **SMALL)
    np.testing.assert_array_equal(same.predict([0.6, 0.8, 2.0]), agent.predict([0.6, 0.8, 2.0]))
    # A checkpoint that does not hold the policy beside the networks, as it once was, cannot tell.
    restored = checkpoint.restore(path / "checkpoints")
    networks = {name: x for name, x in restored.arrays.items() if not name.startswith("policy/")}
    monkeypatch.setattr(checkpoint, "restore", lambda _: restored._replace(arrays=networks))
    tfsac.SAC("Pendulum-v1", init_from=str(path), observation_scale=(1.0, 1.0, 0.1), **SMALL)

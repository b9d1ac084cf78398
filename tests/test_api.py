"""Agents in Python: what a notebook or a user's program types, and what it gets."""

import errno
import os
import signal
import subprocess
import sys
import threading

import envs_for_tests  # noqa: F401  registers the environments
import gymnasium as gym
import numpy as np
import pytest

import tfsac
from tfsac.data.envs import make_env
from tfsac.data.rollout import rollout
from tfsac.errors import NonFiniteError, RunError, UserError
from tfsac.run import checkpoint

SMALL = {
    "policy_hidden_units": (8, 8),
    "critic_hidden_units": (8,),
    "start_steps": 16,
    "batch_size": 8,
    "replay_capacity": 1_000,
}


def pendulum():
    return gym.make("Pendulum-v1")


def assert_same_agents(one, other):
    (facts, arrays), (other_facts, other_arrays) = one._loop.get_state(), other._loop.get_state()
    assert facts == other_facts and arrays.keys() == other_arrays.keys()
    different = [name for name in arrays if arrays[name].tobytes() != other_arrays[name].tobytes()]
    assert not different
    held = len(one._loop.replay)
    assert one._loop.replay.rows(0, held).tobytes() == other._loop.replay.rows(0, held).tobytes()


@pytest.mark.parametrize("env", [pendulum, pendulum()], ids=["a function", "an object"])
def test_an_agent_is_built_from_each_kind_of_environment_and_learns_the_same(env, trained):
    agent = tfsac.SAC(env, **SMALL)
    history = agent.fit(48, progress=False)
    assert agent.step == 48 and history is agent.history
    assert_same_agents(agent, trained)  # which was given an id


@pytest.mark.parametrize("agent", [tfsac.SAC, tfsac.SACv1, tfsac.CrossQ])
def test_every_algorithm_has_its_class(agent):
    learner = agent("Pendulum-v1", **SMALL)
    learner.fit(32, progress=False)
    assert learner._loop.agent.name == agent.algorithm


def test_settings_are_those_of_gin_files():
    agent = tfsac.SAC("Pendulum-v1", seed=5, discount=0.9, updates_per_step=2, **SMALL)
    assert agent._loop.agent.discount == 0.9 and agent._loop.agent.seed == 5
    agent.fit(16, progress=False)
    assert agent._loop.agent.gradient_steps.numpy() == 16  # the block from 8 to 16, twice its steps


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"gamma": 0.9}, "unknown setting SAC.gamma: did you mean discount?"),
        ({"discount": 2}, "SAC.discount: expected a number from 0 to 1, received 2"),
        ({"batch_size": 0}, "train.batch_size: expected a number above 0"),
        ({"algorithm": "ppo"}, "expected one of 'sac', 'sac_v1', 'crossq' or 'module:Class', received 'ppo'"),
        ({"collectors": 1}, "collectors: only python -m tfsac.train has them"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UserError) as refused:
        tfsac.SAC("Pendulum-v1", **settings)
    assert words in str(refused.value)


def test_an_object_is_one_environment():
    with pytest.raises(UserError, match="num_envs = 2: expected a function that makes environments"):
        tfsac.SAC(pendulum(), num_envs=2)
    tfsac.SAC(pendulum, num_envs=2, **SMALL).fit(24, progress=False)


def endless():
    return gym.make("Endless-v0")


@pytest.mark.parametrize("env", [endless, endless()], ids=["a function", "an object"])
def test_wrappers_and_a_time_limit_are_put_around_what_python_gives(env, tmp_path):
    none = ("envs_for_tests:TimesReward", {"factor": 0.0})
    agent = tfsac.SAC(env, max_episode_steps=5, wrappers=(none,), **SMALL)
    agent.fit(12, progress=False)
    assert agent.history.episodes == [{"step": step, "return": 0.0, "length": 5} for step in (5, 10)]
    assert agent.evaluate(2) == [0.0, 0.0]  # an endless environment without it
    agent.save(tmp_path)
    again = tfsac.load(tmp_path, env=env, trust=["envs_for_tests"])
    again.fit(12, progress=False)
    assert [row["length"] for row in again.history.episodes] == [5, 5, 5, 5]


@pytest.mark.parametrize("env", ["Endless-v0", endless, endless()], ids=["an id", "a function", "an object"])
def test_training_wrappers_are_put_around_what_is_learned_in_alone(env):
    none, ones = (("envs_for_tests:TimesReward", {"factor": 0.0}), ("envs_for_tests:AddToReward", {"amount": 1.0}))
    agent = tfsac.SAC(env, max_episode_steps=5, wrappers=(none,), training_wrappers=(ones,), **SMALL)
    for _ in range(2):  # an object serves both by turns
        agent.fit(5, progress=False)
        assert agent.evaluate(2) == [0.0, 0.0]
    assert agent.history.episodes == [{"step": step, "return": 5.0, "length": 5} for step in (5, 10)]
    with pytest.raises(UserError, match="expected the same observation_space"):
        tfsac.SAC(env, max_episode_steps=5, training_wrappers=("TimeAwareObservation",), **SMALL)


@pytest.mark.parametrize("name", ["kwargs", "training_kwargs"])
def test_what_cannot_reach_an_environment_that_python_made_is_refused(name):
    with pytest.raises(UserError, match=f"{name} = {{'g': 1.0}}: expected the id of an environment .*where it is made"):
        tfsac.SAC(pendulum, **{name: {"g": 1.0}})
    with pytest.raises(UserError, match="max_episode_steps = 300: .* ends its episodes after 200 steps already"):
        tfsac.SAC(pendulum(), max_episode_steps=300)


@pytest.mark.parametrize("env, kind", [(42, "int"), (lambda: gym.make_vec("Pendulum-v1", num_envs=2), "SyncVectorEnv")])
def test_what_is_no_environment_is_refused(env, kind):
    with pytest.raises(UserError, match=f"expected a gymnasium.Env, .*received {kind}"):
        tfsac.SAC(env, **SMALL)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"steps": 0}, "steps: expected a number above 0, received 0"),
        ({"steps": 1.5}, "steps: expected a whole number, received 1.5"),
        ({"steps": "8"}, "steps: expected a whole number, received '8'"),
        ({"steps": 8, "evaluate_every": 0}, "evaluate_every: expected a number above 0, received 0"),
        ({"steps": 8, "evaluate_every": 8, "evaluate_episodes": 0}, "evaluate_episodes: expected a number above 0"),
    ],
)
def test_fit_refuses_what_is_no_number_of_steps_before_it_trains(trained, arguments, words):
    with pytest.raises(UserError, match=words):
        trained.fit(**arguments)
    assert trained.step == 48


def test_fit_takes_1e1_and_numpys_numbers_and_shows_no_rows():
    agent = tfsac.SAC("Pendulum-v1", **SMALL)
    agent.fit(1e1, progress=False)
    history = agent.fit(np.int64(195), progress=False)
    assert agent.step == 205
    assert repr(history) == "History(1 episodes, 1 metrics, 0 evaluations)"


def test_history_holds_episodes_evaluations_and_metrics():
    agent = tfsac.SAC("Walk-v0", **SMALL)
    history = agent.fit(300, evaluate_every=100, evaluate_episodes=2, progress=False)
    assert [row["step"] for row in history.episodes] == list(range(7, 300, 7))  # Walk's episodes are 7 steps long
    assert [row["step"] for row in history.evaluations] == [104, 200, 300]  # at the ends of blocks of 8
    assert all(len(row["returns"]) == 2 for row in history.evaluations)
    assert [row["step"] for row in history.metrics] == [256, 300] and "q1_loss" in history.metrics[0]
    agent.fit(100, evaluate_every=100, progress=False)
    assert [row["step"] for row in history.evaluations] == [104, 200, 300, 400]


@pytest.fixture(scope="module")
def trained():
    agent = tfsac.SAC("Pendulum-v1", **SMALL)
    agent.fit(48, progress=False)
    return agent


def test_predict_is_the_policy_in_the_environments_units(trained):
    observations = np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)
    expected = 2 * np.tanh(trained._loop.agent.policy(observations)[0])  # Pendulum's torque reaches from -2 to 2
    np.testing.assert_allclose(trained.predict(observations), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trained.predict(observations[0]), expected[0], rtol=1e-5, atol=1e-6)
    drawn = [trained.predict(observations[0], deterministic=False) for _ in range(20)]
    assert len({float(x[0]) for x in drawn}) == 20 and all(abs(x[0]) <= 2 for x in drawn)


@pytest.mark.parametrize("observation", [np.zeros(4), np.zeros([2, 4]), 1.0, np.zeros([1, 1, 3])])
def test_predict_refuses_another_shape(trained, observation):
    with pytest.raises(UserError, match=r"observation: expected shape \(3,\) or \(B, 3\), received"):
        trained.predict(observation)


def test_predict_takes_a_dict_as_the_environment_gives_it():
    agent = tfsac.SAC("Dict-v0", **SMALL)
    action = agent.predict({"velocity": np.array([1.0, 2.0]), "height": np.array(0.5)})
    np.testing.assert_array_equal(action, agent.predict([0.5, 1.0, 2.0]))  # in the order of the keys


def test_predict_takes_a_dict_as_a_wrapper_has_changed_it(trained):
    agent = tfsac.SAC("Dict-v0", wrappers=(("FilterObservation", {"filter_keys": ["velocity"]}),), **SMALL)
    velocity = {"velocity": np.array([1.0, 2.0])}
    for observation in (velocity, velocity | {"height": np.array(0.5)}):  # also as it was before the wrapper
        np.testing.assert_array_equal(agent.predict(observation), agent.predict([1.0, 2.0]))
    with pytest.raises(UserError, match="observation: expected a dict with velocity, received {'height': 0.5}"):
        agent.predict({"height": 0.5})
    with pytest.raises(UserError, match="observation: expected an array, .* received a dict"):
        trained.predict(velocity)


def test_evaluate_is_a_rollout_of_the_policy(trained):
    expected, _ = rollout(trained.policy.deterministic, make_env("Pendulum-v1"), 2, seed=7)
    assert trained.evaluate(episodes=2, seed=7) == expected


def test_an_object_is_evaluated_in_between_training_episodes():
    """The same object: training begins a new episode behind it, and no transition leads from the one to the other."""
    env = gym.make("Walk-v0", disable_env_checker=True)
    agent = tfsac.SAC(env, **SMALL)
    agent.fit(40, evaluate_every=16, evaluate_episodes=1, progress=False)
    rows = agent._loop.replay.rows(0, 40)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 5])  # s and s' carry one episode's tag
    begins = np.flatnonzero(rows[:, 1] == 0)
    np.testing.assert_array_equal(begins, [0, 7, 14, 16, 23, 30, 32, 39])  # anew at 16 and 32, where it was evaluated


def test_a_time_limit_that_is_not_declared_is_looked_for_only_once():
    env = gym.make("Truncated-v0", disable_env_checker=True)  # after 7 steps
    agent = tfsac.SAC(env, **SMALL)
    for steps in (14, 21, 28):  # the trial and an evaluation, then evaluations alone
        agent.evaluate(1)
        assert env.unwrapped.all_steps == steps


def exported_in_part(policy, states, env, *_, **__):
    env.reset(seed=0)
    raise KeyboardInterrupt


@pytest.mark.parametrize("use", ["evaluate", "export"])
def test_training_begins_a_new_episode_behind_what_was_broken_off(use, tmp_path, monkeypatch):
    monkeypatch.setattr("tfsac.deploy.pipeline.export", exported_in_part)
    env = gym.make("Walk-v0", disable_env_checker=True)
    agent = tfsac.SAC(env, **SMALL | {"start_steps": 1000})
    agent.fit(12, progress=False)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(env.unwrapped, "step", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        agent.evaluate(1) if use == "evaluate" else agent.export(tmp_path)
    agent.fit(12, progress=False)
    rows = agent._loop.replay.rows(0, 24)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 5])  # s and s' carry one episode's tag
    assert rows[12, 1] == 0  # how many steps the episode had


@pytest.mark.parametrize("algorithm", [tfsac.SAC, tfsac.CrossQ])
def test_of_an_agent_whose_losses_ran_away_the_last_sound_policy_is_left(algorithm):
    agent = algorithm("Pendulum-v1", **SMALL)
    agent.fit(24, progress=False)
    networks, observation = agent._loop.agent, np.ones(3, np.float32)
    expected = 2 * networks.deployed_policy().deterministic(observation)
    networks.q1.trainable_variables[0].assign(np.full(networks.q1.trainable_variables[0].shape, np.nan))
    with pytest.raises(NonFiniteError, match="left the range of numbers"):
        agent.fit(8, progress=False)
    assert not np.isfinite(networks.deployed_policy().deterministic(observation))
    np.testing.assert_allclose(agent.predict(observation), expected, rtol=1e-6)


def test_a_loaded_agent_goes_on_bit_for_bit(tmp_path, trained):
    part = tfsac.SAC("Pendulum-v1", **SMALL)
    part.fit(24, progress=False)
    part.save(tmp_path / "agent")
    again = tfsac.load(tmp_path / "agent")
    assert_same_agents(again, part)
    assert again.history == part.history
    again.fit(24, progress=False)
    assert_same_agents(again, trained)
    again.save(tmp_path / "agent")  # its own directory: the run goes on there
    assert tfsac.load(tmp_path / "agent").step == 48


def test_an_agent_of_an_object_is_loaded_with_one(tmp_path):
    agent = tfsac.SAC(pendulum(), **SMALL)
    agent.fit(32, progress=False)
    agent.save(tmp_path)
    with pytest.raises(UserError, match=r"given as an object: load\(path, env=\.\.\.\) needs one again"):
        tfsac.load(tmp_path)
    with pytest.raises(UserError, match="has 3 observations and 1 actions, the environment 10 and 2"):
        tfsac.load(tmp_path, env="Reacher-v5")
    assert tfsac.load(tmp_path, env="Pendulum-v1").step == 32
    again = tfsac.load(tmp_path, env=pendulum())
    again.fit(8, progress=False)
    assert again.step == 40


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A run directory that names a wrapper of a module, which has not been imported since."""
    (tmp_path / "strange_module.py").write_text("import gymnasium\n\n\nclass Same(gymnasium.Wrapper):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    tfsac.SAC("Pendulum-v1", wrappers=("strange_module:Same",), **SMALL).save(tmp_path / "agent")
    del sys.modules["strange_module"]
    return tmp_path / "agent"


@pytest.mark.parametrize("env", [None, "Pendulum-v1", pendulum])
def test_what_a_run_names_is_imported_only_when_it_is_trusted(stranger, env):
    with pytest.raises(UserError, match="would import the module 'strange_module': .* add --trust=strange_module"):
        tfsac.load(stranger, env=env)
    assert "strange_module" not in sys.modules
    tfsac.load(stranger, env=env, trust=["strange_module"])
    assert "strange_module" in sys.modules


def test_what_an_environment_raises_as_it_is_made_again_is_not_blamed_on_the_checkpoint(tmp_path):
    tfsac.SAC(pendulum, **SMALL).save(tmp_path)
    with pytest.raises(ZeroDivisionError):
        tfsac.load(tmp_path, env=lambda: 1 // 0)


@pytest.mark.parametrize("setting", [{"env_processes": True}, {"collectors": 1}], ids=lambda x: next(iter(x)))
def test_a_run_that_python_cannot_go_on_with_says_what_can(tmp_path, monkeypatch, setting):
    tfsac.SAC("Pendulum-v1", **SMALL).save(tmp_path)
    restored = checkpoint.restore(tmp_path / "checkpoints")
    restored.settings["train"] |= setting
    monkeypatch.setattr(checkpoint, "restore", lambda _: restored)
    with pytest.raises(UserError, match=f"trained with train.{next(iter(setting))}.*--resume .*tfsac.load_policy"):
        tfsac.load(tmp_path)


def test_save_can_be_called_again_after_a_full_disk(tmp_path, monkeypatch):
    agent = tfsac.SAC("Pendulum-v1", **SMALL)
    with monkeypatch.context() as full, pytest.raises(RunError, match="No space left on device"):
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        agent.save(tmp_path)
    agent.save(tmp_path)
    assert tfsac.load(tmp_path).step == 0


@pytest.mark.parametrize("steps", [8, 16], ids=["an earlier step", "the same step"])
def test_of_two_agents_of_one_directory_only_one_goes_on_there(tmp_path, steps):
    settings = SMALL | {"start_steps": 1000}  # nothing is learned, nor compiled
    tfsac.SAC("Pendulum-v1", **settings).save(tmp_path / "run")
    one, two = (tfsac.load(tmp_path / "run") for _ in range(2))
    one.fit(16, progress=False)
    one.save(tmp_path / "run")
    two.fit(steps, progress=False)
    with pytest.raises(UserError, match="expected a last checkpoint of step 0, received 16; save this"):
        two.save(tmp_path / "run")
    two.save(tmp_path / "other")
    assert tfsac.load(tmp_path / "run").step == 16 and tfsac.load(tmp_path / "other").step == steps
    one.save(tmp_path / "run")  # once more, with nothing new


def test_the_settings_of_an_agent_of_an_object_say_that_they_lack_an_environment(tmp_path):
    tfsac.SAC(pendulum(), **SMALL).save(tmp_path)
    assert "this run; with an env.id, --gin_file=THIS_FILE repeats it\n" in (tmp_path / "config.gin").read_text()
    program = [sys.executable, "-m", "tfsac.train", "--gin_file=config.gin"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "error: this was trained in Python, in an environment passed as" in done.stderr


def test_another_run_is_not_overwritten(tmp_path, trained):
    trained.save(tmp_path)
    with pytest.raises(UserError, match=r"already holds a run: tfsac.load\(path\) .* save this agent elsewhere$"):
        tfsac.SAC("Pendulum-v1", **SMALL).save(tmp_path)


def test_the_policy_of_a_saved_agent_runs_without_tensorflow(tmp_path, trained):
    trained.save(tmp_path / "agent")
    program = (
        "import sys, tfsac\n"
        "policy = tfsac.load_policy('agent')\n"
        "print(repr(policy([0.6, 0.8, -1.0])[0]), policy([[0.6, 0.8, -1.0]] * 3).shape)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{trained.predict([0.6, 0.8, -1.0])[0]!r} (3, 1)\n"


def test_importing_tfsac_imports_nothing_heavy():
    program = "import sys; before = set(sys.modules); import tfsac; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert len(imported) < 20 and not {"numpy", "gymnasium", "tensorflow"} & set(imported)


class Interrupting(gym.Wrapper):
    """Ctrl-C in the middle of a block, as the environment takes its step number 27."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 27:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(action)


def test_ctrl_c_leaves_the_agent_at_its_last_whole_block_and_fit_goes_on(trained, capfd):
    before = signal.getsignal(signal.SIGINT)
    agent = tfsac.SAC(Interrupting(pendulum()), **SMALL)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 32"):
        agent.fit(48, progress=False)
    assert capfd.readouterr().out == "\nstopping after this block of steps; interrupt again to stop at once\n"
    assert signal.getsignal(signal.SIGINT) is before
    agent.fit(16, progress=False)
    assert_same_agents(agent, trained)


def test_fit_works_twice_and_in_a_thread(trained):
    agent, faults = tfsac.SAC("Pendulum-v1", **SMALL), []

    def fit():
        try:
            agent.fit(32, progress=False)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert not faults
    agent.fit(16, progress=False)
    assert_same_agents(agent, trained)


def test_commands_go_on_with_what_python_saved(tmp_path, trained):
    trained.save(tmp_path / "agent")
    program = [sys.executable, "-m", "tfsac.evaluate", "--logdir=agent", "--episodes=2", "--json"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(trained.evaluate(2)) in done.stdout

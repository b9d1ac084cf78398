"""Imperfections of the world and what the policy remembers: each setting turned, with values by hand."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

import tfsac
from tfsac.data.collector import Collector
from tfsac.data.envs import EnvSettings
from tfsac.data.imperfections.machine import FrictionLoss, Push, root_dofs
from tfsac.errors import UserError
from tfsac.run import settings as run_settings
from tfsac.run.loop import make_agent


class Echo(gym.Env):
    """Observation (a number drawn at the reset, steps taken); the reward is the action that arrived."""

    observation_space = Box(-8.0, 8.0, [2], np.float32)
    action_space = Box(-1.0, 3.0, [1], np.float32)  # the middle is 1

    def __init__(self):
        self.weight, self.name, self.count = 2.0, "echo", 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.float32([self.np_random.random(), 0])
        return self.state.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.state[1] += 1
        return self.state.copy(), float(action[0]), False, bool(self.state[1] == 20), {}


class Pair(Echo):
    """The same with a Dict observation."""

    observation_space = Dict({"tag": Box(0.0, 1.0, [], np.float32), "steps": Box(0.0, 99.0, [1], np.float32)})

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return {"tag": observation[0], "steps": observation[1:]}, info

    def step(self, action):
        observation, *rest = super().step(action)
        return {"tag": observation[0], "steps": observation[1:]}, *rest


gym.register("Echo-v0", Echo, disable_env_checker=True)
gym.register("Pair-v0", Pair, disable_env_checker=True)


def make(**settings):
    return EnvSettings("Echo-v0", **settings).make(unit_actions=False)


def applied(env, commands, seed=0):
    """What reached the machine of these commands."""
    env.reset(seed=seed)
    return [env.step(np.float32([x]))[1] for x in commands]


def shown(env, steps, seed=0):
    """What the policy was shown, from the reset on."""
    observations = [env.reset(seed=seed)[0]]
    return np.array(observations + [env.step(np.float32([0]))[0] for _ in range(steps)])


def chain(env):
    names = []
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return names


def test_an_environment_without_imperfections_has_no_wrapper_more():
    assert chain(make()) == ["_Checked", "OrderEnforcing"]
    assert chain(EnvSettings("Echo-v0").make()) == ["TransformAction", "_Checked", "OrderEnforcing"]


def test_the_order_is_the_documented_one():
    env = EnvSettings("Echo-v0").make_plain()
    settings = EnvSettings(
        None,
        action_delay=1,
        observation_delay=1,
        observation_noise=0.1,
        observation_bits=8,
        action_drop=0.1,
        action_slew=0.5,
        randomize={"weight": 2.0},
    )
    sensing = ["History", "ObservationDelay", "Quantised", "SensorNoise"]
    acting = ["ActionDelay", "HoldLast", "SlewLimit", "Randomize"]
    inner = ["_Checked", "OrderEnforcing"]
    assert chain(settings.with_imperfections(env)) == ["TransformAction", *sensing, *acting, *inner]


def test_a_delayed_action_arrives_so_many_steps_later():
    assert applied(make(action_delay=2, history=0), [3, 2, -1, 0]) == [1, 1, 3, 2]  # 1: the middle


def test_a_delay_is_drawn_for_each_episode_and_covers_the_pair():
    env = make(action_delay=(0, 2), history=0)
    arrivals = {tuple(applied(env, [3, 2, -1, 0], seed)) for seed in range(30)}
    assert arrivals == {(3, 2, -1, 0), (1, 3, 2, -1), (1, 1, 3, 2)}
    assert applied(env, [3, 2, -1, 0], 7) == applied(env, [3, 2, -1, 0], 7)


def test_a_delayed_observation_is_the_first_one_until_others_arrive():
    steps = shown(make(observation_delay=2, history=0), 5)[:, 1]
    assert steps.tolist() == [0, 0, 0, 1, 2, 3]


def test_noise_has_the_deviation_that_is_set_in_the_observations_units():
    env, exact = make(observation_noise=(0.0, 0.5)), make()
    errors = np.concatenate([shown(env, 20, seed) - shown(exact, 20, seed) for seed in range(100)])
    assert np.all(errors[:, 0] == 0)
    assert abs(np.mean(errors[:, 1])) < 0.05 and abs(np.std(errors[:, 1]) - 0.5) < 0.03
    both = np.concatenate([shown(make(observation_noise=0.5), 20, seed) - shown(exact, 20, seed) for seed in range(50)])
    assert np.all(abs(np.std(both, axis=0) - 0.5) < 0.05)


def test_the_starts_of_seeds_stay_what_they_are():
    troubled = make(observation_noise=(0.0, 0.5), action_drop=0.5, action_delay=(0, 3), history=0)
    tags = [shown(troubled, 20, seed)[0, 0] for seed in range(5)]
    assert tags == [shown(make(), 20, seed)[0, 0] for seed in range(5)] and len(set(tags)) == 5


def test_two_kinds_of_chance_draw_numbers_of_their_own():
    alone = shown(make(observation_noise=(0.0, 0.5)), 20, 3)
    both = shown(make(observation_noise=(0.0, 0.5), action_drop=0.5, action_delay=(0, 3), history=0), 20, 3)
    np.testing.assert_array_equal(alone, both)


def test_bits_of_the_bounds_and_bits_of_a_range():
    # 16 / 2^5 = 0.5 of the space's bounds; 2 * 3 / 2^2 = 1.5
    tag = shown(make(), 1)[0, 0]
    assert shown(make(observation_bits=5), 1)[0, 0] == np.round(tag / 0.5) * 0.5
    assert shown(make(observation_bits=(2, 3.0)), 5)[:, 1].tolist() == [0, 1.5, 1.5, 3, 4.5, 4.5]
    assert shown(make(observation_bits=(2, (1.0, 3.0))), 1)[0, 0] == np.round(tag / 0.5) * 0.5


@pytest.mark.parametrize(
    "name, widths",
    [
        ("Float64", [2 / 16] * 3),  # from -1 to 1
        ("IntegerObservation", [205 / 16] * 4),  # from -5 to 200
        ("Dict", [1 / 16, 18 / 16, 18 / 16]),  # the height, then both velocities
    ],
)
def test_bits_of_bounds_in_any_numbers(name, widths):
    env = EnvSettings(f"envs_for_tests:{name}-v0", observation_bits=4).make(unit_actions=False)
    np.testing.assert_array_equal(env.width, np.float32(widths))


def test_bits_of_bounds_that_there_are_not_are_refused_with_the_cure():
    with pytest.raises(UserError, match=r"observation_bits.*no bounds.*\(bits, range\)"):
        EnvSettings("Reacher-v5", observation_bits=8).make()


def test_a_lost_command_leaves_the_last_one_that_arrived():
    assert applied(make(action_drop=1.0), [3, 2, 0]) == [1, 1, 1]
    lost = 0
    for seed in range(50):
        held = 1
        for command, arrived in zip(
            [3, 2, 0, -1] * 5, applied(make(action_drop=0.3), [3, 2, 0, -1] * 5, seed), strict=True
        ):
            assert arrived in (command, held)
            lost += arrived != command
            held = arrived
    assert 0.25 < lost / 1000 < 0.35


def test_a_slew_limit_is_in_parts_of_the_span_and_starts_in_the_middle():
    # 0.25 of the span of 4 is 1 a step
    assert applied(make(action_slew=0.25), [3, 3, 3, -1, 1.5]) == [2, 3, 3, 2, 1.5]


def test_history_holds_the_commands_newest_first_in_the_environments_units():
    env = make(action_delay=2)
    assert shown(env, 0)[0, 1:].tolist() == [0, 1, 1]
    env.reset(seed=0)
    rows = [env.step(np.float32([x]))[0][1:].tolist() for x in (3, 2, -1)]
    assert rows == [[1, 3, 1], [2, 2, 3], [3, -1, 2]]  # what was commanded, not the middle that was applied
    assert env.observation_space.shape == (4,)


def test_history_is_as_long_as_the_delays_unless_it_is_set():
    assert EnvSettings(action_delay=(0, 3), observation_delay=2).remembered_actions == 5
    assert EnvSettings(action_delay=(0, 3), history=0).remembered_actions == 0
    assert make(history=4).observation_space.shape == (6,)
    assert shown(make(action_delay=1), 0).shape == (1, 3)
    env = make(action_delay=1)
    env.reset(seed=0)
    env.step(np.float32([3]))
    assert env.reset(seed=0)[0][2] == 1  # the last episode is forgotten


def test_past_observations_come_newest_first_and_begin_as_copies_of_the_first():
    rows = shown(make(observation_history=3, history=1), 3)
    assert rows.shape == (4, 7)
    assert rows[:, [1, 3, 5]].tolist() == [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 1]]
    assert rows[:, 6].tolist() == [1, 0, 0, 0]


def test_unit_actions_reach_the_history_in_the_environments_units():
    env = EnvSettings("Echo-v0", history=1).make()
    env.reset(seed=0)
    assert env.step(np.float32([0.5]))[0][2] == 2  # 1 + 0.5 * 2


def test_a_dict_observation_is_flattened_before_it_is_disturbed():
    assert EnvSettings("Pair-v0", observation_noise=0.1, history=2).make().reset(seed=0)[0].shape == (4,)
    bias = ("tfsac.data.imperfections.sensors:SensorBias", {"size": [2.0, 0.0]})
    assert abs(EnvSettings("Pair-v0", wrappers=(bias,)).make().reset(seed=0)[0][0]) == 2  # steps come before the tag


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"action_delay": (3, 1)}, r"env.action_delay: expected a pair \(least, largest\), received \(3, 1\)"),
        ({"observation_noise": (0.1,)}, "env.observation_noise: expected one number, or one for each of the .* 2"),
        ({"randomize": {"mass": 2.0}}, "env.randomize: 'mass' cannot vary in Echo; these can: weight"),
        ({"randomize": {"weight": (2.0, 1.0)}}, "expected a pair"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words):
        make(**settings)


def test_the_fields_that_a_mujoco_model_has_are_named():
    with pytest.raises(UserError, match="'m' cannot vary in ReacherEnv; these can: .*body_mass.*opt.gravity"):
        EnvSettings("Reacher-v5", randomize={"m": 2.0}).make()


def test_attributes_are_scaled_from_what_they_were_at_first_in_every_episode():
    env = make(randomize={"weight": (0.5, 2.0)})
    factors = []
    for seed in range(300):
        env.reset(seed=seed)
        factors.append(env.unwrapped.weight / 2)
    assert min(factors) >= 0.5 and max(factors) <= 2 and len(set(factors)) == 300
    assert 0.45 < np.mean(np.array(factors) < 1) < 0.55  # of the logarithm: half of the factors lie below 1
    # Wrapped again, as a second measurement does it: the factor is of the nominal value still.
    again = EnvSettings("Echo-v0", randomize={"weight": 3.0}).with_imperfections(env.unwrapped)
    again.reset(seed=0)
    assert env.unwrapped.weight == 6
    again.close()
    assert env.unwrapped.weight == 2


def test_pendulums_mass_changes_what_a_torque_does():
    def velocity(**settings):
        env = EnvSettings("Pendulum-v1", **settings).make(unit_actions=False)
        env.reset(seed=0)
        env.unwrapped.state = np.array([np.pi, 0.0])  # hanging: gravity does nothing
        return env.step(np.float32([2.0]))[0][2]

    # Gymnasium's documentation: theta_dot' = 3 u dt / (m l^2)
    assert velocity() == pytest.approx(3 * 2 * 0.05, rel=1e-5)
    assert velocity(randomize={"m": 2.0}) == pytest.approx(3 * 2 * 0.05 / 2, rel=1e-5)
    assert velocity(randomize={"l": 0.5}) == pytest.approx(3 * 2 * 0.05 / 0.25, rel=1e-5)


def test_a_mujoco_models_inertia_goes_with_its_mass_and_mujocos_constants_are_computed_anew():
    nominal = gym.make("Hopper-v5").unwrapped.model
    env = EnvSettings("Hopper-v5", randomize={"body_mass": 2.0, "actuator_gear": 0.5}).make()
    for seed in range(3):
        env.reset(seed=seed)
    model = env.unwrapped.model
    np.testing.assert_allclose(model.body_mass, 2 * nominal.body_mass)
    np.testing.assert_allclose(model.body_inertia, 2 * nominal.body_inertia)
    np.testing.assert_allclose(model.actuator_gear, nominal.actuator_gear / 2)
    np.testing.assert_allclose(model.body_subtreemass, 2 * nominal.body_subtreemass)  # derived
    # 1 / (effective mass): with armatures, which stay, not quite half
    assert np.all(model.dof_invweight0 < nominal.dof_invweight0)
    np.testing.assert_array_equal(model.dof_armature, nominal.dof_armature)


def test_a_position_servos_gain_stands_in_two_places():
    env = EnvSettings("Reacher-v5", randomize={"actuator_gainprm": 2.0, "opt.gravity": 0.5}).make()
    model, nominal = env.unwrapped.model, gym.make("Reacher-v5").unwrapped.model
    env.reset(seed=0)
    np.testing.assert_array_equal(model.actuator_gainprm, 2 * nominal.actuator_gainprm)
    np.testing.assert_array_equal(model.actuator_biasprm, 2 * nominal.actuator_biasprm)
    assert model.opt.gravity[2] == nominal.opt.gravity[2] / 2


def test_dm_controls_models_are_reached_too():
    pytest.importorskip("dm_control")
    env = EnvSettings("shimmy:dm_control/pendulum-swingup-v0", randomize={"body_mass": 2.0}).make()
    model = env.unwrapped._env.physics.model
    before = model.body_mass.copy()
    env.reset(seed=0)
    np.testing.assert_allclose(model.body_mass, 2 * before)


def disturbed(name, **keywords):
    return make(wrappers=((f"tfsac.data.imperfections.actions:{name}", keywords),))


def test_what_else_may_happen_to_an_action():
    # a half-range of 2 around 1
    assert applied(disturbed("ActuatorLag", share=0.5), [3, 3, -1]) == [2, 2.5, 0.75]
    assert applied(disturbed("DeadBand", share=0.25), [1.4, 0.6, 1.6, 3]) == [1, 1, pytest.approx(1.6), 3]
    assert applied(disturbed("Backlash", share=0.5), [1.4, 2, 1.6, 0]) == [1, 1.5, 1.5, 0.5]  # play of +/- 0.5
    assert applied(disturbed("WeakActuator", factor=0.5), [3, -1, 1]) == [2, 0, 1]
    lost = applied(disturbed("HoldLast", probability=1.0, duration=3), [3, 2, 0])
    assert lost == [1, 1, 1]
    noise = np.concatenate([applied(disturbed("ActionNoise", share=0.1), [1] * 20, seed) for seed in range(50)])
    assert abs(np.std(noise) - 0.2) < 0.02 and abs(np.mean(noise) - 1) < 0.02
    edge = applied(disturbed("ActionNoise", share=0.5), [3] * 20)
    assert max(edge) == 3 and min(edge) < 3  # no environment is handed more than its bounds


def test_losses_last_as_long_as_they_are_said_to():
    commands, lengths = np.linspace(1.1, 2.9, 20, dtype=np.float32), []
    for seed in range(40):
        arrived = applied(disturbed("HoldLast", probability=0.2, duration=3), commands, seed)
        lost = "".join(".x"[int(a != c)] for a, c in zip(arrived, commands, strict=True))
        lengths += [len(run) for run in lost.rstrip("x").split(".") if run]  # but one that the episode cut off
    assert 3 in lengths and {length % 3 for length in lengths} == {0}  # one loss may follow another at once


def test_commands_that_take_a_time_of_their_own():
    assert applied(disturbed("JitteredDelay", probabilities=[0, 1]), [3, 2, 0]) == [1, 3, 2]
    for seed in range(20):
        arrived = applied(disturbed("JitteredDelay", probabilities=[0.5, 0.3, 0.2]), np.linspace(1.1, 2, 10), seed)
        assert np.all(np.diff(arrived) >= 0)  # an older command never displaces a newer one


def test_a_bias_is_drawn_once_an_episode():
    env = make(wrappers=(("tfsac.data.imperfections.sensors:SensorBias", {"size": 0.5}),))
    biases = [(shown(env, 5, seed) - shown(make(), 5, seed)).round(5) for seed in range(20)]
    assert all(np.all(x == x[0]) and np.all(np.abs(x) == 0.5) for x in biases)
    assert {tuple(x[0]) for x in biases} == {(0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)}


def test_friction_loss_is_a_share_of_the_motors_torque():
    env = FrictionLoss(gym.make("Reacher-v5"), 0.1)
    env.reset(seed=0)
    assert env.unwrapped.model.dof_frictionloss.tolist() == [20, 20, 0, 0]  # gear 200, commands up to 1
    env.close()
    assert env.unwrapped.model.dof_frictionloss.tolist() == [0, 0, 0, 0]


def test_a_push_moves_a_free_root_and_needs_one():
    assert root_dofs(gym.make("Ant-v5")) == [0, 1] and root_dofs(gym.make("HalfCheetah-v5")) == [0]
    assert root_dofs(gym.make("Reacher-v5")) == [] == root_dofs(gym.make("Pendulum-v1"))
    plain, pushed = gym.make("HalfCheetah-v5"), Push(gym.make("HalfCheetah-v5"), 2.0, every=0.1)
    for env in (plain, pushed):
        env.reset(seed=0)
    speeds = []
    for _ in range(2):
        speeds.append([env.step(np.zeros(6, np.float32))[0][8] for env in (plain, pushed)])
    assert speeds[0][0] == speeds[0][1]
    assert abs(speeds[1][1] - speeds[1][0]) > 0.5
    with pytest.raises(UserError, match="a root that moves freely"):
        Push(gym.make("Reacher-v5"), 1.0)


TROUBLED = {
    "action_delay": (0, 3),
    "observation_delay": (0, 1),
    "observation_noise": 0.1,
    "observation_bits": 8,
    "action_drop": 0.2,
    "action_slew": 0.5,
    "observation_history": 2,
    "randomize": {"m": (0.5, 2.0)},
}


def test_a_collector_is_in_the_middle_of_the_same_episode_again_bit_for_bit():
    settings = EnvSettings("Pendulum-v1", **TROUBLED)

    def act(observation, step):
        return np.float32([np.clip(np.sin(0.3 * step) * observation[0], -1, 1)])  # noise may be beyond 1

    one = Collector([settings.make(), settings.make()], 5)
    one.collect(517, act)  # in the second episode of each
    numbers, arrays = one.get_state()
    other = Collector([settings.make(), settings.make()], 5)
    assert other.set_state(numbers, arrays) == []
    for transition, again in zip(one.collect(300, act)[0], other.collect(300, act)[0], strict=True):
        np.testing.assert_array_equal(transition, again)


def test_a_run_that_was_saved_goes_on_bit_for_bit(tmp_path):
    small = {"policy_hidden_units": (4,), "critic_hidden_units": (4,), "start_steps": 20, "batch_size": 8}
    agent = tfsac.SAC("Pendulum-v1", seed=3, **small, **TROUBLED)
    assert agent.policy.sizes == (2 * 3 + 4, 4, 1)  # two observations, delays of up to 3 + 1
    agent.fit(230, progress=False)
    agent.save(tmp_path / "run")
    again = tfsac.load(tmp_path / "run")
    for learner in (agent, again):
        learner.fit(50, progress=False)
    for one, other in zip(agent.policy.arrays().values(), again.policy.arrays().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_environment_given_as_an_object_has_the_imperfections_that_are_set():
    agent = tfsac.SAC(Echo(), action_delay=2, policy_hidden_units=(4,), critic_hidden_units=(4,))
    assert agent.policy.sizes[0] == 2 + 2


def test_settings_are_read_from_gin_and_from_what_json_made_of_them():
    lines = [f"env.{name} = {value!r}" for name, value in TROUBLED.items()]
    env = EnvSettings(**run_settings.read([], lines)["env"])
    assert env == EnvSettings("Pendulum-v1", **TROUBLED)
    assert EnvSettings.read(json.loads(json.dumps(env._asdict()))) == env
    bits = EnvSettings(observation_bits=(9, (1.0, 2.0, 3.0)), observation_noise=(0.0, 0.1, 0.2))
    assert EnvSettings.read(json.loads(json.dumps(bits._asdict()))) == bits


@pytest.mark.parametrize(
    "line, words",
    [
        ("env.action_delay = -1", "env.action_delay: expected"),
        ("env.action_delay = 0.5", "env.action_delay: expected a whole number"),
        ("env.observation_noise = -0.1", "env.observation_noise: expected"),
        ("env.action_drop = 1.5", "env.action_drop: expected a number from 0 to 1"),
        ("env.action_slew = 0", "env.action_slew: expected a number above 0"),
        ("env.randomize = {'m': 0}", "env.randomize: expected"),
        ("env.randomize = (0.5, 2)", r"env.randomize: expected a mapping"),
        ("env.observation_history = 0", "env.observation_history: expected"),
        ("env.history = 1.5", "env.history: expected a whole number"),
    ],
)
def test_values_out_of_range_are_refused(line, words):
    with pytest.raises(UserError, match=words):
        run_settings.read([], [line])


def test_the_agents_input_is_scaled_as_the_observation_is_and_the_actions_to_unit_half_ranges():
    def scale(observation_scale=None, **env):
        lines = [f"env.{name} = {value!r}" for name, value in {"id": "Pendulum-v1", **env}.items()]
        lines += ["SAC.policy_hidden_units = (4,)", "SAC.critic_hidden_units = (4,)"]
        lines += [f"SAC.observation_scale = {observation_scale!r}"]
        settings = run_settings.read([], lines)
        return make_agent(settings, EnvSettings(**settings["env"]).make()).observation_scale

    assert scale() is None and scale((1, 2, 3)) == (1, 2, 3)
    assert scale(history=2) == (1, 1, 1, 0.5, 0.5)  # torque up to 2
    assert scale((1, 2, 3), history=1, observation_history=2) == (1, 2, 3, 1, 2, 3, 0.5)
    assert scale(id="Reacher-v5", history=2) is None  # torque up to 1: nothing to scale
    with pytest.raises(UserError, match="the environment's 3 observations, received 5"):
        scale((1, 2, 3, 1, 1), history=2)

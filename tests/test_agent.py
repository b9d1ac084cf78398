"""What both agents share: the compiled loop, its noise, the state, the averaging of targets."""

import numpy as np
import oracle
import pytest
from agents import first_noise, step

from tfsac.agent import polyak
from tfsac.errors import UserError
from tfsac.networks import v_network
from tfsac.numpy_policy import NumpyPolicy
from tfsac.replay import Transition
from tfsac.sac import SAC
from tfsac.sac_v1 import SACv1

O, A = 3, 2  # noqa: E741 (the sizes' names everywhere)


def make(algorithm, seed=3, policy_hidden_units=(8,), critic_hidden_units=(6, 5), **settings):
    widths = dict(policy_hidden_units=policy_hidden_units, critic_hidden_units=critic_hidden_units)
    return algorithm(O, A, seed, **widths, **settings)


@pytest.fixture(params=[SAC, SACv1], scope="module")
def compiled(request):
    """One agent a class for the whole file, since a trace takes seconds, and its first state."""
    agent = make(request.param)
    return agent, agent.get_state()


def batches(k, b, seed=0):
    return Transition(*oracle.random_batch(np.random.default_rng(seed), [k, b], O, A))


def assert_equal(state, other):
    """Bit for bit."""
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def test_one_trace_serves_every_k(compiled):
    agent, first = compiled
    agent.set_state(first)
    for k, b in [(1, 4), (3, 4), (2, 1), (5, 4)]:
        metrics = agent.update(batches(k, b))
        assert set(metrics) == set(agent.METRICS)
        assert all(values.shape == (k,) for values in metrics.values())
    assert agent._compiled[4].experimental_get_tracing_count() == 1


def test_k_steps_in_one_call_are_k_calls_of_one(compiled):
    agent, first = compiled
    block = batches(4, 8)
    agent.set_state(first)
    together, after = agent.update(block), agent.get_state()
    assert after["gradient_steps"] == 4

    agent.set_state(first)
    alone = [agent.update(Transition(*(x[i : i + 1] for x in block))) for i in range(4)]
    assert_equal(agent.get_state(), after)
    for name, values in together.items():
        np.testing.assert_array_equal(values, [metrics[name][0] for metrics in alone], err_msg=name)


def test_observation_scale_is_as_if_the_environment_had_scaled(compiled):
    """Powers of two, so that the agent without it, on observations multiplied by hand, is the same bit for bit."""
    plain, first = compiled
    plain.set_state(first)
    scale = np.float32([2, 0.5, 8])
    scaled = make(type(plain), observation_scale=(2.0, 0.5, 8.0))
    block = batches(3, 4)
    by_hand = block._replace(observation=block.observation * scale, next_observation=block.next_observation * scale)
    metrics, expected = scaled.update(block), plain.update(by_hand)
    for name in scaled.METRICS:
        np.testing.assert_array_equal(metrics[name], expected[name], err_msg=name)
    assert_equal(scaled.get_state(), plain.get_state())

    act, reference = NumpyPolicy(scaled.policy_weights()), NumpyPolicy(plain.policy_weights())
    for observation in block.observation[0]:
        np.testing.assert_array_equal(act.deterministic(observation), reference.deterministic(observation * scale))


def test_every_step_has_noise_of_its_own(compiled):
    """The entropy is a mean over the noise: one batch, twice, with the policy as good as unmoved."""
    agent, first = compiled
    agent.set_state(first)
    one = batches(1, 8)
    entropy = agent.update(Transition(*(np.concatenate([x, x]) for x in one)))["entropy"]
    assert abs(entropy[0] - entropy[1]) > 0.01


def test_the_seed_chooses_weights_and_noise(compiled):
    agent, first = compiled
    assert_equal(make(type(agent)).get_state(), first)
    other = make(type(agent), seed=4)
    for name, x in other.get_state().items():
        if name.endswith("kernel"):
            assert not np.array_equal(x, first[name]), name
    assert not np.array_equal(first_noise(other, 4), first_noise(agent, 4))

    # with the weights of the one, the noise of the other: what the compiled step draws is what first_noise says
    agent.set_state(first)
    entropy = agent.update(batches(1, 8))["entropy"][0]
    other.set_state(first)
    batch = [x[0] for x in batches(1, 8)]
    assert step(other, batch, first_noise(agent, 8))["entropy"] == pytest.approx(entropy, rel=1e-5)
    other.set_state(first)
    assert step(other, batch, first_noise(other, 8))["entropy"] != pytest.approx(entropy, rel=1e-3)


def test_state_goes_round(compiled):
    """Two steps, the state taken and given back, one step more: as if nothing had happened."""
    agent, first = compiled
    agent.set_state(first)
    agent.update(batches(2, 8))
    middle = agent.get_state()
    untouched = {name: x.copy() for name, x in middle.items()}
    metrics, after = agent.update(batches(1, 8, seed=1)), agent.get_state()
    assert_equal(middle, untouched)  # a copy, not a view
    assert all(np.any(after[name] != middle[name]) for name in after if "kernel" in name or "power" in name)

    agent.set_state(first)
    agent.set_state(middle)
    assert_equal(agent.get_state(), middle)
    again = agent.update(batches(1, 8, seed=1))
    assert_equal(agent.get_state(), after)
    assert_equal(again, metrics)


def test_state_holds_everything_that_learns(compiled):
    agent, first = compiled
    parts = {name.split("/")[0] for name in first}
    expected = {"gradient_steps", "policy", "q1", "q2", "policy_optimizer", "q_optimizer"}
    if isinstance(agent, SAC):
        expected |= {"q1_target", "q2_target", "log_alpha", "alpha_optimizer"}
    else:
        expected |= {"v", "v_target", "v_optimizer"}
    assert parts == expected
    assert agent.policy_weights().keys() == {name[7:] for name in first if name.startswith("policy/")}


@pytest.mark.parametrize("widths", [dict(policy_hidden_units=(9,)), dict(critic_hidden_units=(6,))])
@pytest.mark.parametrize("algorithm", [SAC, SACv1])
def test_state_of_another_shape_is_refused(algorithm, widths):
    agent = make(algorithm)
    before = agent.get_state()
    with pytest.raises(UserError, match="another network"):
        agent.set_state(make(algorithm, seed=1, **widths).get_state())
    assert_equal(agent.get_state(), before)  # nothing was taken over


@pytest.mark.parametrize("algorithm, other", [(SAC, SACv1), (SACv1, SAC)])
def test_state_of_the_other_algorithm_is_refused(algorithm, other):
    with pytest.raises(UserError, match="another network"):
        make(algorithm).set_state(make(other).get_state())


def test_state_with_a_name_missing_is_refused():
    agent = make(SAC)
    state = agent.get_state()
    del state["log_alpha"]
    with pytest.raises(UserError, match="log_alpha"):
        agent.set_state(state)


@pytest.mark.parametrize("tau, expected", [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_polyak(tau, expected):
    # tau * 3 + (1 - tau) * 1; all of them exact in float32
    target, online = v_network(O, (4,), seed=0), v_network(O, (4,), seed=0)
    for x in target.variables:
        x.assign(np.ones(x.shape))
    for x in online.variables:
        x.assign(np.full(x.shape, 3.0))
    polyak(target, online, tau)
    assert all(np.all(x.numpy() == expected) for x in target.variables)
    assert all(np.all(x.numpy() == 3.0) for x in online.variables)

"""The policy as a value: what it answers, by hand; its sizes; and that nothing else passes for one."""

import numpy as np
import pytest

from tfsac.errors import UserError
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN, Layer, Policy


def layer(kernel, bias):
    return Layer(np.array(kernel, np.float32), np.array(bias, np.float32))


# Two observations, a layer of three units, one action.
BY_HAND = Policy(
    (layer([[1, 0, -1], [0, 2, 1]], [0.5, -1, 0]),), layer([[1], [0.25], [-1]], [0.1]), layer([[0], [-0.5], [0]], [0])
)


def random_policy(sizes, seed=0):
    """Of layers with these sizes, O first and A last, weights and biases random."""
    rng = np.random.default_rng(seed)
    shapes = [*zip(sizes, sizes[1:], strict=False), sizes[-2:]]
    *hidden, mu, log_std = (layer(rng.normal(size=shape), rng.normal(size=shape[1])) for shape in shapes)
    return Policy(tuple(hidden), mu, log_std)


def test_the_deterministic_action_by_hand():
    # s = (1, 2): units 1 + 0.5, 4 - 1 and 2 - 1 = 1.5, 3, 1; mu = 1.5 + 0.75 - 1 + 0.1 = 1.35
    # s = (-1, 0): units -0.5 -> 0, -1 -> 0 and 1; mu = -1 + 0.1 = -0.9
    expected = np.tanh([[1.35], [-0.9]])
    received = BY_HAND.deterministic(np.float32([[1, 2], [-1, 0]]))
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    np.testing.assert_allclose(BY_HAND.deterministic(np.float32([1, 2])), expected[0], rtol=1e-6)


def test_a_sample_by_hand():
    # as above, log_std = -0.5 * 3 = -1.5 for the first and 0 for the second
    expected = np.tanh([[1.35 + np.exp(-1.5) * 0.5], [-0.9 + 2]])
    received = BY_HAND.sample(np.float32([[1, 2], [-1, 0]]), np.float32([[0.5], [2]]))
    np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_without_hidden_layers_the_heads_see_the_observation():
    policy = Policy((), layer([[2], [1]], [0.5]), layer([[0], [1]], [0]))
    # mu = 2 * 0.1 + 0.2 + 0.5 = 0.9, log_std = 0.2
    observation = np.float32([0.1, 0.2])
    np.testing.assert_allclose(policy.deterministic(observation), np.tanh([0.9]), rtol=1e-6)
    np.testing.assert_allclose(policy.sample(observation, np.float32([1])), np.tanh([0.9 + np.exp(0.2)]), rtol=1e-6)


@pytest.mark.parametrize("log_std, bound", [(-100, LOG_STD_MIN), (100, LOG_STD_MAX), (-1, -1)])
def test_log_std_keeps_to_its_bounds(log_std, bound):
    policy = Policy((), layer([[0.0]], [0.25]), layer([[0.0]], [log_std]))
    expected = np.tanh(0.25 + np.exp(bound) * 0.3)
    assert policy.sample(np.zeros(1, np.float32), np.float32([0.3])) == pytest.approx(expected, rel=1e-6)


def test_one_observation_is_a_row_of_a_batch():
    policy, rng = random_policy((4, 8, 6, 2)), np.random.default_rng(1)
    observations, noise = rng.normal(size=[20, 4]).astype("f"), rng.normal(size=[20, 2]).astype("f")
    actions, samples = policy.deterministic(observations), policy.sample(observations, noise)
    assert actions.shape == samples.shape == (20, 2)
    for i in range(20):
        for one, batch in (
            (policy.deterministic(observations[i]), actions),
            (policy.sample(observations[i], noise[i]), samples),
        ):
            assert one.shape == (2,) and one.dtype == np.float32
            np.testing.assert_allclose(one, batch[i], rtol=1e-5, atol=1e-6)


def test_the_deterministic_action_is_the_median():
    """Coordinate by coordinate, half of the samples lie below: those whose noise is negative."""
    policy, rng = random_policy((3, 8, 3)), np.random.default_rng(2)
    policy = policy._replace(log_std=layer(0.1 * policy.log_std.kernel, np.zeros(3)))
    observations = 0.1 * rng.normal(size=[64, 3]).astype(np.float32)
    noise = rng.normal(size=[64, 3]).astype(np.float32).clip(-1.5, 1.5)
    median, samples = policy.deterministic(observations), policy.sample(observations, noise)
    unsaturated = np.abs(median) < 0.9
    assert unsaturated.sum() > 64
    np.testing.assert_array_equal((samples < median)[unsaturated], (noise < 0)[unsaturated])


def test_its_sizes_by_hand():
    policy = random_policy((3, 8, 5, 2))
    assert policy.sizes == (3, 8, 5, 2)
    assert policy.parameters == (3 + 1) * 8 + (8 + 1) * 5 + (5 + 1) * 2  # of log_std there is no need
    assert policy.multiply_adds == 3 * 8 + 8 * 5 + 5 * 2
    assert [x.bias.size for x in policy.layers] == [8, 5, 2] and policy.layers[-1] is policy.mu


@pytest.mark.parametrize("sizes", [(3, 8, 5, 2), (3, 2)], ids=["hidden layers", "none"])
def test_a_scaled_input_is_the_scale_times_the_observation(sizes):
    """Powers of two, so that nothing is rounded: equal bit for bit."""
    policy, scale = random_policy(sizes), np.float32([2, 0.5, 8])
    scaled = policy.scaled_input(scale)
    rng = np.random.default_rng(3)
    observations, noise = rng.normal(size=[9, 3]).astype("f"), rng.normal(size=[9, 2]).astype("f")
    np.testing.assert_array_equal(scaled.deterministic(observations), policy.deterministic(scale * observations))
    np.testing.assert_array_equal(scaled.sample(observations, noise), policy.sample(scale * observations, noise))
    assert {x.dtype for x in scaled.arrays().values()} == {np.dtype(np.float32)}
    assert scaled.sizes == policy.sizes


@pytest.mark.parametrize("sizes", [(3, 2), (3, 8, 2), (3, *[4] * 12, 2)], ids=["none", "one", "twelve"])
def test_arrays_go_round(sizes):
    policy = random_policy(sizes)
    arrays = policy.arrays()
    names = [f"hidden_{i}" for i in range(len(sizes) - 2)] + ["mu", "log_std"]
    assert list(arrays) == [f"{name}/{part}" for name in names for part in ("kernel", "bias")]
    shuffled = dict(sorted(arrays.items(), reverse=True))
    again = Policy.from_arrays(shuffled)
    assert len(again.hidden) == len(sizes) - 2
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
    assert arrays["mu/kernel"] is policy.mu.kernel and again.mu.kernel is policy.mu.kernel


def changed(**arrays):
    return random_policy((3, 8, 5, 2)).arrays() | {name.replace("__", "/"): x for name, x in arrays.items()}


def without(*names):
    return {name: x for name, x in random_policy((3, 8, 5, 2)).arrays().items() if name not in names}


NOT_POLICIES = {
    "nothing": ({}, "mu/kernel|log_std|mu/bias"),
    "a head missing": (without("log_std/kernel", "log_std/bias"), "log_std/bias"),
    "a bias missing": (without("hidden_1/bias"), "hidden_1/bias"),
    "a layer in the middle missing": (without("hidden_0/kernel", "hidden_0/bias"), "hidden_[01]"),
    "a layer that is none": (changed(layer_norm__gamma=np.ones(8, "f")), "layer_norm/gamma"),
    "a layer in between": (changed(hidden_0b__kernel=np.ones([8, 8], "f")), "hidden_0b/kernel"),
    "NaN": (changed(mu__bias=np.float32([np.nan, 0])), "mu/bias holds numbers that are not finite"),
    "infinity": (changed(hidden_0__kernel=np.full([3, 8], np.inf, "f")), "hidden_0/kernel holds numbers that are not"),
    "whole numbers": (changed(mu__bias=np.zeros(2, int)), "mu/bias holds numbers that are not finite"),
    "text": (changed(mu__bias=np.array(["a", "b"])), "mu/bias holds numbers that are not finite"),
    "layers that do not follow": (changed(hidden_1__kernel=np.zeros([7, 5], "f")), "do not fit each other"),
    "a bias of another width": (changed(hidden_1__bias=np.zeros(4, "f")), "do not fit each other"),
    "heads of two widths": (
        changed(log_std__kernel=np.zeros([5, 3], "f"), log_std__bias=np.zeros(3, "f")),
        "do not fit each other",
    ),
    "a kernel that is no matrix": (changed(mu__kernel=np.zeros(2, "f")), "do not fit each other"),
    "a kernel of three axes": (changed(mu__kernel=np.zeros([5, 2, 1], "f")), "do not fit each other"),
    "a number": (changed(mu__bias=np.float32(0.0)[...]), "do not fit each other"),
}  # fmt: skip


@pytest.mark.parametrize("arrays, words", NOT_POLICIES.values(), ids=NOT_POLICIES)
def test_what_is_no_policy_is_refused_by_name(arrays, words):
    with pytest.raises(UserError, match=words) as caught:
        Policy.from_arrays(arrays)
    assert "\n" not in str(caught.value)

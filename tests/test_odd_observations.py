"""Whatever a sensor gives, every artefact answers inside the bounds or refuses: never a crash, never a wild action."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfsac import c_header, saved_model, tflite
from tfsac.device_kit import run_policy
from tfsac.networks import policy_network

LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)
FLOATS = st.one_of(st.floats(width=32), st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, -0.0, 1e6]))
OBSERVATIONS = npst.arrays(np.float32, 3, elements=FLOATS)
TFLITE = ("float32", "float16", "dynamic", "int8")


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Functions observation [O] -> action [A] by name, without the refusals that the runners put before them."""
    folder = tmp_path_factory.mktemp("policies")
    weights = {x.path: x.numpy() for x in policy_network(3, 2, [32, 16], seed=7).variables}
    states = np.random.default_rng(0).normal(size=[200, 3]).astype(np.float32)
    facts = {"observation": {"low": [0] * 3, "high": [0] * 3}, "action": {"low": LOW.tolist(), "high": HIGH.tolist()}}
    found = {}
    for kind in TFLITE:
        path = folder / f"{kind}.tflite"
        path.write_bytes(tflite.embed(tflite.convert(weights, LOW, HIGH, kind, states), facts))
        found[kind] = run_policy.Policy(path)
    saved_model.save(saved_model.ExportedPolicy(weights, LOW, HIGH), folder / "saved_model")
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["deterministic"]
    found["saved_model"] = lambda x: signature(observation=tf.constant(x[None]))["action"].numpy()[0]
    golden = {"observations": states[:2], "actions": np.zeros([2, 2]), "tolerance": 1.0}
    c_header.write_policy_header(folder / "policy.h", weights, LOW, HIGH, {"environment": "none"}, golden)
    found["policy.h"] = c_header.compiled(folder)
    return found


@pytest.mark.parametrize("name", [*TFLITE, "saved_model", "policy.h"])
@given(observation=OBSERVATIONS)
def test_every_graph_answers_inside_the_bounds(policies, name, observation):
    act = policies[name]
    if act is None:
        pytest.skip("no C compiler here")
    action = np.asarray(getattr(act, "run", act)(observation))
    assert action.shape == (2,) and np.all(np.isfinite(action))
    assert np.all(action >= LOW) and np.all(action <= HIGH)


@given(observation=OBSERVATIONS)
def test_float_artefacts_agree_on_any_observation(policies, observation):
    expected = policies["saved_model"](observation)
    np.testing.assert_allclose(policies["float32"].run(observation), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # 1e300 is infinite in float32
@given(
    observation=st.one_of(
        npst.arrays(
            np.float64, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.floats()
        ),
        st.lists(st.one_of(st.none(), st.text(max_size=3), st.floats(), st.integers()), max_size=4),
        st.sampled_from([None, "", "1 2 3", b"\x00", {}, 5]),
    )
)
def test_the_runner_answers_or_raises_value_error(policies, observation):
    try:
        action = policies["float32"](observation)
    except ValueError:
        return
    assert np.shape(observation) == (3,) and np.all(np.isfinite(np.asarray(observation, np.float32)))
    assert np.all(action >= LOW) and np.all(action <= HIGH)

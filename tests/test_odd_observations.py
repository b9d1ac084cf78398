"""Whatever a sensor gives, every artefact answers inside the bounds or refuses: never a crash, never a wild action."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from random_policy import deployable, random_policy

from tfsac.deploy import pipeline
from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.formats.format import NotChecked

LOW, HIGH = np.array([-0.3, -10.0], np.float32), np.array([1.7, 0.1], np.float32)
FLOATS = st.one_of(st.floats(width=32), st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, -0.0, 1e6]))
OBSERVATIONS = npst.arrays(np.float32, 3, elements=FLOATS)
FORMATS = [form for form in pipeline.FORMATS if not form.samples]


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Functions observation [O] -> action [A] by file name, without the refusals that the runners put before them."""
    folder = tmp_path_factory.mktemp("policies")
    states = np.random.default_rng(0).normal(size=[200, 3]).astype(np.float32)
    made = deployable(random_policy([3, 32, 16, 2], seed=7), LOW, HIGH, states)
    acts = {}
    for form in FORMATS:
        form.write(folder / form.file, made)
        try:
            acts[form.file] = form.load(folder / form.file)
        except NotChecked as reason:
            acts[form.file] = str(reason)
    acts["the runner"] = run_policy.Policy(folder / "policy.tflite")
    return acts


@pytest.mark.parametrize("name", [form.file for form in FORMATS])
@given(observation=OBSERVATIONS)
def test_every_graph_answers_inside_the_bounds(policies, name, observation):
    act = policies[name]
    if isinstance(act, str):
        pytest.skip(act)
    action = np.asarray(act(observation))
    assert action.shape == (2,) and np.all(np.isfinite(action))
    assert np.all(action >= LOW) and np.all(action <= HIGH)


@given(observation=OBSERVATIONS)
def test_float_artefacts_agree_on_any_observation(policies, observation):
    expected = policies["saved_model"](observation)
    np.testing.assert_allclose(policies["policy.tflite"](observation), expected, atol=1e-4)


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
        action = policies["the runner"](observation)
    except ValueError:
        return
    assert np.shape(observation) == (3,) and np.all(np.isfinite(np.asarray(observation, np.float32)))
    assert np.all(action >= LOW) and np.all(action <= HIGH)

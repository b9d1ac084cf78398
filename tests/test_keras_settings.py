"""Keras' global settings are its user's: what tfsac builds does not depend on them, and it does not change them."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from agents import as_rows, update
from commands import run
from own_algorithm import Toy
from runs import assert_same_state, bindings, flags

from tfsac.algorithms import registry
from tfsac.errors import UserError
from tfsac.quiet_tensorflow import keras

ROOT = Path(__file__).parents[1]


def learned(algorithm):
    """The state after a gradient step, and what the policy then answers."""
    agent = algorithm(3, 2, 0, policy_hidden_units=(8,), critic_hidden_units=(8,))
    update(agent, as_rows(oracle.random_batch(np.random.default_rng(0), [1, 8], 3, 2)))
    return agent.get_state() | {"action": agent.deployed_policy().deterministic(np.ones(3, np.float32))}


learned_at_first = functools.cache(learned)

CHANGES = {
    "float16": lambda: keras.config.set_floatx("float16"),
    "float64": lambda: keras.config.set_floatx("float64"),
    "mixed precision": lambda: keras.config.set_dtype_policy("mixed_float16"),
    "channels first and another epsilon": lambda: (
        keras.config.set_image_data_format("channels_first"), keras.config.set_epsilon(0.5)
    ),
    "a seed": lambda: keras.utils.set_random_seed(1),
}  # fmt: skip


@pytest.fixture
def restored():
    """Puts all that can be set back."""
    config = keras.config
    before = config.floatx(), config.dtype_policy(), config.image_data_format(), config.epsilon()
    yield
    config.set_floatx(before[0])
    config.set_dtype_policy(before[1])
    config.set_image_data_format(before[2])
    config.set_epsilon(before[3])


@pytest.mark.parametrize("algorithm", [*registry.ALGORITHMS.values(), Toy])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_learned_does_not_depend_on_them(restored, algorithm, change):
    expected = learned_at_first(algorithm)
    change()
    received = learned(algorithm)
    assert received.keys() == expected.keys()
    for name, x in expected.items():
        assert received[name].dtype == x.dtype and np.array_equal(received[name], x), name


def test_another_projects_keras_json_and_backend_change_nothing(tmp_path):
    """Neither the file nor the variable, as frameworks that are not even installed here leave them."""
    home, plain, other = (tmp_path / name for name in ("home", "plain", "other"))
    for folder in (home, plain, other):
        folder.mkdir()
    text = {"floatx": "float16", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first"}
    (home / "keras.json").write_text(json.dumps(text))
    arguments = ["--no-video", "--logdir=run", *flags(bindings(total_steps=24))]
    done = run("tfsac.train", *arguments, cwd=plain)
    assert (done.status, done.err) == (0, "")
    # A process of its own, which has imported nothing yet.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_HOME": str(home), "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-m", "tfsac.train", *arguments]
    done = subprocess.run(command, cwd=other, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_state(plain / "run", other / "run")
    assert json.loads((home / "keras.json").read_text()) == text


def test_the_users_backend_variable_stays_as_it_is():
    program = (
        "import os, sys\n"
        "from tfsac.quiet_tensorflow import keras\n"
        "assert keras.config.backend() == 'tensorflow'\n"
        "sys.exit(os.environ.get('KERAS_BACKEND') != (sys.argv[1] or None))\n"
    )
    for value in ("torch", ""):
        environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"PYTHONPATH": str(ROOT)}
        environment |= {"KERAS_BACKEND": value} if value else {}
        assert subprocess.run([sys.executable, "-c", program, value], env=environment).returncode == 0


def test_keras_on_another_backend_is_refused_with_the_cure(monkeypatch):
    from tfsac import quiet_tensorflow

    class Config:
        @staticmethod
        def backend():
            return "jax"

    class OnJax:
        config = Config

    monkeypatch.setitem(sys.modules, "keras", OnJax)
    words = (
        "expected Keras on TensorFlow, received Keras imported on jax before tfsac: set KERAS_BACKEND=tensorflow, or"
    )
    with pytest.raises(UserError, match=words):
        quiet_tensorflow._keras.__wrapped__()

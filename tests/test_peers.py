"""What the peers take for tfsac's settings, which they cannot import."""

import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tfsac.run.settings import read

ROOT = Path(__file__).parents[1]


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "peers"))
    import peer

    return peer


@pytest.mark.parametrize("env_id, gin_file", [("Pendulum-v1", "pendulum.gin"), ("Reacher-v5", "reacher.gin")])
def test_the_peers_know_the_defaults_and_what_the_gin_file_says(peer, env_id, gin_file):
    settings = read([ROOT / "gin/sac" / gin_file], [])
    found = peer.tfsac_settings(env_id)
    known = {f"{scope}.{name}": value for scope, values in settings.items() for name, value in values.items()}
    known["train.env_id"] = known["env.id"]  # its short form
    assert found == {name: known[name] for name in found}
    assert {name for name in known if name.startswith("SAC.")} <= found.keys()


@pytest.mark.parametrize("command, scaled", [("learn", True), ("serve", False)])
def test_a_peer_that_learns_with_our_settings_sees_scaled_observations(peer, command, scaled):
    settings = {"SAC.observation_scale": (2.0, 0.5, 4.0)}
    env = peer.make_env(types.SimpleNamespace(env_id="Pendulum-v1", env_kwargs={}, command=command, settings=settings))
    factors = np.float32([2.0, 0.5, 4.0] if scaled else [1.0, 1.0, 1.0])
    plain = gymnasium.make("Pendulum-v1")
    np.testing.assert_array_equal(env.reset(seed=0)[0], plain.reset(seed=0)[0] * factors)
    np.testing.assert_array_equal(env.observation_space.high, plain.observation_space.high * factors)

"""One update of SAC beside Stable-Baselines3's: the same weights, batch and noise; every loss and gradient compared.

In an environment of its own, since Stable-Baselines3 brings torch:

    python -m venv sb3
    sb3/bin/pip install --editable . torch==2.13.0 stable-baselines3==2.9.2
    sb3/bin/python benchmarks/sb3_update.py

Prints a table, writes it to sb3_update.csv, and fails where the two differ by more than 1e-5. What is not alike by
definition is made so:
- SB3 adds epsilon = 1e-6 inside log(1 - a^2 + epsilon), against saturated actions; here it is 0.
- SB3's critic loss is the sum of ours, q1_loss + q2_loss.
- SB3 minimises -log_alpha (log pi + Hbar), tfsac -alpha (log pi + Hbar), 2018b's equation 18. What they share is the
  mean of -(log pi + Hbar): SB3's loss over log_alpha and its gradient, our loss over alpha and our gradient over alpha.
- torch's Adam adds its epsilon to the bias-corrected root of v, TensorFlow's to the root of v itself. At the first step
  the two are one for an epsilon of 1e-8 / sqrt(1 - 0.999) in torch. (The policy's gradient feels the critics' step.)
- tfsac runs as it is, in float32, SB3 in float64: in float32 its 1 - a^2 cancels where an action is near its bound. The
  last column says by how much its float32 differs from its float64.
The gradients are read from Adam's first moments: after one step, a tenth of the gradient on both sides.
"""

import csv
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC as SB3
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from tfsac.algorithms.adam import BETA_2, EPSILON
from tfsac.algorithms.sac import SAC
from tfsac.data.replay import Transition
from tfsac.quiet_tensorflow import keras, tf

OBSERVATION_DIM, ACTION_DIM, BATCH = 17, 6, 256  # HalfCheetah's sizes; networks of 256 x 256
ALPHA = 0.2  # not 1, where SB3's loss, a multiple of log alpha, vanishes
NETWORKS = ("policy", "q1", "q1_target", "q2", "q2_target")
TOLERANCE = 1e-5


def tfsac_update(agent, batch, noise):
    """Losses and gradients by name."""
    metrics = agent.gradient_step(Transition(*map(tf.constant, batch)), tf.constant(noise))
    found = {
        "critic loss": metrics["q1_loss"] + metrics["q2_loss"],
        "policy loss": metrics["policy_loss"],
        "alpha loss / coefficient": metrics["alpha_loss"] / ALPHA,
        "gradient log_alpha": agent.alpha_optimizer.m[0] / 0.1 / ALPHA,
    }
    q_variables = [("q1", x) for x in agent.q1.variables] + [("q2", x) for x in agent.q2.variables]
    for (network, x), m in zip(q_variables, agent.q_optimizer.m, strict=True):
        found[f"gradient {network}/{x.path}"] = m / 0.1
    for x, m in zip(agent.policy.variables, agent.policy_optimizer.m, strict=True):
        found[f"gradient policy/{x.path}"] = m / 0.1
    return {name: np.asarray(x) for name, x in found.items()}


def dense_layers(agent):
    """Kernel and bias of every dense layer by name: of the policy, of both Q, of both targets."""
    return {
        f"{name}/{layer.name}": (layer.kernel.numpy(), layer.bias.numpy())
        for name in NETWORKS
        for layer in getattr(agent, name).layers
        if isinstance(layer, keras.layers.Dense)
    }


def sb3_update(layers, batch, noise, dtype):
    """The same of Stable-Baselines3, in our names and layouts; layers are those of `dense_layers`."""

    class Extractor(FlattenExtractor):
        def forward(self, observations):  # SB3 hands them over in float32
            return super().forward(observations).to(dtype)

    policy = {"net_arch": [256, 256], "features_extractor_class": Extractor}
    policy["optimizer_kwargs"] = {"eps": EPSILON / (1 - BETA_2) ** 0.5}
    model = SB3("MlpPolicy", Spaces(), ent_coef=f"auto_{ALPHA}", policy_kwargs=policy, device="cpu")
    model.policy.to(dtype)
    model.log_ent_coef.data = model.log_ent_coef.data.to(dtype)
    model.set_logger(configure(None, []))
    model.actor.action_dist.epsilon = 0.0
    theirs = {"policy/mu": model.actor.mu, "policy/log_std": model.actor.log_std}
    theirs |= {f"policy/hidden_{i}": model.actor.latent_pi[2 * i] for i in range(2)}
    for suffix, critic in ("", model.critic), ("_target", model.critic_target):
        for i, network in enumerate(critic.q_networks, start=1):
            names = "hidden_0", "hidden_1", "output"
            theirs |= {f"q{i}{suffix}/{name}": network[2 * j] for j, name in enumerate(names)}
    assert theirs.keys() == layers.keys()
    with torch.no_grad():
        for name, layer in theirs.items():
            kernel, bias = layers[name]
            layer.weight.copy_(torch.from_numpy(kernel.T))
            layer.bias.copy_(torch.from_numpy(bias))

    observation, action, reward, next_observation, terminated = (torch.tensor(x, dtype=dtype) for x in batch)
    samples = ReplayBufferSamples(observation, action, next_observation, terminated[:, None], reward[:, None])
    model.replay_buffer.sample = lambda *_, **__: samples
    draws = [noise[1], noise[0]]  # SB3 draws for the policy's action first, then for the target's
    standard_normal = torch.distributions.normal._standard_normal
    torch.distributions.normal._standard_normal = lambda *_, **__: torch.tensor(draws.pop(0), dtype=dtype)
    try:
        model.train(gradient_steps=1, batch_size=BATCH)
    finally:
        torch.distributions.normal._standard_normal = standard_normal

    def gradient(optimizer, parameter):
        return optimizer.state[parameter]["exp_avg"].numpy() / 0.1

    losses = model.logger.name_to_value
    found = {
        "critic loss": losses["train/critic_loss"],
        "policy loss": losses["train/actor_loss"],
        "alpha loss / coefficient": losses["train/ent_coef_loss"] / np.log(ALPHA),
        "gradient log_alpha": gradient(model.ent_coef_optimizer, model.log_ent_coef)[0],
    }
    for name, layer in theirs.items():
        if "_target" not in name:
            optimizer = (model.actor if name.startswith("policy") else model.critic).optimizer
            found[f"gradient {name}/kernel"] = gradient(optimizer, layer.weight).T
            found[f"gradient {name}/bias"] = gradient(optimizer, layer.bias)
    return {name: np.asarray(x) for name, x in found.items()}


class Spaces(gym.Env):
    """All that SB3's constructor asks of an environment."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, [OBSERVATION_DIM])
    action_space = gym.spaces.Box(-1.0, 1.0, [ACTION_DIM])


def main():
    rng = np.random.default_rng(0)
    agent = SAC(OBSERVATION_DIM, ACTION_DIM, seed=0, initial_alpha=ALPHA)
    # biases, which start at zero, and targets, which start equal, get values of their own
    for name in NETWORKS:
        for x in getattr(agent, name).variables:
            if x.ndim == 1 or name.endswith("_target"):
                x.assign(x.numpy() + rng.normal(0, 0.05, x.shape).astype(np.float32))
    layers = dense_layers(agent)  # before the update
    observation, next_observation = rng.normal(size=[2, BATCH, OBSERVATION_DIM])
    action = rng.uniform(-1, 1, [BATCH, ACTION_DIM])
    batch = observation, action, rng.normal(size=BATCH), next_observation, rng.random(BATCH) < 0.2
    batch = [x.astype(np.float32) for x in batch]
    noise = rng.normal(size=[2, BATCH, ACTION_DIM]).astype(np.float32)

    ours = tfsac_update(agent, batch, noise)
    theirs, theirs_float32 = (sb3_update(layers, batch, noise, dtype) for dtype in (torch.float64, torch.float32))
    assert ours.keys() == theirs.keys()
    rows = [("quantity", "tfsac", "sb3", "relative_difference", "sb3_float32_difference")]
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        # of an array: its norm, and the largest difference over the largest entry
        sizes = [float(np.linalg.norm(x)) if x.ndim else float(x) for x in (ours[name], expected)]
        differences = [np.abs(x - expected).max() / np.abs(expected).max() for x in (ours[name], theirs_float32[name])]
        rows.append((name, *(f"{x:.7g}" for x in sizes), *(f"{x:.1e}" for x in differences)))
    for row in rows:
        print("{:32} {:>11} {:>11} {:>20} {:>23}".format(*row))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    worst = max(float(row[3]) for row in rows[1:])
    print(f"largest relative difference: {worst:.1e}")
    if worst > TOLERANCE:
        raise SystemExit(f"more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()

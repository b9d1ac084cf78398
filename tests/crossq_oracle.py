"""One whole update of CrossQ in float64 numpy, every gradient written out by hand; in the manner of oracle.py.

The critics' layers carry gamma, beta, moving_mean and moving_variance beside kernel and bias. test_crossq.py holds
the gradients to finite differences.
"""

import numpy as np
import oracle

EPSILON, MOMENTUM = 1e-3, 0.99


def batch_alone(layer, mean, std):
    """r and d without renormalisation."""
    return np.ones_like(std), np.zeros_like(mean)


def towards_moving(weights):
    """r and d of renormalisation, a function of a layer's name and of the mean and deviation of its inputs."""

    def correction(layer, mean, std):
        moving_std = np.sqrt(weights[f"{layer}/moving_variance"] + EPSILON)
        r = np.minimum(np.maximum(std / moving_std, 1 / 3), 3)
        return r, np.minimum(np.maximum((mean - weights[f"{layer}/moving_mean"]) / moving_std, -5), 5)

    return correction


def joint_pass(weights, network, x, correction=batch_alone):
    """Q in training mode, [N, n] -> [N].

    Returns:
        Q; and of each layer its inputs, [N, ...], these normalised, the standard deviations they were divided by, and r
        and d.
    """
    kept = []
    for layer in _layers(weights, network):
        std = np.sqrt(x.var(axis=0) + EPSILON)
        r, d = correction(layer, x.mean(axis=0), std)
        normalised = (x - x.mean(axis=0)) / std * r + d
        kept.append((x, normalised, std, r, d))
        x = _dense(weights, layer, normalised)
        x = x if layer.endswith("output") else np.maximum(x, 0)
    return x[:, 0], kept


def joint_backward(weights, network, kept, d_q):
    """[N] -> gradients in the critic's weights."""
    gradients, d_output = {}, d_q[:, None]
    for layer, (_, normalised, std, r, d) in reversed(list(zip(_layers(weights, network), kept, strict=True))):
        if not layer.endswith("output"):
            d_output = d_output * (_dense(weights, layer, normalised) > 0)
        gamma, features = weights[f"{layer}/gamma"], normalised + weights[f"{layer}/beta"]
        d_features = d_output @ weights[f"{layer}/kernel"].T
        gradients |= {f"{layer}/kernel": (gamma * features).T @ d_output, f"{layer}/bias": d_output.sum(axis=0)}
        gradients |= {f"{layer}/gamma": (d_features * features).sum(axis=0)}
        gradients |= {f"{layer}/beta": (d_features * gamma).sum(axis=0)}
        plain, d_plain = (normalised - d) / r, d_features * gamma * r  # r and d are constants
        d_mean, d_scale = d_plain.mean(axis=0), (d_plain * plain).mean(axis=0)
        d_output = (d_plain - d_mean - plain * d_scale) / std
    return gradients


def inference(weights):
    """The critics' weights without normalisation: plain layers that answer as these do in inference mode."""
    plain = {}
    for layer in (*_layers(weights, "q1"), *_layers(weights, "q2")):
        std = np.sqrt(weights[f"{layer}/moving_variance"] + EPSILON)
        plain[f"{layer}/kernel"] = (weights[f"{layer}/gamma"] / std)[:, None] * weights[f"{layer}/kernel"]
        plain[f"{layer}/bias"] = _dense(weights, layer, -weights[f"{layer}/moving_mean"] / std)
    return plain


def update(
    weights,
    batch,
    noise,
    discount,
    policy_learning_rate,
    q_learning_rate,
    alpha_learning_rate,
    target_entropy,
    renormalised=False,
):
    """One gradient step of everything, Adam at its first step; arguments and results as of `oracle.sac_update`."""
    weights = {name: np.asarray(x, np.float64) for name, x in weights.items()}
    observation, action, reward, next_observation, terminated = (np.asarray(x, np.float64) for x in batch)
    noise, size = np.asarray(noise, np.float64), len(reward)
    alpha = np.exp(weights["log_alpha"])

    next_action, next_log_prob = oracle.policy(weights, next_observation, noise[0])
    x = np.concatenate([observation, action], axis=1)
    next_x = np.concatenate([next_observation, next_action], axis=1)
    both, correction = np.concatenate([x, next_x]), towards_moving(weights) if renormalised else batch_alone
    passes = {q: joint_pass(weights, q, both, correction) for q in ("q1", "q2")}
    next_q = np.minimum(*(both[size:] for both, _ in passes.values()))
    target = reward + discount * (1 - terminated) * (next_q - alpha * next_log_prob)
    metrics, q_gradients, statistics = {}, {}, {}
    for network, (both, kept) in passes.items():
        error = both[:size] - target
        metrics |= {network: both[:size].mean(), f"{network}_loss": np.mean(error**2) / 2}
        d_q = np.concatenate([error / size, np.zeros(size)])  # the target is a constant
        q_gradients |= joint_backward(weights, network, kept, d_q)
        for layer, (inputs, *_) in zip(_layers(weights, network), kept, strict=True):
            for name, value in (("mean", inputs.mean(axis=0)), ("variance", inputs.var(axis=0))):
                moving = f"{layer}/moving_{name}"
                statistics[moving] = MOMENTUM * weights[moving] + (1 - MOMENTUM) * value
    weights |= _first_adam_step(weights, q_gradients, q_learning_rate, beta_1=0.5) | statistics

    # with the critics, weights and moving statistics, as they are now
    _, log_prob = oracle.policy(weights, observation, noise[1])
    plain = weights | inference(weights)
    metrics["policy_loss"], policy_gradients = oracle.policy_loss(plain, observation, noise[1], alpha)
    weights |= _first_adam_step(weights, policy_gradients, policy_learning_rate, beta_1=0.5)

    # with the log-probability from before the policy's step
    metrics["alpha_loss"], alpha_gradients = oracle.alpha_loss(weights["log_alpha"], log_prob, target_entropy)
    weights |= _first_adam_step(weights, alpha_gradients, alpha_learning_rate, beta_1=0.9)

    metrics |= {"alpha": alpha, "entropy": -log_prob.mean(), "q_gradient_norm": _norm(q_gradients)}
    metrics |= {"policy_gradient_norm": _norm(policy_gradients), "alpha_gradient_norm": _norm(alpha_gradients)}
    return metrics, q_gradients | policy_gradients | alpha_gradients, weights


def random_normalisation(rng, weights):
    """What the critics among the weights lack, float32: fresh ones are all 0 and 1 and would hide a lot."""
    more = {}
    for layer in (*_layers(weights, "q1"), *_layers(weights, "q2")):
        inputs = len(weights[f"{layer}/kernel"])
        more |= {f"{layer}/beta": rng.normal(0, 0.3, inputs), f"{layer}/gamma": rng.uniform(0.5, 2.0, inputs)}
        more[f"{layer}/moving_mean"] = rng.normal(0, 0.5, inputs)
        more[f"{layer}/moving_variance"] = rng.uniform(0.3, 2.0, inputs)
    return {name: x.astype(np.float32) for name, x in more.items()}


def _dense(weights, layer, normalised):
    features = weights[f"{layer}/gamma"] * (normalised + weights[f"{layer}/beta"])
    return features @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]


def _layers(weights, network):
    hidden = sum(name.startswith(f"{network}/hidden_") and name.endswith("kernel") for name in weights)
    return [*(f"{network}/hidden_{i}" for i in range(hidden)), f"{network}/output"]


def _first_adam_step(weights, gradients, learning_rate, beta_1):
    return {k: oracle.adam(weights[k], g, 0.0, 0.0, 1, learning_rate, beta_1)[0] for k, g in gradients.items()}


def _norm(gradients):
    return np.sqrt(sum(np.sum(g**2) for g in gradients.values()))

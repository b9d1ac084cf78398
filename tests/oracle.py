"""One whole update of SAC and of SACv1 in float64 numpy, every gradient written out by hand.

It knows nothing of TensorFlow or of tfsac. Weights are arrays by name ("policy/mu/kernel", "q1/hidden_0/bias",
"log_alpha"), gradients likewise. d_x stands for the gradient of the loss in x. test_oracle.py holds the gradients to
finite differences. At the end: random weights and batches, and a problem whose soft optimum is known.
"""

import numpy as np

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


# The networks. B: batch, n: inputs, A: action dimensions.


def value(weights, network, x):
    """Q or V: [B, n] -> [B]."""
    return _dense(weights, f"{network}/output", _hidden(weights, network, x)[-1])[:, 0]


def value_backward(weights, network, x, d_value):
    """[B] -> gradients in the network's weights; d_x, [B, n]."""
    layers = _hidden(weights, network, x)
    gradients, d_features = _dense_backward(weights, f"{network}/output", layers[-1], d_value[:, None])
    more, d_x = _hidden_backward(weights, network, layers, d_features)
    return gradients | more, d_x


def policy(weights, observation, noise):
    """a = tanh(u), u = mu + exp(log_std) eps, and log pi(a|s): [B, O], [B, A] -> [B, A], [B]."""
    features = _hidden(weights, "policy", observation)[-1]
    mu = _dense(weights, "policy/mu", features)
    log_std = np.clip(_dense(weights, "policy/log_std", features), LOG_STD_MIN, LOG_STD_MAX)
    u = mu + np.exp(log_std) * noise
    return np.tanh(u), squashed_log_density(u, mu, log_std).sum(axis=1)


def policy_backward(weights, observation, noise, d_action, d_log_prob):
    """[B, A], [B] -> gradients in the policy's weights.

    At a fixed eps, da/du = 1 - a^2 and, from log pi = -eps^2/2 - log_std - log(1 - tanh^2 u) + const,
    dlog pi/du = 2 tanh u = 2a and dlog pi/dlog_std = -1 (beside its way through u).
    """
    layers = _hidden(weights, "policy", observation)
    log_std = _dense(weights, "policy/log_std", layers[-1])
    inside = (log_std > LOG_STD_MIN) & (log_std < LOG_STD_MAX)  # the clip passes no gradient
    std = np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
    action = np.tanh(_dense(weights, "policy/mu", layers[-1]) + std * noise)

    d_u = d_action * (1 - action**2) + d_log_prob[:, None] * 2 * action
    d_log_std = (d_u * std * noise - d_log_prob[:, None]) * inside
    gradients, d_features = _dense_backward(weights, "policy/mu", layers[-1], d_u)
    more, d_more = _dense_backward(weights, "policy/log_std", layers[-1], d_log_std)
    rest, _ = _hidden_backward(weights, "policy", layers, d_features + d_more)
    return gradients | more | rest


def squashed_log_density(u, mu, log_std):
    """Log density of tanh(u), u ~ N(mu, exp(log_std)^2), for each coordinate."""
    log_normal = -0.5 * ((u - mu) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    # log(1 - tanh^2 u) = log(4 / (e^u + e^-u)^2), with the larger exponential taken out
    return log_normal - (np.log(4) - 2 * np.abs(u) - 2 * np.log1p(np.exp(-2 * np.abs(u))))


def _dense(weights, layer, x):
    return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]


def _dense_backward(weights, layer, x, d_output):
    gradients = {f"{layer}/kernel": x.T @ d_output, f"{layer}/bias": d_output.sum(axis=0)}
    return gradients, d_output @ weights[f"{layer}/kernel"].T


def _hidden(weights, network, x):
    """The input and the output of every ReLU layer."""
    layers = [x]
    while f"{network}/hidden_{len(layers) - 1}/kernel" in weights:
        layers.append(np.maximum(_dense(weights, f"{network}/hidden_{len(layers) - 1}", layers[-1]), 0))
    return layers


def _hidden_backward(weights, network, layers, d_output):
    gradients = {}
    for i in reversed(range(len(layers) - 1)):
        d_output = d_output * (layers[i + 1] > 0)
        more, d_output = _dense_backward(weights, f"{network}/hidden_{i}", layers[i], d_output)
        gradients |= more
    return gradients, d_output


# The losses, each with its gradients.


def critic_loss(weights, network, x, target):
    """J_Q or J_V, mean of (value - target)^2 / 2 with the target held constant."""
    error = value(weights, network, x) - target
    return np.mean(error**2) / 2, value_backward(weights, network, x, error / len(error))[0]


def policy_loss(weights, observation, noise, alpha):
    """J_pi, mean of alpha log pi(a|s) - min_i Q_i(s, a)."""
    action, log_prob = policy(weights, observation, noise)
    x = np.concatenate([observation, action], axis=1)
    q1, q2 = value(weights, "q1", x), value(weights, "q2", x)
    d_q, d_log_prob = np.full(len(x), -1 / len(x)), np.full(len(x), alpha / len(x))
    # the gradient goes through the smaller of the two
    d_x = value_backward(weights, "q1", x, d_q * (q1 < q2))[1]
    d_x += value_backward(weights, "q2", x, d_q * (q2 < q1))[1]
    d_action = d_x[:, observation.shape[1] :]
    loss = np.mean(alpha * log_prob - np.minimum(q1, q2))
    return loss, policy_backward(weights, observation, noise, d_action, d_log_prob)


def alpha_loss(log_alpha, log_prob, target_entropy):
    """J(alpha), mean of -alpha (log pi + Hbar); in log alpha, the exponential is its own derivative."""
    loss = -np.exp(log_alpha) * np.mean(log_prob + target_entropy)
    return loss, {"log_alpha": loss}


# The steps.


def adam(x, gradient, m, v, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """The t-th step, counted from 1: the new x, m, v."""
    m = beta_1 * m + (1 - beta_1) * gradient
    v = beta_2 * v + (1 - beta_2) * gradient**2
    rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return x - rate * m / (np.sqrt(v) + epsilon), m, v


def polyak(weights, target, online, tau):
    """The target network's weights, a step of tau closer to the online network's."""
    names = [name.removeprefix(target) for name in weights if name.startswith(f"{target}/")]
    return {target + name: tau * weights[online + name] + (1 - tau) * weights[target + name] for name in names}


def sac_update(
    weights, batch, noise, discount, tau, policy_learning_rate, q_learning_rate, alpha_learning_rate, target_entropy
):
    """One gradient step of everything (2018b, algorithm 1), Adam at its first step.

    Args:
        weights: of policy, q1, q2, q1_target, q2_target and log_alpha; not changed.
        batch: observation, action, reward, next_observation, terminated.
        noise: eps, [2, B, A]: for the target's actions, then for the policy's.

    Returns:
        metrics, gradients, new weights.
    """
    weights, (observation, action, reward, next_observation, terminated), noise = _float64(weights, batch, noise)
    alpha = np.exp(weights["log_alpha"])

    next_action, next_log_prob = policy(weights, next_observation, noise[0])
    next_x = np.concatenate([next_observation, next_action], axis=1)
    next_q = np.minimum(value(weights, "q1_target", next_x), value(weights, "q2_target", next_x))
    target = reward + discount * (1 - terminated) * (next_q - alpha * next_log_prob)
    x = np.concatenate([observation, action], axis=1)
    metrics = {"q1": value(weights, "q1", x).mean(), "q2": value(weights, "q2", x).mean()}
    metrics["q1_loss"], q1_gradients = critic_loss(weights, "q1", x, target)
    metrics["q2_loss"], q2_gradients = critic_loss(weights, "q2", x, target)
    q_gradients = q1_gradients | q2_gradients
    weights |= _first_adam_step(weights, q_gradients, q_learning_rate)

    # with the critics as they are now
    _, log_prob = policy(weights, observation, noise[1])
    metrics["policy_loss"], policy_gradients = policy_loss(weights, observation, noise[1], alpha)
    weights |= _first_adam_step(weights, policy_gradients, policy_learning_rate)

    # with the log-probability from before the policy's step
    metrics["alpha_loss"], alpha_gradients = alpha_loss(weights["log_alpha"], log_prob, target_entropy)
    weights |= _first_adam_step(weights, alpha_gradients, alpha_learning_rate)

    weights |= polyak(weights, "q1_target", "q1", tau) | polyak(weights, "q2_target", "q2", tau)
    metrics |= {"alpha": alpha, "entropy": -log_prob.mean(), "q_gradient_norm": _norm(q_gradients)}
    metrics |= {"policy_gradient_norm": _norm(policy_gradients), "alpha_gradient_norm": _norm(alpha_gradients)}
    return metrics, q_gradients | policy_gradients | alpha_gradients, weights


def sac_v1_update(
    weights, batch, noise, discount, tau, reward_scale, v_learning_rate, q_learning_rate, policy_learning_rate
):
    """One gradient step of everything (2018a, algorithm 1); as `sac_update`, with weights of v and v_target.

    noise: eps, [2, B, A]: for V's target, then for the policy.
    """
    weights, (observation, action, reward, next_observation, terminated), noise = _float64(weights, batch, noise)

    new_action, log_prob = policy(weights, observation, noise[0])
    new_x = np.concatenate([observation, new_action], axis=1)
    soft_value = np.minimum(value(weights, "q1", new_x), value(weights, "q2", new_x)) - log_prob
    metrics = {"v": value(weights, "v", observation).mean()}
    metrics["v_loss"], v_gradients = critic_loss(weights, "v", observation, soft_value)
    weights |= _first_adam_step(weights, v_gradients, v_learning_rate)

    next_value = value(weights, "v_target", next_observation)
    target = reward_scale * reward + discount * (1 - terminated) * next_value
    x = np.concatenate([observation, action], axis=1)
    metrics |= {"q1": value(weights, "q1", x).mean(), "q2": value(weights, "q2", x).mean()}
    metrics["q1_loss"], q1_gradients = critic_loss(weights, "q1", x, target)
    metrics["q2_loss"], q2_gradients = critic_loss(weights, "q2", x, target)
    q_gradients = q1_gradients | q2_gradients
    weights |= _first_adam_step(weights, q_gradients, q_learning_rate)

    # with the critics as they are now
    _, log_prob = policy(weights, observation, noise[1])
    metrics["policy_loss"], policy_gradients = policy_loss(weights, observation, noise[1], alpha=1.0)
    weights |= _first_adam_step(weights, policy_gradients, policy_learning_rate)

    weights |= polyak(weights, "v_target", "v", tau)
    metrics |= {"alpha": 1 / reward_scale, "entropy": -log_prob.mean(), "v_gradient_norm": _norm(v_gradients)}
    metrics |= {"q_gradient_norm": _norm(q_gradients), "policy_gradient_norm": _norm(policy_gradients)}
    return metrics, v_gradients | q_gradients | policy_gradients, weights


def _float64(weights, batch, noise):
    as_float64 = [np.asarray(x, np.float64) for x in (*batch, noise)]
    return {name: np.asarray(x, np.float64) for name, x in weights.items()}, as_float64[:-1], as_float64[-1]


def _first_adam_step(weights, gradients, learning_rate):
    return {name: adam(weights[name], g, 0.0, 0.0, 1, learning_rate)[0] for name, g in gradients.items()}


def _norm(gradients):
    return np.sqrt(sum(np.sum(g**2) for g in gradients.values()))


# Inputs for it, float32.


def random_network(rng, network, inputs, hidden_units, **heads):
    """Weights by name, with biases too: those of a fresh network are zero and would hide their own neglect.

    Args:
        heads: width of each output layer by name.
    """
    weights, outputs = {}, {f"hidden_{i}": units for i, units in enumerate(hidden_units)}
    for layer, units in outputs.items():
        weights[f"{network}/{layer}/kernel"] = rng.normal(0, inputs**-0.5, [inputs, units])
        weights[f"{network}/{layer}/bias"] = rng.normal(0, 0.3, units)
        inputs = units
    for layer, units in heads.items():
        weights[f"{network}/{layer}/kernel"] = rng.normal(0, inputs**-0.5, [inputs, units])
        weights[f"{network}/{layer}/bias"] = rng.normal(0, 0.3, units)
    return {name: x.astype(np.float32) for name, x in weights.items()}


def random_batch(rng, size, observation_dim, action_dim):
    """observation, action, reward, next_observation, terminated, with leading axes `size`; a third terminate."""
    observation, next_observation = rng.normal(size=[2, *size, observation_dim])
    action = rng.uniform(-1, 1, [*size, action_dim])
    batch = observation, action, rng.normal(size=size), next_observation, rng.random(size) < 1 / 3
    return tuple(x.astype(np.float32) for x in batch)


# A soft MDP of two states that lead to each other for ever, made backwards from its optimum. With p_s a squashed
# Gaussian, the reward is r(s, a) = alpha log p_s(a) + g_s. Then Q(s, a) = r(s, a) + gamma V(s') with
#     V(s) = alpha log integral exp(Q(s, a) / alpha) da = g_s + gamma V(s'), since p_s integrates to one,
# so V(0) = (g_0 + gamma g_1) / (1 - gamma^2), V(1) with 0 and 1 exchanged, and the optimal policy is p_s itself.

SOFT_MDP_ALPHA, SOFT_MDP_DISCOUNT = 0.5, 0.7
SOFT_MDP_MU, SOFT_MDP_LOG_STD = np.array([0.5, -0.3]), np.log([0.5, 0.6])
SOFT_MDP_GAIN = np.array([1.0, -0.5])


def soft_mdp_observation(state):
    """State 0 is (1, 0), state 1 is (0, 1): [...] -> [..., 2]."""
    return np.eye(2, dtype=np.float32)[state]


def soft_mdp_batch(rng, size):
    """Transitions from both states with actions from all over: a tuple as that of `random_batch`."""
    state, action = rng.integers(2, size=size), rng.uniform(-0.97, 0.97, size)
    reward = _soft_mdp_reward(state, action)
    batch = soft_mdp_observation(state), action[..., None], reward, soft_mdp_observation(1 - state), np.zeros(size)
    return tuple(x.astype(np.float32) for x in batch)


def soft_mdp_q(state, action):
    """The optimal soft Q(s, a): [...] -> [...]."""
    return _soft_mdp_reward(state, action) + SOFT_MDP_DISCOUNT * soft_mdp_v(1 - state)


def soft_mdp_v(state):
    """The optimal soft V(s): [...] -> [...]."""
    gain, next_gain = SOFT_MDP_GAIN[state], SOFT_MDP_GAIN[1 - state]
    return (gain + SOFT_MDP_DISCOUNT * next_gain) / (1 - SOFT_MDP_DISCOUNT**2)


def _soft_mdp_reward(state, action):
    density = squashed_log_density(np.arctanh(action), SOFT_MDP_MU[state], SOFT_MDP_LOG_STD[state])
    return SOFT_MDP_ALPHA * density + SOFT_MDP_GAIN[state]

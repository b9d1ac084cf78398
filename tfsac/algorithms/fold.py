"""From the policy network that was trained to the policy that is deployed: everything folds into dense layers."""

from typing import NamedTuple

import numpy as np

from tfsac.errors import UserError
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN, Layer, Policy
from tfsac.quiet_tensorflow import keras

_RELU = "ReLU"


class _Dense(NamedTuple):
    kernel: str  # path
    bias: str | None
    has_relu: bool


class _Affine(NamedTuple):
    """BatchNormalization: paths, None where it has no such variable."""

    mean: str
    variance: str
    gamma: str | None
    beta: str | None
    epsilon: float


def fold(network, observation_scale=None):
    """Analyses a network once, so that folding it after every update costs little.

    Args:
        network: a functional keras.Model, a chain of Dense (linear or ReLU), ReLU and BatchNormalization layers in any
            order, and behind it two linear Dense layers, `mu` and `log_std`, its outputs; log_std may be clipped to
            the bounds of `tfsac.policy`.
        observation_scale: factors that the network expects in its observations, [O]; None stands for 1.

    Returns:
        A function from numpy arrays of the network's variables, by path, to the `Policy` that equals the network in
        inference mode; computed in float64 and rounded once.

    Raises:
        UserError: another layer, which the message names.
    """
    chain, heads = _taken_apart(network)
    parts, heads = _read(chain, heads)
    # As float32, which is what the network's inputs are multiplied by.
    scale = None if observation_scale is None else np.float64(np.float32(observation_scale))

    def folded(values):
        layers = []  # (kernel, bias) of the dense layers so far
        is_open = False  # whether the last one still lacks its ReLU
        # What the next dense layer's input is multiplied by and what is added to it, where that is not nothing.
        pending = None if scale is None else (scale, 0.0)
        for part in parts:
            if isinstance(part, _Dense):
                layers.append(_dense(part, values, pending))
                is_open, pending = not part.has_relu, None
            elif part is _RELU:
                is_open = False
            else:
                factor, offset = _affine(part, values)
                if is_open:
                    kernel, bias = layers.pop()
                    layers.append((kernel * factor, bias * factor + offset))
                elif pending is None:
                    pending = factor, offset
                else:
                    pending = pending[0] * factor, pending[1] * factor + offset
        mu, log_std = (_rounded(*_dense(head, values, pending)) for head in heads)
        return Policy(tuple(_rounded(*layer) for layer in layers), mu, log_std)

    return folded


def _read(chain, heads):
    """What folding needs to know of each layer; refuses what does not fold."""
    parts, is_open = [], False  # whether a ReLU is still to come behind a linear layer
    for layer in chain:
        if isinstance(layer, keras.layers.Dense):
            _require(not is_open, layer, "a Dense layer right behind a linear one")
            _require(layer.activation in (keras.activations.relu, keras.activations.linear), layer, "its activation")
            is_open = layer.activation is keras.activations.linear
            parts.append(_Dense(layer.kernel.path, layer.bias.path if layer.use_bias else None, not is_open))
        elif isinstance(layer, keras.layers.ReLU):
            plain = layer.max_value is None and layer.negative_slope == layer.threshold == 0
            _require(is_open and plain, layer, "a ReLU that is not right behind a linear layer, or not max(0, x),")
            is_open = False
            parts.append(_RELU)
        else:
            _require(isinstance(layer, keras.layers.BatchNormalization), layer, "this kind of layer")
            gamma, beta = layer.gamma.path if layer.scale else None, layer.beta.path if layer.center else None
            parts.append(_Affine(layer.moving_mean.path, layer.moving_variance.path, gamma, beta, layer.epsilon))
    for head in heads:
        _require(not is_open, head, "a Dense layer right behind a linear one")
        _require(head.activation is keras.activations.linear, head, "its activation")
    return parts, [_Dense(x.kernel.path, x.bias.path if x.use_bias else None, False) for x in heads]


def _taken_apart(network):
    """-> the network's layers in a line from its input to its heads, and the heads mu and log_std."""
    operations = getattr(network, "operations", [])
    named = {x.name: x for x in operations if isinstance(x, keras.layers.Dense)}
    heads = [named.get(name) for name in ("mu", "log_std")]
    chain = [x for x in operations if not isinstance(x, keras.layers.InputLayer) and x not in heads]
    ends = [head.output for head in heads if head]
    if chain and len(ends) == 2 and _input(chain[-1]) is ends[1]:
        clip = chain.pop()
        bounds = getattr(clip, "x_min", None), getattr(clip, "x_max", None)
        _require(bounds == (LOG_STD_MIN, LOG_STD_MAX), clip, "what is behind log_std")
        ends[1] = clip.output
    outputs = getattr(network, "outputs", [])
    if len(ends) != 2 or [*map(id, ends)] != [*map(id, outputs)]:
        raise UserError(
            "the policy cannot be exported: expected a functional keras.Model whose outputs are those of two Dense "
            "layers, mu and log_std, in this order"
        )
    place = network.inputs[0]
    for layer in chain:
        _require(_input(layer) is place, layer, "a branch")
        place = layer.output
    for head in heads:
        _require(_input(head) is place, head, "a branch")
    return chain, heads


def _input(layer):
    """The tensor that a layer was called on; None where it was called twice."""
    try:
        return layer.input
    except (AttributeError, ValueError):
        return None


def _dense(part, values, pending):
    """Kernel and bias for inputs that are still to be multiplied and shifted; in float64 where pending says so."""
    kernel = values[part.kernel]
    bias = values[part.bias] if part.bias else np.zeros(kernel.shape[1])
    if pending is None:
        return kernel, bias
    scale, offset = pending
    return scale[:, None] * kernel, bias + np.sum(np.reshape(offset, [-1, 1]) * kernel, axis=0, dtype=np.float64)


def _affine(part, values):
    """What a BatchNormalization layer does to a feature in inference mode: x -> scale x + offset, float64 [units]."""
    mean, variance = values[part.mean].astype(np.float64), values[part.variance].astype(np.float64)
    gamma = values[part.gamma].astype(np.float64) if part.gamma else 1.0
    beta = values[part.beta].astype(np.float64) if part.beta else 0.0
    scale = gamma / np.sqrt(variance + part.epsilon)
    return scale, beta - mean * scale


def _rounded(kernel, bias):
    return Layer(np.array(kernel, np.float32), np.array(bias, np.float32))


def _require(condition, layer, what):
    if not condition:
        raise UserError(
            f"the policy cannot be exported: {what} does not fold into dense layers (layer {layer.name!r}, a "
            f"{type(layer).__name__}); such layers may stand in critics only"
        )

"""From the policy network that was trained to the policy that is deployed: all but dense layers folds away."""

import numpy as np

from tfsac.errors import UserError
from tfsac.policy import LOG_STD_MAX, LOG_STD_MIN, Layer, Policy
from tfsac.quiet_tensorflow import keras


def folded(network, values, observation_scale=None):
    """The `Policy` that answers as the network does in inference mode; computed in float64 and rounded once.

    Args:
        network: a functional keras.Model, a chain of Dense (linear or ReLU), ReLU and BatchNormalization layers in any
            order, and behind it two linear Dense layers, `mu` and `log_std`, its outputs; log_std may be clipped to
            the bounds of `tfsac.policy`.
        values: numpy arrays of its variables by path.
        observation_scale: what the network expects observations to be multiplied by, [O]; None stands for 1.

    Raises:
        UserError: another layer, which the message names.
    """
    chain, heads = _taken_apart(network)
    layers = []  # [kernel, bias] of the dense layers so far; each but the last is behind a ReLU
    is_open = False  # whether the last one still lacks its ReLU
    # What the next dense layer's input is multiplied by and what is added to it, where that is not nothing; the scale
    # as float32, which is what the network's inputs are multiplied by.
    pending = None if observation_scale is None else (np.float64(np.float32(observation_scale)), 0.0)
    for layer in chain:
        if isinstance(layer, keras.layers.Dense):
            _require(not is_open, layer, "a Dense layer right behind a linear one")
            _require(layer.activation in (keras.activations.relu, keras.activations.linear), layer, "its activation")
            layers.append(_dense(layer, values, pending))
            is_open, pending = layer.activation is keras.activations.linear, None
        elif isinstance(layer, keras.layers.ReLU):
            plain = layer.max_value is None and layer.negative_slope == layer.threshold == 0
            _require(is_open and plain, layer, "a ReLU that is not right behind a linear layer, or not max(0, x),")
            is_open = False
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale, offset = _affine(layer, values)
            if is_open:
                kernel, bias = layers.pop()
                layers.append((kernel * scale, bias * scale + offset))
            elif pending is None:
                pending = scale, offset
            else:
                pending = pending[0] * scale, pending[1] * scale + offset
        else:
            _require(False, layer, "this kind of layer")
    for head in heads:
        _require(not is_open, head, "a Dense layer right behind a linear one")
        _require(head.activation is keras.activations.linear, head, "its activation")
    mu, log_std = (_rounded(*_dense(head, values, pending)) for head in heads)
    return Policy(tuple(_rounded(*layer) for layer in layers), mu, log_std)


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


def _dense(layer, values, pending):
    """Kernel and bias for inputs that are still to be multiplied and shifted; in float64 where pending says so."""
    kernel = values[layer.kernel.path]
    bias = values[layer.bias.path] if layer.use_bias else np.zeros(layer.units)
    if pending is None:
        return kernel, bias
    scale, offset = pending
    return scale[:, None] * kernel, bias + np.sum(np.reshape(offset, [-1, 1]) * kernel, axis=0, dtype=np.float64)


def _affine(layer, values):
    """What a BatchNormalization layer does to a feature in inference mode: x -> scale x + offset, float64 [units]."""
    mean, variance = (values[x.path].astype(np.float64) for x in (layer.moving_mean, layer.moving_variance))
    gamma = values[layer.gamma.path].astype(np.float64) if layer.scale else 1.0
    beta = values[layer.beta.path].astype(np.float64) if layer.center else 0.0
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def _rounded(kernel, bias):
    return Layer(kernel.astype(np.float32), bias.astype(np.float32))


def _require(condition, layer, what):
    if not condition:
        raise UserError(
            f"the policy cannot be exported: {what} does not fold into dense layers (layer {layer.name!r}, a "
            f"{type(layer).__name__}); such layers may stand in critics only"
        )

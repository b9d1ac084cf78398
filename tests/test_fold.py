"""What folds into dense layers folds rightly; what does not is refused by name. Networks made by hand."""

import numpy as np
import pytest

from tfsac.algorithms.fold import fold
from tfsac.errors import UserError
from tfsac.quiet_tensorflow import keras

O, A = 3, 2  # noqa: E741 (the sizes' names everywhere)
layers = keras.layers


def dense(units, activation=None, **options):
    return layers.Dense(units, activation, dtype="float32", **options)


def normalise(**options):
    return layers.BatchNormalization(dtype="float32", **options)


def relu(**options):
    return layers.ReLU(dtype="float32", **options)


def network(*chain, mu=None, log_std=None):
    """A policy network of these layers and the two heads, with random values in all of its variables."""
    observation = x = keras.Input([O], dtype="float32")
    for layer in chain:
        x = layer(x)
    mu, log_std = mu or dense(A, name="mu"), log_std or dense(A, name="log_std")
    return unsettled(keras.Model(observation, (mu(x), log_std(x))))


def unsettled(model):
    rng = np.random.default_rng(0)
    for x in model.variables:
        values = rng.normal(size=x.shape)
        spread = {"kernel": 0.5, "moving_variance": 1.0, "gamma": 1.0}.get(x.path.split("/")[-1], 0.3)
        x.assign(np.abs(values) + 0.5 if x.path.endswith("variance") else spread * values)
    return model


def folded(model, observation_scale=None):
    return fold(model, observation_scale)({x.path: x.numpy() for x in model.variables})


FOLDS = {
    "no hidden layer": (lambda: [], ()),
    "one layer": (lambda: [dense(8, "relu")], (8,)),
    "ReLU as a layer": (lambda: [dense(8), relu(), dense(6), relu()], (8, 6)),
    "normalised before ReLU": (lambda: [dense(8), normalise(), relu(), dense(6), normalise(), relu()], (8, 6)),
    "normalised after ReLU": (lambda: [dense(8, "relu"), normalise(), dense(6, "relu"), normalise()], (8, 6)),
    "normalised input": (lambda: [normalise(), dense(8, "relu")], (8,)),
    "normalised input without hidden layers": (lambda: [normalise()], ()),
    "normalised twice": (
        lambda: [normalise(), normalise(), dense(8), normalise(), normalise(), relu(), normalise()],
        (8,),
    ),
    "everywhere": (
        lambda: [normalise(), dense(8), normalise(), relu(), normalise(), dense(6, "relu"), normalise()],
        (8, 6),
    ),
    "no bias": (lambda: [dense(8, use_bias=False), normalise(), relu(), dense(6, "relu", use_bias=False)], (8, 6)),
    "no gamma": (lambda: [dense(8), normalise(scale=False), relu()], (8,)),
    "no beta": (lambda: [dense(8, "relu"), normalise(center=False)], (8,)),
    "another epsilon": (lambda: [dense(8), normalise(epsilon=0.5), relu()], (8,)),
}  # fmt: skip


@pytest.mark.parametrize("scale", [None, (0.3, 2.0, 7.0)], ids=["plain", "scaled"])
@pytest.mark.parametrize("chain, widths", FOLDS.values(), ids=FOLDS)
def test_the_folded_policy_answers_as_the_network_does(chain, widths, scale):
    model = network(*chain())
    policy = folded(model, scale)
    assert policy.sizes == (O, *widths, A)
    assert {x.dtype for x in policy.arrays().values()} == {np.dtype(np.float32)}

    observation = np.random.default_rng(1).normal(size=[200, O]).astype(np.float32)
    mu, log_std = model((np.float32(scale) if scale else 1) * observation, training=False)
    assert np.mean(np.abs(mu) < 2) > 0.2  # else all were saturated, and nothing shown
    np.testing.assert_allclose(policy.deterministic(observation), np.tanh(mu), rtol=0, atol=2e-5)  # of a span of 2
    features = observation
    for layer in policy.hidden:
        features = np.maximum(layer(features), 0)
    for head, expected in ((policy.mu, mu), (policy.log_std, log_std)):
        np.testing.assert_allclose(head(features), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_heads_without_bias_fold():
    model = network(dense(8, "relu"), mu=dense(A, name="mu", use_bias=False), log_std=dense(A, name="log_std"))
    observation = np.random.default_rng(1).normal(size=[20, O]).astype(np.float32)
    np.testing.assert_allclose(folded(model).deterministic(observation), np.tanh(model(observation)[0]), atol=2e-5)


def test_it_is_rounded_once():
    """In float64 throughout: a large offset that cancels would cost float32 four digits."""
    model = network(normalise(epsilon=0.0), dense(8, "relu"))
    mean = np.float32([1e4, -1e4, 2e4])
    norm, hidden = model.layers[1], model.layers[2]
    for x, value in ((norm.moving_mean, mean), (norm.moving_variance, np.ones(O)), (norm.gamma, np.ones(O))):
        x.assign(value)
    norm.beta.assign(np.zeros(O))
    kernel, bias = (x.numpy().astype(np.float64) for x in (hidden.kernel, hidden.bias))
    layer = folded(model).hidden[0]
    np.testing.assert_array_equal(layer.kernel, hidden.kernel.numpy())
    np.testing.assert_allclose(layer.bias, bias - mean.astype(np.float64) @ kernel, rtol=6e-8)  # half a last bit


REFUSED = {
    "layer normalisation": ([dense(8), layers.LayerNormalization(), relu()], "LayerNormalization"),
    "dropout": ([dense(8, "relu"), layers.Dropout(0.1)], "Dropout"),
    "two linear layers in a line": ([dense(8), dense(6)], "a Dense layer right behind a linear one"),
    "a linear layer before the heads": ([dense(8)], "mu|log_std"),
    "a linear layer, normalised": ([dense(8), normalise(), dense(6, "relu")], "right behind a linear one"),
    "another activation": ([dense(8, "tanh")], "its activation"),
    "another activation as a layer": ([dense(8), layers.ELU()], "ELU"),
    "ReLU of the observation": ([relu(), dense(8, "relu")], "ReLU"),
    "ReLU of what was normalised after a ReLU": ([dense(8, "relu"), normalise(), relu()], "ReLU"),
    "a bounded ReLU": ([dense(8), relu(max_value=6.0)], "ReLU"),
    "a leaky ReLU": ([dense(8), relu(negative_slope=0.1)], "ReLU"),
    "a threshold": ([dense(8), relu(threshold=1.0)], "ReLU"),
}


@pytest.mark.parametrize("chain, words", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fold_is_refused_by_name(chain, words):
    with pytest.raises(UserError, match=words) as caught:
        folded(network(*chain))
    assert str(caught.value).startswith("the policy cannot be exported: ") and "\n" not in str(caught.value)


def test_a_branch_is_refused():
    observation = keras.Input([O], dtype="float32")
    x = dense(8, "relu")(observation)
    y = layers.Add()([x, dense(8, "relu")(x)])
    with pytest.raises(UserError, match="Add"):
        folded(unsettled(keras.Model(observation, (dense(A, name="mu")(y), dense(A, name="log_std")(y)))))


def test_a_branch_of_dense_layers_alone_is_refused():
    """Its layers, in Keras' order, look like a chain."""
    observation = keras.Input([O], dtype="float32")
    x, y = dense(O, "relu")(observation), dense(O, "relu")(observation)
    with pytest.raises(UserError, match="the policy cannot be exported"):
        folded(unsettled(keras.Model(observation, (dense(A, name="mu")(x), dense(A, name="log_std")(y)))))


@pytest.mark.parametrize("after", ["mu", "log_std"])
@pytest.mark.parametrize(
    "layer", [lambda x: normalise()(x), lambda x: keras.ops.tanh(x), lambda x: 2.0 * x, lambda x: relu()(x)],
    ids=["normalised", "tanh", "doubled", "ReLU"],
)  # fmt: skip
def test_a_layer_behind_a_head_is_refused(layer, after):
    observation = keras.Input([O], dtype="float32")
    x = dense(8, "relu")(observation)
    heads = {name: dense(A, name=name)(x) for name in ("mu", "log_std")}
    heads[after] = layer(heads[after])
    with pytest.raises(UserError, match="the policy cannot be exported"):
        folded(unsettled(keras.Model(observation, list(heads.values()))))


@pytest.mark.parametrize("names", [("mu", "sigma"), ("log_std", "mu"), ("mean", "log_std")], ids=str)
def test_heads_of_other_names_or_in_another_order_are_refused(names):
    observation = keras.Input([O], dtype="float32")
    x = dense(8, "relu")(observation)
    with pytest.raises(UserError, match="mu.*log_std"):
        folded(unsettled(keras.Model(observation, [dense(A, name=name)(x) for name in names])))

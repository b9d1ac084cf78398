"""Adam against the float64 oracle and against Keras' own."""

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from tfsac.algorithms.adam import Adam

STEPS = 5


def start():
    """Two variables of unlike shapes, and a gradient for each of them at every step."""
    rng = np.random.default_rng(0)
    shapes = [3, 2], [4]
    values = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    magnitudes = [10.0 ** rng.integers(-8, 2, shape) for shape in shapes]  # the least are of epsilon's size
    gradients = [[(rng.normal(size=x.shape) * x).astype(np.float32) for x in magnitudes] for _ in range(STEPS)]
    return values, gradients


def descend(adam, gradients):
    """One step down the plane whose slope in every variable is the gradient given."""
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(g * x) for g, x in zip(gradients, adam.variables, strict=True)])
    return adam.minimise(loss, tape)


@pytest.mark.parametrize("beta_1", [0.9, 0.5])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_steps_are_the_oracles(compiled, beta_1):
    values, gradients = start()
    adam = Adam([tf.Variable(x) for x in values], learning_rate=0.01, **({} if beta_1 == 0.9 else {"beta_1": beta_1}))
    step = tf.function(descend) if compiled else descend

    expected = [(x.astype(np.float64), 0.0, 0.0) for x in values]
    for t, gradient in enumerate(gradients, start=1):
        step(adam, [tf.constant(g) for g in gradient])
        expected = [
            oracle.adam(x, g.astype(np.float64), m, v, t, learning_rate=0.01, beta_1=beta_1)
            for (x, m, v), g in zip(expected, gradient, strict=True)
        ]
        for i, (x, m, v) in enumerate(expected):
            np.testing.assert_allclose(adam.variables[i], x, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(adam.m[i], m, rtol=1e-5)
            np.testing.assert_allclose(adam.v[i], v, rtol=1e-4)
    assert adam.beta_1_power.numpy() == pytest.approx(beta_1 ** (STEPS + 1), rel=1e-5)
    assert adam.beta_2_power.numpy() == pytest.approx(0.999 ** (STEPS + 1), rel=1e-5)


def test_steps_are_those_of_keras():
    values, gradients = start()
    ours, theirs = [tf.Variable(x) for x in values], [keras.Variable(x) for x in values]
    adam = Adam(ours, learning_rate=0.01)
    keras_adam = keras.optimizers.Adam(learning_rate=0.01, epsilon=1e-8)
    for gradient in gradients:
        descend(adam, gradient)
        keras_adam.apply(gradient, theirs)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y.numpy(), rtol=1e-5, atol=1e-7)


def test_takes_keras_variables():
    x = keras.Variable(np.float32([1.0, 1.0]))
    descend(Adam([x], learning_rate=0.5), [tf.constant([1.0, -1.0])])
    np.testing.assert_allclose(x.numpy(), [0.5, 1.5], rtol=1e-6)  # the first step is the rate, against the sign


def test_returns_the_norm_over_all_variables():
    # 3^2 + 0^2 + 4^2 = 5^2
    adam = Adam([tf.Variable([1.0, 1.0]), tf.Variable(1.0)], learning_rate=0.1)
    norm = descend(adam, [tf.constant([3.0, 0.0]), tf.constant(4.0)])
    assert norm.numpy() == pytest.approx(5.0)


def test_learning_rate_zero_moves_nothing():
    values, gradients = start()
    adam = Adam([tf.Variable(x) for x in values], learning_rate=0)
    for gradient in gradients:
        descend(adam, gradient)
    for x, value in zip(adam.variables, values, strict=True):
        np.testing.assert_array_equal(x, value)  # bit for bit
    assert np.all(adam.m[0] != 0)  # though steps were taken


def test_state_restores():
    """A second Adam that takes over variables and state goes on exactly as the first."""
    values, gradients = start()
    first = Adam([tf.Variable(x) for x in values], learning_rate=0.01)
    for gradient in gradients[:3]:
        descend(first, gradient)
    second = Adam([tf.Variable(x) for x in first.variables], learning_rate=0.01)
    assert first.state().keys() == second.state().keys()
    for name, variable in first.state().items():
        second.state()[name].assign(variable)
    for gradient in gradients[3:]:
        descend(first, gradient)
        descend(second, gradient)
    for x, y in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(x, y)

"""The trained policy as a SavedModel: plain TensorFlow, loadable where neither tfsac nor TFP is installed."""

import json
from pathlib import Path

import numpy as np

from tfsac.deploy.formats.format import Format
from tfsac.errors import UserError, require
from tfsac.quiet_tensorflow import path_for_tensorflow, tf

# SavedModel's own place for files that are not TensorFlow's.
FACTS = "assets.extra/tfsac.json"


class SavedModel(Format):
    """Signatures `deterministic` (also as `serving_default`), `sample` and `distribution`, each for any batch."""

    file = "saved_model"
    purpose = "a TensorFlow program or server"
    oldest_runtime = "TensorFlow 2.21"

    def write(self, path, deployable):
        from tfsac.deploy.formats.graph import PolicyGraph

        graph = PolicyGraph(deployable.policy, deployable.low, deployable.high, deployable.limit)
        observation_dim, *_, action_dim = deployable.policy.sizes
        observation = tf.TensorSpec([None, observation_dim], name="observation")
        noise = tf.TensorSpec([None, action_dim], name="noise")
        deterministic = tf.function(graph.deterministic, autograph=False).get_concrete_function(observation)
        signatures = {
            "serving_default": deterministic,
            "deterministic": deterministic,
            "sample": tf.function(graph.sample, autograph=False).get_concrete_function(observation, noise),
            "distribution": tf.function(graph.distribution, autograph=False).get_concrete_function(observation),
        }
        Path(path).mkdir()
        with path_for_tensorflow(path) as name:
            tf.saved_model.save(graph, name, signatures)
        facts = Path(path, FACTS)
        facts.parent.mkdir()
        facts.write_text(json.dumps(deployable.facts, indent=1, allow_nan=False), encoding="utf-8")

    def load(self, path):
        try:
            with path_for_tensorflow(path) as name:
                signatures = tf.saved_model.load(name).signatures
        except Exception as error:  # it may be anyone's, and broken in any way
            raise UserError(f"cannot load {path}: {' '.join(str(error).split())}") from error
        require("deterministic" in signatures, f"cannot load {path}: no signature deterministic")
        signature = signatures["deterministic"]

        def batch(observations):
            return signature(observation=tf.constant(np.asarray(observations, np.float32)))["action"].numpy()

        def act(observation):
            return batch(np.atleast_2d(observation))[0]

        act.batch = batch  # [B, O] -> [B, A]
        return act

    def finish(self, path, act, deployable, measured):
        from tfsac.deploy.formats.graph import PolicyGraph

        graph = PolicyGraph(deployable.policy, deployable.low, deployable.high, deployable.limit)
        states = tf.constant(deployable.states)
        before = tf.function(graph.deterministic, autograph=False)(states)["action"]
        with path_for_tensorflow(path) as name:
            after = tf.saved_model.load(name).signatures["deterministic"](observation=states)["action"]
        return {"reloads bit for bit": bool(np.array_equal(before, after))}, {}


def read_facts(path):
    """The facts of a SavedModel directory, a dict.

    Raises:
        UserError: it was not written by tfsac.
    """
    facts = Path(path, FACTS)
    require(facts.is_file(), f"no {facts}: expected a SavedModel directory written by tfsac.export")
    try:
        said = json.loads(facts.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{facts} is not what tfsac.export wrote: {error}") from error
    require(isinstance(said, dict), f"{facts} is not what tfsac.export wrote: expected a mapping")
    return said

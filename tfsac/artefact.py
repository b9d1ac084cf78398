"""Exported policies as functions: observation [O] -> action [A] in the environment's units."""

import json
from pathlib import Path

from tfsac.device_kit import run_policy
from tfsac.errors import UserError, require

# SavedModel's own place for files that are not TensorFlow's.
SAVED_MODEL_FACTS = "assets.extra/tfsac.json"


def load(path):
    """Loads an artefact.

    Args:
        path: a .tflite file or a SavedModel directory, written by `tfsac.export`.

    Returns:
        act: observation [O] -> action [A]; and what the artefact says of itself, a dict.

    Raises:
        UserError: it is neither, or not one of tfsac's.
    """
    if Path(path).is_dir():
        return _load_saved_model(path)
    try:
        policy = run_policy.Policy(path)
    except ValueError as error:
        raise UserError(f"{error}; expected a .tflite file or a SavedModel directory of tfsac.export") from error
    require("noise" not in policy.facts["golden"], f"{path} wants noise with every observation: take policy.tflite")
    return policy, policy.facts


def _load_saved_model(path):
    facts = Path(path) / SAVED_MODEL_FACTS
    require(facts.is_file(), f"no {facts}: expected a SavedModel directory written by tfsac.export")
    from tfsac.quiet_tensorflow import tf  # only here: a .tflite file is evaluated without it

    signature = tf.saved_model.load(str(path)).signatures["deterministic"]

    def act(observation):
        return signature(observation=tf.constant(observation[None], tf.float32))["action"].numpy()[0]

    return act, json.loads(facts.read_text())

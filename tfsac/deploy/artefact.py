"""Exported policies as functions: observation [O] -> action [A] in the environment's units."""

from pathlib import Path

from tfsac.deploy.device_kit import run_policy
from tfsac.deploy.formats import saved_model
from tfsac.errors import UserError, require


def load(path):
    """Loads an artefact.

    Args:
        path: a .tflite file or a SavedModel directory, written by `tfsac.export`.

    Returns:
        act: observation [O] -> action [A]; and the facts in the artefact, a dict; `facts.environment` reads it.

    Raises:
        UserError: it is neither, or not one of tfsac's.
    """
    if Path(path).is_dir():
        facts = saved_model.read_facts(path)  # first: TensorFlow takes seconds
        return saved_model.SavedModel().load(path), facts
    try:
        policy = run_policy.Policy(path)
    except ValueError as error:
        raise UserError(f"{error}; expected a .tflite file or a SavedModel directory of tfsac.export") from error
    require(not policy.samples, f"{path} wants noise with every observation: take policy.tflite")
    return policy, policy.facts

"""The policy under stress, from a file or a run: actions for a batch of observations."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfsac.data.envs import EnvSettings, to_bounds
from tfsac.deploy import artefact, facts
from tfsac.deploy.formats.c_header import CHeader
from tfsac.deploy.formats.format import NotChecked
from tfsac.errors import UserError, require
from tfsac.run import checkpoint


class Subject(NamedTuple):
    """A policy to put under stress.

    Attributes:
        name: of the file or the run.
        act: observations [B, O] -> actions [B, A] in the environment's units.
        env: the environment that it was trained in, an `EnvSettings`.
        bounds: of its actions, see `envs.require_bounds`; None if unknown.
    """

    name: str
    act: Any
    env: EnvSettings
    bounds: Any = None


def load(path):
    """The policy of a .tflite file, a SavedModel directory, a policy.h or a run directory.

    A policy.h says too little of its environment: report.json of the same export must lie beside it.

    Returns:
        A `Subject`.

    Raises:
        UserError: none of these, or not one of tfsac's.
    """
    path = Path(path)
    if (path / "checkpoints").is_dir():
        return _run(path)
    if path.suffix == ".h":
        return _header(path)
    act, said = artefact.load(path)
    env = facts.environment(said, path)
    return Subject(str(path), act.batch if path.is_dir() else _tflite(path), env, said.get("action"))


def _tflite(path):
    """A .tflite file as a function of any number of rows: its input is resized."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    (input_,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    resized = []

    def act(observations):
        if resized != list(observations.shape):
            resized[:] = observations.shape
            interpreter.resize_tensor_input(input_["index"], resized)
            interpreter.allocate_tensors()
        interpreter.set_tensor(input_["index"], observations.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return act


def _run(path):
    restored = checkpoint.restore(path / "checkpoints")
    with checkpoint.reading(f"the checkpoint of step {restored.step}"):
        policy, env = restored.policy, restored.env

    bounds = []  # known only once the environment may be made

    def act(observations):
        if not bounds:
            space = env.make(unit_actions=False).action_space
            bounds.extend((space.low, space.high))
        return to_bounds(policy.deterministic(observations), *bounds)

    return Subject(str(path), act, env, restored.facts.get("action"))


def _header(path):
    require(path.is_file(), f"no {path}: expected a policy.h of tfsac.export")
    report = path.with_name("report.json")
    require(report.is_file(), f"no {report}: {path.name} does not say enough of its environment without it")
    require(path.name == "policy.h", f"{path}: expected the name policy.h, as tfsac.export writes it")
    try:
        written = json.loads(report.read_text(encoding="utf-8"))
        said, expected = written["facts"], written["artefacts"][path.name]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{report} is not what tfsac.export wrote: {error}") from error
    require(
        hashlib.sha256(path.read_bytes()).hexdigest() == expected,
        f"{path} is not the one that {report} is about (its SHA-256 is another): take both from the same export",
    )
    try:
        act = CHeader().load(path)
    except NotChecked as reason:
        raise UserError(f"{path} cannot be run: {reason}") from reason
    env = facts.environment(said, report)
    return Subject(str(path), lambda rows: np.array([act(x) for x in rows]), env, said.get("action"))

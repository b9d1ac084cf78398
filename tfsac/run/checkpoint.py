"""Checkpoints: all state of a run in one place, written whole or not at all, and checked when read.

    checkpoints/
      step-000010000/state.npz    arrays by part: agent/..., collector/..., and policy/..., which is what is deployed
      step-000010000/facts.json   what rebuilds environment and policy, counters, random states
      step-000010000/SHA256SUMS   of these and the replay files it needs; `sha256sum -c SHA256SUMS` checks them, too
      replay/0-10000.npy          replay rows by number; each checkpoint adds those that are new since the last

numpy's formats instead of tf.train.Checkpoint: one format holds TensorFlow's and numpy's state alike, anyone can read
it, and nothing in it can run code (`allow_pickle=False`).
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.data.envs import EnvSettings
from tfsac.errors import RunError, UserError, require
from tfsac.policy import Policy

FORMAT = 2  # of facts.json and of the arrays' names; 1, which had no number, is tfsac 0.1's
KEPT = 2  # complete checkpoints; the older one is there for the day the newer is damaged


class Checkpoint(NamedTuple):
    """What one checkpoint holds.

    Attributes:
        step: environment steps taken.
        facts: what JSON can hold: how to rebuild environment and policy, counters, random states.
        arrays: numpy arrays by name.
        replay_files: paths of the files of replay rows, oldest first.
    """

    step: int
    facts: dict
    arrays: dict
    replay_files: list

    @property
    def settings(self):
        """Of the run: {scope: {parameter: value}}, as JSON gives them back."""
        return self.facts["settings"]

    @property
    def env(self):
        """The environment of the run, an `EnvSettings`; see `trust.check_trusted` before it is made."""
        return EnvSettings.read(self.settings["env"])

    @property
    def policy(self):
        """The policy as it is deployed, a `tfsac.policy.Policy`."""
        return Policy.from_arrays(self.part("policy"))

    def part(self, name):
        """The arrays of one part of the run, by name."""
        return {key.removeprefix(f"{name}/"): x for key, x in self.arrays.items() if key.startswith(f"{name}/")}


@contextlib.contextmanager
def reading(what):
    """A context that turns any error into a UserError of one line; a RunError passes as it is.

    It is for files that may come from strangers: the code that reads them need not foresee everything.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{what} holds what tfsac did not write: {type(error).__name__}: {words}") from error


def save(folder, step, facts, arrays, replay):
    """Writes a checkpoint, unless there is one of this step; a crash at any moment leaves the others usable.

    Args:
        folder: the run's folder of checkpoints, made if missing.
        step, facts, arrays: see `Checkpoint`.
        replay: a Replay; the rows of it that no earlier checkpoint holds are written.

    Raises:
        RunError: it could not be written, because of a full disk for instance.
    """
    folder = Path(folder)
    saved = steps(folder)
    if step in saved:
        return
    partial = folder / "partial"
    try:
        (folder / "replay").mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sums = _replay_sums(_path(folder, saved[-1])) if saved else {}
        sums = _save_replay(folder, replay, sums)
        facts = {**facts, "format": FORMAT, "step": step, "replay_files": list(sums)}
        sums["state.npz"] = _write(partial / "state.npz", lambda file: np.savez(file, **arrays))
        sums["facts.json"] = _write(
            partial / "facts.json", lambda file: file.write(json.dumps(facts, indent=1).encode())
        )
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        _write(partial / "SHA256SUMS", lambda file: file.write(lines.encode()))
        partial.rename(_path(folder, step))  # the checkpoint exists from here on
        _prune(folder)
    except OSError as error:
        left = f"the last complete one is of step {saved[-1]}" if saved else "there is no earlier one"
        reason = error if error.errno else f"{error} (is the disk full?)"  # numpy says no more than how far it came
        raise RunError(f"cannot write the checkpoint of step {step}: {reason}; {left}") from error


def steps(folder):
    """Steps of the checkpoints in the folder, oldest first; none where there is no such folder."""
    names = (path.name.removeprefix("step-") for path in Path(folder).glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def restore(folder):
    """Reads the last checkpoint of the folder, after checking every file of it.

    Raises:
        UserError: there is none, or it is damaged; the line names the file and offers the checkpoint before it.
    """
    saved = None
    while saved != (saved := steps(folder)):  # again, should a run that goes on have removed what is read here
        require(saved, f"no checkpoint in {folder}: expected a run that has saved one")
        path = _path(folder, saved[-1])
        try:
            with reading(path):
                return _read(path)
        except UserError as error:
            damage = error
    cure = f"remove {path} to go on from step {saved[-2]}" if len(saved) > 1 else "there is no earlier one"
    raise UserError(f"the checkpoint of step {saved[-1]} is damaged: {damage}; {cure}") from damage


def _read(path):
    sums = _read_sums(path)
    for name, digest in sums.items():
        require((path / name).is_file(), f"{name}, which SHA256SUMS lists, is missing")
        sound = _sha256(path / name) == digest
        require(sound, f"{name} is not what was written: its SHA-256 is not the one in SHA256SUMS")
    facts = json.loads((path / "facts.json").read_text())
    missing = {"state.npz", "facts.json", *facts["replay_files"]} - set(sums)
    require(not missing, f"SHA256SUMS lacks {min(missing, default='')}")
    with zipfile.ZipFile(path / "state.npz") as file:  # compressed, a few bytes might be more than any memory
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in file.infolist())
        require(stored, "state.npz is compressed, which tfsac never does")
    with np.load(path / "state.npz", allow_pickle=False) as file:
        arrays = dict(file)
    written = facts.get("format", 1)
    require(
        written in (1, FORMAT), f"its format is {written!r}, this tfsac reads 1 and {FORMAT}: install a newer tfsac"
    )
    if written == 1:
        facts, arrays = _from_format_1(facts, arrays)
    step, files, settings = facts["step"], facts["replay_files"], facts["settings"]
    require(type(step) is int and path == _path(path.parent, step), f"its step is {step!r}")
    are_settings = isinstance(settings, dict) and all(isinstance(values, dict) for values in settings.values())
    require(are_settings, f"its settings are {settings!r:.80}")
    require(all(re.fullmatch(r"\.\./replay/\d+-\d+\.npy", name) for name in files), "replay_files names other files")
    return Checkpoint(step, facts, arrays, [path / name for name in files])


def _from_format_1(facts, arrays):
    """Facts and arrays of tfsac 0.1 as they would be written today."""
    train = dict(facts["settings"]["train"])
    settings = {"train": train, "env": {"id": train.pop("env_id")}}
    settings |= {scope: values for scope, values in facts["settings"].items() if scope != "train"}
    facts = {key: value for key, value in facts.items() if key != "rng"} | {
        "settings": settings,
        "behaviour": {"rng": facts["rng"]},
    }
    parts = {f"{'collector' if name.startswith('environment_') else 'agent'}/{name}": x for name, x in arrays.items()}
    network = {name.removeprefix("policy/"): x for name, x in arrays.items() if name.startswith("policy/")}
    policy = Policy.from_arrays(network)
    scales = [values["observation_scale"] for values in settings.values() if values.get("observation_scale")]
    if scales:
        policy = policy.scaled_input(np.float32(scales[0]))
    return facts, parts | {f"policy/{name}": x for name, x in policy.arrays().items()}


def replay_segments(checkpoint):
    """Yields the rows of the replay, oldest first, one matrix for each file; UserError if one is no such matrix."""
    replay = checkpoint.facts["replay"]
    oldest = replay["inserted"] - min(replay["inserted"], replay["capacity"])
    for path in checkpoint.replay_files:
        if not path.is_file():
            raise RunError(f"{path} is gone: a run that goes on has removed it meanwhile; try again")
        with reading(path):
            rows = np.load(path, allow_pickle=False)
            start, stop = _range(path)
            require(
                rows.dtype == np.float32 and rows.ndim == 2 and len(rows) == stop - start,
                f"{path}: expected {stop - start} rows of float32, received {rows.dtype} {rows.shape}",
            )
            rows = rows[max(0, oldest - start) :]
        yield rows


def _save_replay(folder, replay, earlier):
    """-> SHA-256 by name of the files that together hold all rows the replay holds; writes what `earlier` lacks."""
    oldest = replay.inserted - len(replay)
    sums = {name: digest for name, digest in earlier.items() if _range(name)[1] > oldest}
    start = max((_range(name)[1] for name in sums), default=oldest)
    if start < replay.inserted:
        name = f"replay/{start}-{replay.inserted}.npy"
        temporary = folder / "partial" / "replay.npy"
        rows = replay.rows(start, replay.inserted)
        sums[f"../{name}"] = _write(temporary, lambda file: np.save(file, rows))
        temporary.rename(folder / name)
    return sums


def _prune(folder):
    """Removes all but the last checkpoints, and the replay files that these do not need."""
    saved = steps(folder)
    for step in saved[:-KEPT]:
        shutil.rmtree(_path(folder, step))
    needed = {Path(name).name for step in saved[-KEPT:] for name in _replay_sums(_path(folder, step))}
    for path in (folder / "replay").iterdir():
        if path.name not in needed:
            path.unlink()


def _path(folder, step):
    return Path(folder) / f"step-{step:09d}"


def _range(name):
    """'.../10-25.npy' -> (10, 25): the numbers of the first row and of the one after the last."""
    start, stop = Path(name).stem.split("-")
    return int(start), int(stop)


def _read_sums(path):
    text = (path / "SHA256SUMS").read_bytes().decode(errors="replace")
    *lines, end = text.split("\n")
    sums = [line.split("  ", 1) for line in lines]
    require(not end and all(len(parts) == 2 for parts in sums), "SHA256SUMS is not what was written")
    return {name: digest for digest, name in sums}


def _replay_sums(path):
    return {name: digest for name, digest in _read_sums(path).items() if name.startswith("../replay/")}


def _write(path, write):
    """-> SHA-256 of the file that write(file) filled; it is on the disk, not in a cache, on return."""
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    return _sha256(path)


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

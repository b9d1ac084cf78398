"""Checkpoints: all state of a run in one place, written whole or not at all, and checked when read.

    checkpoints/
      step-000010000/state.npz    arrays by name: weights, targets, optimisers, episodes under way
      step-000010000/facts.json   what rebuilds environment and policy, counters, random states
      step-000010000/SHA256SUMS   of these and the replay files it needs; `sha256sum -c SHA256SUMS` checks them, too
      replay/0-10000.npy          replay rows by number; each checkpoint adds those that are new since the last

numpy's formats instead of tf.train.Checkpoint: one format holds TensorFlow's and numpy's state alike, anyone can read
it, and nothing in it can run code (`allow_pickle=False`).
"""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsac.errors import RunError, UserError, require
from tfsac.numpy_policy import for_raw_observations

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
    def env_id(self):
        """The environment of the run; see `envs.check_trusted` before it is made."""
        return self.facts["settings"]["train"]["env_id"]

    @property
    def policy_weights(self):
        """The policy's arrays by name, as `NumpyPolicy` takes them, for observations as they are."""
        named = {name.partition("/"): array for name, array in self.arrays.items()}
        weights = {rest: array for (network, _, rest), array in named.items() if network == "policy"}
        scales = [scope.get("observation_scale") for scope in self.facts["settings"].values()]
        return for_raw_observations(weights, next(filter(None, scales), None))


def save(folder, step, facts, arrays, replay):
    """Writes a checkpoint, or nothing if there is one of this step; a crash at any moment leaves the others usable.

    Args:
        folder: the run's folder of checkpoints, made if missing.
        step, facts, arrays: see `Checkpoint`.
        replay: a Replay; the rows of it that no earlier checkpoint holds are written.

    Raises:
        RunError: it could not be written, because of a full disk for instance.
    """
    folder = Path(folder)
    known = steps(folder)
    if step in known:
        return
    partial = folder / "partial"
    try:
        (folder / "replay").mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sums = _replay_sums(_path(folder, known[-1])) if known else {}
        sums = _save_replay(folder, replay, sums)
        facts = {**facts, "step": step, "replay_files": list(sums)}
        sums["state.npz"] = _write(partial / "state.npz", lambda file: np.savez(file, **arrays))
        sums["facts.json"] = _write(
            partial / "facts.json", lambda file: file.write(json.dumps(facts, indent=1).encode())
        )
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        _write(partial / "SHA256SUMS", lambda file: file.write(lines.encode()))
        partial.rename(_path(folder, step))  # the checkpoint exists from here on
        _prune(folder)
    except OSError as error:
        left = f"the last complete one is of step {known[-1]}" if known else "there is no earlier one"
        reason = error if error.errno else f"{error} (is the disk full?)"  # numpy says no more than how far it came
        raise RunError(f"cannot write the checkpoint of step {step}: {reason}; {left}") from error


def steps(folder):
    """Steps of the checkpoints in the folder, oldest first; none where there is no such folder."""
    names = (path.name.removeprefix("step-") for path in Path(folder).glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def restore(folder):
    """Reads the last checkpoint of the folder, once every file of it is found sound.

    Raises:
        UserError: there is none, or it is damaged; the line names the file and offers the checkpoint before it.
    """
    known = steps(folder)
    require(known, f"no checkpoint in {folder}: expected a run that has saved one")
    path = _path(folder, known[-1])
    try:
        sums = _read_sums(path)
        for name, digest in sums.items():
            if not (path / name).is_file():
                raise ValueError(f"{name}, which SHA256SUMS lists, is missing")
            if _sha256(path / name) != digest:
                raise ValueError(f"{name} is not what was written: its SHA-256 is not the one in SHA256SUMS")
        facts = json.loads((path / "facts.json").read_text())
        missing = {"state.npz", "facts.json", *facts["replay_files"]} - set(sums)
        if missing:
            raise ValueError(f"SHA256SUMS lacks {sorted(missing)[0]}")
        with np.load(path / "state.npz", allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        cure = f"remove {path} to go on from step {known[-2]}" if len(known) > 1 else "there is no earlier one"
        raise UserError(f"the checkpoint of step {known[-1]} is damaged: {error}; {cure}") from error
    return Checkpoint(facts["step"], facts, arrays, [path / name for name in facts["replay_files"]])


def replay_segments(checkpoint):
    """Yields the rows that the replay held, oldest first, one matrix a file; UserError where one is no matrix."""
    replay = checkpoint.facts["replay"]
    oldest = replay["inserted"] - min(replay["inserted"], replay["capacity"])
    for path in checkpoint.replay_files:
        try:
            rows = np.load(path, allow_pickle=False)
        except ValueError as error:  # no array of numbers, although its checksum is the one that was written down
            raise UserError(f"{path}: {error}") from error
        yield rows[max(0, oldest - _range(path)[0]) :]


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
    """Removes all but the last checkpoints, and the replay files that none of these needs."""
    known = steps(folder)
    for step in known[:-KEPT]:
        shutil.rmtree(_path(folder, step))
    needed = {Path(name).name for step in known[-KEPT:] for name in _replay_sums(_path(folder, step))}
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
    if end or any(len(parts) != 2 for parts in sums):
        raise ValueError("SHA256SUMS is not what was written")
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

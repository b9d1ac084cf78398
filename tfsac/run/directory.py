"""The run directory: who may write there, and what a run leaves in it."""

import fcntl
import re
import shutil
from datetime import datetime
from pathlib import Path

from tfsac.errors import UserError, require

# All that a run writes at the top of its directory; --overwrite removes these and nothing else.
NAMES = (
    "config.gin", "metrics.csv", "episodes.csv", "evaluations.csv", "checkpoints", "tensorboard", "losses.png",
    "returns.png", "non_finite.npz", "traceback.txt", "finished.json", "clip.webp",
    "diagnosis.png",
)  # fmt: skip


def default_name(env_id, prefix=""):
    """runs/<prefix><environment>-<time>, to the microsecond: runs that start at once get different names.

    Args:
        env_id: None of a run whose environment Python passed as an object.
        prefix: of the directory's name.
    """
    return f"runs/{prefix}{re.sub('[:/]', '-', env_id or 'object')}-{datetime.now():%Y%m%d-%H%M%S-%f}"


def holds_run(logdir):
    """Whether a run, finished or not, has left anything here."""
    return any((Path(logdir) / name).exists() for name in NAMES)


def check_free(logdir, overwrite, cure="--resume goes on with it, --overwrite replaces it, --logdir names another"):
    """Refuses, with UserError, a directory that holds a run, unless overwrite is set; the message ends with cure."""
    require(not Path(logdir).exists() or Path(logdir).is_dir(), f"{logdir} is a file, expected a directory")
    require(overwrite or not holds_run(logdir), f"{logdir} already holds a run: {cure}")


def take(logdir, overwrite):
    """Locks the directory, made if missing, for this process; with overwrite, removes an earlier run.

    The kernel releases the lock when the process ends, in whatever way; so there is no stale lock.

    Returns:
        The open lock file: the lock lasts as long as it does.

    Raises:
        UserError: another process has it, or it cannot be written.
    """
    try:
        Path(logdir).mkdir(parents=True, exist_ok=True)
        file = open(Path(logdir) / ".lock", "w")  # noqa: SIM115 (it stays open as long as the run)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process is training in {logdir}: wait for it or take another directory") from error
    except OSError as error:
        raise UserError(f"cannot write to {logdir}: {error.strerror}; choose another directory") from error
    if overwrite:
        for path in (Path(logdir) / name for name in NAMES):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return file


def taken_at(logdir):
    """When `take` was last called here, in nanoseconds of that machine's clock; None if it never was."""
    lock = Path(logdir) / ".lock"
    return lock.stat().st_mtime_ns if lock.exists() else None


def write_whole(path, text):
    """Writes a text file whole or not at all: a kill leaves the old one."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files need not be UTF-8
    partial.rename(path)

"""The export's directory: written whole or not at all, and never in place of files that no export wrote."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from fnmatch import fnmatch
from pathlib import Path

from tfsac.errors import RunError, UserError, require

# What an export wrote, as `sha256sum -c` reads it: only these files, unchanged, are ever replaced.
MANIFEST = "export.sha256"
# What the kit's own commands leave beside them.
BUILT = ("c/build/run_*", "c/build/cortex_m4.elf", "__pycache__/run_policy.*.pyc")


@contextlib.contextmanager
def replaced_whole(out):
    """A context with a folder to write into; it becomes `out` at the end, or disappears after an exception.

    Raises:
        UserError: out cannot be written, another export is writing it, or it holds what no export has written.
        RunError: the disk is full.
    """
    out = Path(out).resolve()  # a symlink stays, and what it points to is replaced
    check_replaceable(out)
    partial, earlier = (out.with_name(f".{out.name}.tfsac-export{end}") for end in ("", "-earlier"))
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot write to --out={out}: {error.strerror}; choose another directory") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another export is writing to --out={out}: wait for it or choose another") from error
        try:
            _settle(out, earlier)
            for left in partial.iterdir():  # by an export that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            with _full_disk_named(out):
                yield partial
                _write_manifest(partial)
            check_replaceable(out)  # it took minutes
            if out.exists():
                out.rename(earlier)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _settle(out, earlier)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _full_disk_named(out):
    """Whoever met it: Python's own error may say no place, and TensorFlow's is no OSError, or of a temporary file."""
    try:
        yield
    except Exception as error:
        if not any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise
        cure = "nothing was changed there; make room, or choose another directory"
        raise RunError(f"cannot write to --out={out}: {error}; {cure}") from error


def check_replaceable(out):
    """Refuses a path that holds anything which no export has written.

    Raises:
        UserError: a file, the current directory or one above it, or a directory with other files, the first of which
            the message names.
    """
    require(not out.exists() or out.is_dir(), f"--out={out} is a file, expected a new directory")
    require(out not in (Path.cwd(), *Path.cwd().parents), f"--out={out} is where you are: expected a new directory")
    written = _read_manifest(out / MANIFEST)
    for folder, folders, files in os.walk(out):
        for path in (Path(folder, name) for name in folders + files):
            name = path.relative_to(out).as_posix()
            if path.is_dir() and not path.is_symlink():
                continue
            same = name == MANIFEST and written or not path.is_symlink() and written.get(name) == _sha256(path)
            require(
                same or any(fnmatch(name, built) for built in BUILT),
                f"--out={out} holds {name}, which no export has written like this: expected a new directory, or an "
                "earlier export to replace; move the file away or choose another directory",
            )


def _settle(out, earlier):
    """After a replacement that may have been broken off between its two renames: one of the two stays."""
    if out.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    elif earlier.exists():
        earlier.rename(out)


def _write_manifest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def _read_manifest(path):
    """SHA-256 by name; empty where it is not what was written."""
    if path.is_symlink() or not path.is_file():
        return {}
    lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return {line[1]: line[0] for line in lines} if all(len(line) == 2 for line in lines) else {}


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

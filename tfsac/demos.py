"""Shows exported policies at work: python -m tfsac.demos --policies=export/policies --out=artifacts/demos

Writes a page and a clip of each, and index.html. Pages of MuJoCo tasks hold MuJoCo's WebAssembly, which is fetched from
npm once (--fetch does nothing else); afterwards `tfsac.export` writes such pages, too.
"""

from pathlib import Path

from absl import flags

from tfsac.deploy.demo import gallery, mujoco_wasm
from tfsac.errors import RunError, require, run_command


def main():
    """The command; see the module's docstring. Returns the exit status."""
    args = flags.FLAGS
    require(args.fetch or (args.policies and args.out), "expected --policies=FOLDER and --out=FOLDER, or --fetch")
    try:
        fetched = mujoco_wasm.fetch()
        print(
            f"{mujoco_wasm.PACKAGE} {mujoco_wasm.VERSION} is in {mujoco_wasm.folder()}{'' if fetched else ' already'}"
        )
    except RunError as error:
        if args.fetch:
            raise
        print(f"pages of MuJoCo tasks are left out: {error}")
    if args.fetch:
        return 0
    for reason in gallery.write_gallery(args.policies, args.out, args.trust):
        print(reason)
    print(f"open {Path(args.out) / 'index.html'}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("policies", None, "Folder of folders that tfsac.export has written.")
    flags.DEFINE_string("out", None, "Folder to write pages, clips and index.html into.")
    flags.DEFINE_bool("fetch", False, "Fetch MuJoCo's WebAssembly and end.")
    flags.DEFINE_multi_string("trust", [], "A module of yours that a policy names; repeatable.")
    run_command(main)

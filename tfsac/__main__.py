"""One name for all commands: `tfsac train --gin_file=...` is `python -m tfsac.train --gin_file=...`."""

import os
import runpy
import sys

COMMANDS = {
    "train": "trains an agent",
    "evaluate": "runs a trained policy, and makes a clip of it",
    "plot": "draws the returns of several runs",
    "diagnose": "says why a run does not learn",
    "sweep": "trains many: seeds, a grid, a search",
    "export": "writes a policy for devices, in every format",
    "stress": "says what a policy tolerates of delay, noise and weakness",
    "demos": "writes pages and clips of exported policies",
}


def main():
    """Runs the command that the first word names, as `python -m` does; ends with status 2 where it names none."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        asked = name in ("", "--help", "-h")
        print(
            "usage: tfsac COMMAND ...; tfsac COMMAND --help lists its flags", file=sys.stdout if asked else sys.stderr
        )
        print(*(f"  {x:9} {does}" for x, does in COMMANDS.items()), sep="\n", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    del sys.argv[1]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for modules of the user's, as `python -m` has it
    try:
        runpy.run_module(f"tfsac.{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # in its first second, as it imports; from then on the command answers itself
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

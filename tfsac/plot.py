"""Draws a run, or several seeds with a confidence band: python -m tfsac.plot DIR... [--out=DIR]

Writes returns.png and losses.png (the report's figures 3 to 6) into --out, by default the first DIR.
"""

from absl import flags

from tfsac.errors import run_command
from tfsac.run.pictures import draw


def main(logdirs):
    """The command; see the module's docstring."""
    out = flags.FLAGS.out or logdirs[0]
    draw(logdirs, out)
    print(f"wrote {out}/returns.png and {out}/losses.png")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Directory of the pictures; default the first DIR.")
    run_command(main, arguments="DIR")

"""Says why a run does not learn: python -m tfsac.diagnose RUN

RUN is a run directory, of a run that is over or still going on, or a CSV file of another program's metrics: the columns
of Stable-Baselines3's progress.csv are recognised, others are named by --column. Prints what it sees, strongest first,
and writes diagnosis.png. docs/symptoms.md explains every finding.
"""

import math
from pathlib import Path

from absl import flags

from tfsac.diagnosis import findings, picture
from tfsac.diagnosis.record import COLUMNS, FACTS, read_run, read_table
from tfsac.errors import UserError, require, run_command


def pairs(words, flag, names):
    """['name=value'] -> {name: value}; UserError unless each name is one of names."""
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        require(
            equals and value and name in names,
            f"--{flag}: expected NAME=VALUE with a NAME of {', '.join(names)}, received {word!r}",
        )
        values[name] = value
    return values


def read_facts(words):
    """--fact's words -> {name: number}."""
    facts = {}
    for name, text in pairs(words, "fact", FACTS).items():
        kind, least, greatest = FACTS[name]
        expected = f"{'a whole number' if kind is int else 'a number'} from {least:g} to {greatest:g}"
        try:
            facts[name] = kind(text)
        except ValueError as error:
            raise UserError(f"--fact={name}: expected {expected}, received {text!r}") from error
        sound = math.isfinite(facts[name]) and least <= facts[name] <= greatest
        require(sound, f"--fact={name}: expected {expected}, received {text}")
    return facts


def say(words, columns, facts, out):
    """Reads, prints and draws.

    Args:
        words: one path.
        columns, facts: the words of --column and --fact.
        out: directory of the picture, or None.
    """
    require(len(words) == 1, f"expected one RUN, received {len(words)}: {' '.join(words)}")
    path, facts, columns = Path(words[0]), read_facts(facts), pairs(columns, "column", COLUMNS)
    if path.is_dir():
        require(not columns, "--column is for a CSV file of another program; the columns of a run directory are known")
        record, beside = read_run(path, facts), path
    else:
        record, beside = read_table(path, columns, facts), path.parent
    out = Path(out) if out else beside
    out.mkdir(parents=True, exist_ok=True)
    diagnosis = findings.diagnose(record)
    print("\n".join([f"{path}:", *findings.described(diagnosis, record)]))
    picture.draw(record, diagnosis, out / "diagnosis.png")
    print(f"wrote {out}/diagnosis.png")


def main(words):
    """The command; see the module's docstring."""
    args = flags.FLAGS
    say(words, args.column, args.fact, args.out)


if __name__ == "__main__":
    flags.DEFINE_multi_string("column", [], "NAME=THEIRS: what a CSV file calls our column NAME; repeatable.")
    flags.DEFINE_multi_string("fact", [], "NAME=VALUE: what RUN does not say, such as action_dim=2; repeatable.")
    flags.DEFINE_string("out", None, "Directory of the picture; default RUN, or the folder of the CSV file.")
    run_command(main, arguments="RUN")

"""What the README says of the code is held to the code."""

import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def rows(heading):
    """Cells of the Markdown table below a heading, without its two head lines."""
    section = README.split(f"# {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("equation, functions", rows("Equations and where they are"))
def test_every_equation_names_functions_that_exist_and_explain_themselves(equation, functions):
    names = re.findall(r"`([\w.]+)`", functions)
    assert names
    for name in names:
        assert pkgutil.resolve_name(f"tfsac.{name}").__doc__, name


def test_the_reports_equations_are_all_there():
    table = " ".join(equation for equation, _ in rows("Equations and where they are"))
    for label in ("report (1)", "report (2)", "report (3)", "report (4)", "J_V", "J_Q", "J_pi", "Algorithm 1"):
        assert label in table


def test_every_tagged_deviation_is_listed_where_it_is():
    sources = [*ROOT.glob("tfsac/**/*.py"), *ROOT.glob("gin/**/*.gin")]
    tagged = Counter()
    for path in sources:
        name = path.name if path.suffix == ".py" else str(path.relative_to(ROOT))
        tagged[name] += path.read_text().count("Deviation:")
    listed = Counter(re.search("`(.+?)`", where)[1] for where, *_ in rows("Deviations"))
    assert +tagged == listed


def test_every_flag_of_the_trainer_is_described():
    flags = re.findall(r'DEFINE_\w+\("(\w+)"', (ROOT / "tfsac/train.py").read_text())
    table = " ".join(cell for row in rows("Training") for cell in row)
    assert flags and all(f"`--{flag}`" in table for flag in flags)


def test_every_file_of_a_run_is_described():
    from tfsac.run.directory import NAMES

    described = " ".join(cell for row in rows("The run directory") for cell in row)
    assert all(name in described for name in NAMES)


@pytest.mark.parametrize(
    "document, title",
    [
        ("README.md", "Benchmark"),
        ("docs/reproduction.md", "Time to solve"),
        ("docs/reproduction.md", "The report's budget"),
    ],
)
def test_a_table_is_the_studys(document, title):
    tables = (ROOT / "benchmarks/study/tables.md").read_text()
    table = tables.split(f"## {title}\n\n")[1].split("\n\n")[0]
    assert f"\n{table}\n\n" in (ROOT / document).read_text()

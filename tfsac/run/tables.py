"""The tables of a run directory, read while the run may still be writing them."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from tfsac.errors import UserError

TABLES = ("metrics", "episodes", "evaluations")


def read_csv(path):
    """Columns of a CSV file by name, float64 arrays; none where there is no such file or no row.

    The last line counts only once its end is there: the run may be writing it.

    Raises:
        UserError: something in it is no number.
    """
    columns = defaultdict(list)
    text = Path(path).read_text("utf-8", "replace") if Path(path).is_file() else ""
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        for name, value in row.items():
            try:
                columns[name].append(float(value))
            except (TypeError, ValueError) as error:
                raise UserError(f"{path}: expected numbers in the column {name}, received {value!r}") from error
    return {name: np.array(values) for name, values in columns.items()}

"""Figures as cells, Markdown and CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phase_recon.utils.files import write_text

Row = dict[str, Any]


def middle(rows: Sequence[Row], key: str) -> float:
    """The median of a figure."""
    return float(np.median([row[key] for row in rows]))


def spread(rows: Sequence[Row], key: str, worst: Callable[[list[float]], float] = max) -> str:
    """The median of a figure, and the worst where it differs; nothing if no row has it."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    median, extreme = float(np.median(values)), worst(values)
    return cell(median) if extreme == median else f"{cell(median)} (worst {cell(extreme)})"


def failure(row: Row) -> str:
    """Why a run failed, with files by their names."""
    return "failed: " + re.sub(r"/\S*/", "", row["failed"])


def cell(value: object) -> str:
    """A cell of a table: four digits of a number that is no whole one, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, ending in a newline."""
    lines = [list(header), ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |\n" for line in lines)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table as CSV; what a row has beyond the columns is left out."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, content.getvalue())

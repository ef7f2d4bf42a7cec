"""What became of many clouds: a record per cloud, and of all of them table.csv and table.html.

Records and results are read from the folders each time, so the tables are whole whoever writes them, and when.
"""

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from phase_recon.reconstruction.tables import write_csv
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.files import write_text, write_whole

# of cloud.json: states are waiting, running, done, failed and stopped; seconds are of all processes so far
RECORD: dict[str, Any] = {"input": "", "state": "waiting", "reason": "", "seconds": 0.0, "sha256": None}
METRICS = ("components", "closed", "euler_characteristic", "scale")
DISTANCES = ("cloud_to_surface_mean", "cloud_to_surface_max", "d_C", "d_H")  # to the input, in its units
COLUMNS = ("cloud", "state", "reason", "seconds", "epoch", *METRICS, *DISTANCES, "mesh", "page", "input")

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 sans-serif; margin: 2em; color: #222; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 0.4em 0.8em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: middle; }}
img {{ height: 110px; display: block; }}
.failed {{ color: #b00020; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}. The same rows as a <a href="table.csv">table</a>; distances are from the surface to the input, in its
units.</p>
<table>
<tr><th></th><th>cloud</th><th>state</th><th>seconds</th><th>steps</th><th>components</th><th>closed</th>
<th>mean distance</th><th>largest</th><th></th></tr>
{rows}
</table>
</body></html>
"""


@dataclass(frozen=True)
class Result:
    """The newest finished evaluation of a run.

    Attributes:
        folder: evaluation/<epoch>/.
        metrics: its metrics.json, the last file that an evaluation writes.
        mesh: the surface's file, or None if none was asked for.
        page: surface.html, or None.
        picture: surface.png.
    """

    folder: Path
    metrics: dict[str, Any]
    mesh: Path | None
    page: Path | None
    picture: Path


def result_of(run: Path) -> Result | None:
    """The newest evaluation of a run that is whole, or None."""
    for path in sorted(run.glob("evaluation/*/metrics.json"), key=lambda path: -_number(path.parent.name)):
        try:
            metrics = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        folder = path.parent
        others = {".html", ".png"}
        files = [file for file in sorted(folder.glob("surface.*")) if file.suffix not in others]
        if "surface" in metrics:  # else it is of an earlier version; files of another evaluation may lie beside its own
            files = [file for file in files if file.name == metrics["surface"]]
        mesh = next(iter(files), None)
        page = folder / "surface.html"
        return Result(folder, metrics, mesh, page if page.is_file() else None, folder / "surface.png")
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """A cloud's record; what was never noted has the values of RECORD.

    Raises:
        UserError: the record is not readable as such.
    """
    path = folder / "cloud.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return dict(RECORD)
    except (OSError, ValueError):
        raise UserError(f"{path}: not a readable record: remove it, and the cloud is begun anew") from None
    return RECORD | record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a cloud's record, with RECORD's values for what it leaves out."""
    write_whole(folder / "cloud.json", (json.dumps(RECORD | record, indent=1) + "\n").encode())


def write_tables(folder: Path) -> None:
    """Write table.csv and table.html of a folder of clouds.

    Several processes may do so at a time. One that was late would leave an old table, so each looks again after
    it has written, until nothing has changed in between (derived: a change is noted before its own table).
    """
    written = None
    while (rows := table(folder)) != written:
        written = rows
        write_csv(folder / "table.csv", COLUMNS, rows)
        write_text(folder / "table.html", page_of(folder, rows))


def table(folder: Path) -> list[dict[str, Any]]:
    """A row per cloud, by name; paths are relative to the folder, but for the input's. "picture" is beside COLUMNS."""
    rows = []
    for path in sorted(folder.glob("*/cloud.json")):
        record = read_record(path.parent)
        row = {"cloud": path.parent.name, **{key: record[key] for key in ("state", "reason", "seconds", "input")}}
        result = result_of(path.parent) if record["state"] == "done" else None
        if result is not None:
            metrics = result.metrics
            row |= {key: metrics[key] for key in ("epoch", *METRICS)}
            row |= {key: metrics["input"][key] for key in DISTANCES}
            files = {"mesh": result.mesh, "page": result.page, "picture": result.picture}
            row |= {key: file.relative_to(folder).as_posix() for key, file in files.items() if file is not None}
        rows.append(row)
    return rows


def page_of(folder: Path, rows: list[dict[str, Any]]) -> str:
    """The page of a table: a picture, links and measurements per cloud, and why one failed."""
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    title = html.escape(f"{folder.parent.name}, {folder.name}")
    return PAGE.format(title=title, summary=f"{counted(len(rows), 'cloud')}: {counts}", rows="\n".join(map(_row, rows)))


def _row(row: dict[str, Any]) -> str:
    picture = f'<img src="{quote(row["picture"])}" alt="" loading="lazy">' if "picture" in row else ""
    links = [f'<a href="{quote(row[key])}">{key}</a>' for key in ("page", "mesh") if key in row]
    links += [f'<a href="{quote(row["cloud"])}/output.log">output</a>'] if row["state"] not in ("waiting",) else []
    state = f'<span class="{row["state"]}">{row["state"]}</span><br>{html.escape(row["reason"])}'
    keys = ("seconds", "epoch", "components", "closed", "cloud_to_surface_mean", "cloud_to_surface_max")
    name = f'<span title="{html.escape(row["input"])}">{html.escape(row["cloud"])}</span>'
    cells = [picture, name, state, *(_text(row.get(key, "")) for key in keys), " ".join(links)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else -1

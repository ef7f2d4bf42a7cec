"""The record of each of many clouds, and the table and page of all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_batch import rows

from phase_recon.reconstruction.batch_table import read_record, result_of, write_record, write_tables
from phase_recon.utils.errors import UserError


def test_texts_cannot_break_the_page(tmp_path: Path):
    (tmp_path / "a").mkdir()
    write_record(tmp_path / "a", {"input": '/x/"><b>.xyz', "state": "failed", "reason": "<script>"})
    write_tables(tmp_path)
    page = (tmp_path / "table.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert '"><b>' not in page


def test_a_table_that_changes_while_it_is_written_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from phase_recon.reconstruction import batch_table

    for name in "ab":
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, {"input": name})
    write: Callable[[Path, str], None] = batch_table.write_text

    def slow(path: Path, content: str) -> None:
        if path.name == "table.html" and read_record(tmp_path / "b")["state"] == "waiting":
            write_record(tmp_path / "b", {"input": "b", "state": "done"})  # another process, meanwhile
        write(path, content)

    monkeypatch.setattr(batch_table, "write_text", slow)
    write_tables(tmp_path)
    assert rows(tmp_path)["b"]["state"] == "done"


def test_a_result_is_one_whose_metrics_are_there(tmp_path: Path):
    for epoch, text in (("9", '{"epoch": 9}'), ("10", '{"epoch": 10}'), ("11", '{"ep')):
        (tmp_path / "evaluation" / epoch).mkdir(parents=True)
        (tmp_path / "evaluation" / epoch / "metrics.json").write_text(text)
    result = result_of(tmp_path)
    assert result is not None
    assert (result.metrics["epoch"], result.mesh, result.page) == (10, None, None)
    assert result_of(tmp_path / "evaluation") is None


def test_a_record_that_is_no_record_is_an_error(tmp_path: Path):
    (tmp_path / "cloud.json").write_text("{")
    with pytest.raises(UserError, match=r"cloud\.json: not a readable record: remove it"):
        read_record(tmp_path)


def test_a_result_names_its_own_surface(tmp_path: Path):
    """The files of another evaluation, in another format, may lie beside it."""
    folder = tmp_path / "evaluation" / "10"
    folder.mkdir(parents=True)
    for name in ("surface.obj", "surface.ply", "surface.png"):
        (folder / name).touch()
    cases = (('{"surface": "surface.ply"}', "surface.ply"), ("{}", "surface.obj"), ('{"surface": null}', None))
    for text, name in cases:
        (folder / "metrics.json").write_text(text)
        result = result_of(tmp_path)
        assert result is not None
        assert (None if result.mesh is None else result.mesh.name) == name

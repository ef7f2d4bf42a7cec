"""Figures as cells, Markdown and CSV, by hand."""

from phase_recon.reconstruction.tables import cell, markdown, spread, write_csv


def test_a_spread_is_the_median_and_the_worst():
    rows = [{"d_C": 1.0, "iou": 0.9}, {"d_C": 3.0, "iou": 0.7}, {"d_C": 2.0, "iou": 0.8}]
    assert spread(rows, "d_C") == "2 (worst 3)"
    assert spread(rows, "iou", min) == "0.8 (worst 0.7)"
    assert spread(rows[:1], "d_C") == "1"
    assert spread(rows, "d_H") == ""


def test_tables(tmp_path):
    assert [cell(value) for value in (0.123456, 12345, 1e-7, None, "a")] == ["0.1235", "12345", "1e-07", "", "a"]
    assert markdown(["a", "b"], [[1, "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
    write_csv(tmp_path / "t.csv", ["a", "b"], [{"a": 1, "more": 2}, {"b": "x, y"}])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,b", "1,", ',"x, y"']

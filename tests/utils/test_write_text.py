"""Texts are written whole, whatever the names in them."""

from phase_recon.utils.files import write_text


def test_a_name_that_is_no_utf_8_is_written_by_its_code(tmp_path):
    """Python reads the byte 0xe9 of a name as U+DCE9, which no UTF-8 has."""
    write_text(tmp_path / "table.md", "| é | caf\udce9.ply |\n")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "| é | caf\\udce9.ply |\n"

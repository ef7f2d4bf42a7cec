"""Files are written whole, whatever the names in them; links stay."""

import os
import re

import pytest

from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_text, write_whole


def test_a_name_that_is_no_utf_8_is_written_by_its_code(tmp_path):
    """Python reads the byte 0xe9 of a name as U+DCE9, which no UTF-8 has."""
    write_text(tmp_path / "table.md", "| é | caf\udce9.ply |\n")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "| é | caf\\udce9.ply |\n"


def test_a_link_stays_and_the_file_that_it_means_is_written(tmp_path):
    (tmp_path / "real.ply").write_text("before")
    (tmp_path / "link.ply").symlink_to("real.ply")
    write_whole(tmp_path / "link.ply", b"after")
    assert (tmp_path / "link.ply").is_symlink()
    assert (tmp_path / "real.ply").read_text() == "after"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "link.ply").symlink_to("pipe.ply")
    says = re.escape(f"{tmp_path / 'pipe.ply'}: cannot be written (it is no file); choose another folder")
    for name in ("pipe.ply", "link.ply"):
        with pytest.raises(UserError, match=says):
            write_whole(tmp_path / name, b"a surface")
    assert (tmp_path / "pipe.ply").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe.ply", "link.ply"}

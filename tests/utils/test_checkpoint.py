"""Files that are no checkpoints, or not of this program, are refused; no code in them is run."""

import os
import pickle
import zipfile
from typing import Any

import pytest
import torch
from test_experiment import checkpoint

from phase_recon.utils.checkpoint import FORMAT, read_checkpoint
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    good = Experiment.create(tmp_path, "a").save_checkpoint(checkpoint(1))
    content = good.read_bytes()
    path = tmp_path / "x.pth"
    with pytest.raises(UserError, match=r"x\.pth: no such file"):
        read_checkpoint(path)
    for wrong in (b"", b"some text\n", content[: len(content) // 2], content[:-1], pickle.dumps({"format": 1})):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"x\.pth: not a checkpoint, or cut short: load another check"):
            read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "not tensors")
    with pytest.raises(UserError, match=r"x\.pth: not a checkpoint"):
        read_checkpoint(path)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(UserError, match="compressed"):
        read_checkpoint(path)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, as_zip):
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    path = tmp_path / "x.pth"
    if as_zip:
        torch.save({**checkpoint(1), "network": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match="not a checkpoint"):
        read_checkpoint(path)
    assert not mark.exists()


def test_other_formats_and_missing_parts_are_named(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(checkpoint(1) | {"format": 99}, path)
    with pytest.raises(UserError, match=rf"format 99, expected {FORMAT}"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="format none"):
        read_checkpoint(path)
    part = checkpoint(1)
    del part["omega"], part["generator"]
    torch.save(part, path)
    with pytest.raises(UserError, match=r"not a complete checkpoint: generator, omega missing"):
        read_checkpoint(path)

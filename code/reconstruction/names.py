"""What a run is called where nobody names it: as the cloud's file, or as the folder of many."""

import glob
import re
from dataclasses import replace

from phase_recon.utils.config import Config
from phase_recon.utils.locations import find_file

LONGEST = 100  # characters of a name


def named(config: Config) -> Config:
    """The configuration with a name of the run: where train.expname is null, that of train.input_path.

    That is the file's name without its extension; of a folder, or of a glob in one, the folder's name.
    """
    t = config.train
    if t.expname is not None:
        return config
    path = find_file((t.input_path or "phase").removeprefix("@"))
    while glob.has_magic(str(path)) and not path.exists():
        path = path.parent
    return replace(config, train=replace(t, expname=folder_name(path.absolute().name if path.is_dir() else path.stem)))


def folder_name(text: str) -> str:
    """A text as the name of a folder: without what a shell or a file system may take otherwise."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._-")[:LONGEST] or "cloud"

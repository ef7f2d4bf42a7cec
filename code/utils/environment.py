"""What must be there before anything of ours can run: Python's version, and the packages of requirements.txt.

It imports nothing that may be missing, and is written so that an older Python can read it far enough to say so.
"""

import sys
from importlib.util import find_spec

OLDEST = (3, 11)  # as pyproject.toml has it
# the names that are imported; open3d and TensorBoard are optional, and missed where they are asked for
PACKAGES = (
    "torch", "numpy", "scipy", "pyhocon", "skimage", "trimesh", "plotly", "matplotlib", "PIL", "fast_simplification",
    "tqdm", "GPUtil", "igl", "laspy", "lazrs", "lzf", "embreex",
)  # fmt: skip


def require_packages() -> None:
    """End the process with status 2 and one line, if Python is too old or a package is missing."""
    if sys.version_info < OLDEST:
        own = ".".join(map(str, sys.version_info[:2]))
        _end(f"{sys.executable} is Python {own}: expected {OLDEST[0]}.{OLDEST[1]} or newer")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        _end(missing_text(*missing))


def missing_text(*names: str) -> str:
    """What is said of packages that cannot be imported, and what to do about it."""
    which = "the package" if len(names) == 1 else "the packages"
    return (
        f"{sys.executable} lacks {which} {', '.join(names)}: start the command with the Python of the environment that "
        "was set up (.venv/bin/python), or install what it needs: python -m pip install -r requirements.txt"
    )


def _end(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)

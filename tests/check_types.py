"""Runs mypy on the package as it is imported: as ``phase_recon``, although its folders stand in code/.

    python tests/check_types.py

mypy takes a module's name from where its file is, so it is shown a folder of links in which all is where it would be
installed. Its messages name the files in code/.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Check code/ and data/; returns mypy's exit status."""
    with tempfile.TemporaryDirectory() as made:
        package = Path(made) / "phase_recon"
        package.mkdir()
        for entry in (ROOT / "code").iterdir():
            name = "__init__.py" if entry.name == "phase_recon.py" else entry.name
            (package / name).symlink_to(entry)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        files = [str(package), *map(str, (ROOT / "data").glob("*.py"))]
        done = subprocess.run([*command, *files], cwd=made, capture_output=True, text=True, check=False)
        said = done.stdout.replace("phase_recon/__init__.py", "code/phase_recon.py").replace("phase_recon/", "code/")
        print(said, end="")
        print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

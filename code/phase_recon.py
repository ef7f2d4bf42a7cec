"""The package ``phase_recon``: its folders are those beside this file, in a checkout as in an installation.

    import phase_recon

    mesh = phase_recon.reconstruct(points)        # (N, 3) or (N, 2), no normals needed
    mesh.save("mesh.ply")
    mesh.field.w(places)                          # signed distance, in the units of the points

Every mistake that a caller can mend is a ``phase_recon.UserError``, whose text is one line that names the remedy.
"""

from pathlib import Path

# a module with a path is a package: this one stands beside the folders that it holds, as a folder named code may
# not hold an __init__.py, which would hide the standard library's module code
__path__ = [str(Path(__file__).parent)]
__version__ = "1.0.0"

from phase_recon.reconstruction.api import load_field, reconstruct
from phase_recon.utils.errors import UserError

__all__ = ["UserError", "__version__", "load_field", "reconstruct"]

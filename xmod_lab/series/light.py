"""nbformat without what it does not need: ``from xmod_lab.series.light import nbformat``.

nbformat imports jsonschema, which, if it finds rfc3987_syntax (jupyterlab brings it), builds a grammar for a kind of
web address that no notebook holds. That takes longer than all other imports of a series run together, and every
notebook would pay for it. jsonschema does without that package, so it is absent while jsonschema is imported.
"""

from __future__ import annotations

import sys

_present = "rfc3987_syntax" in sys.modules
if not _present:
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
try:
    import nbformat
finally:
    if not _present:
        del sys.modules["rfc3987_syntax"]

__all__ = ["nbformat"]

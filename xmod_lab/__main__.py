"""`python -m xmod_lab ...` is `xmod-lab ...`."""

from __future__ import annotations

from xmod_lab.cli import app

if __name__ == "__main__":
    app(prog_name="xmod-lab")

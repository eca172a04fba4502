"""`python -m xmod_lab ...` is `xmod-lab ...`."""

from __future__ import annotations

from xmod_lab.cli import main

if __name__ == "__main__":
    main()

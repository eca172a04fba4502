"""Where things lie. Three environment variables move them; nothing else does.

XMOD_HOME   everything this project writes: data/, cache/, runs/, series/. Default: the checkout the package is
            installed from (editable install), else ``~/.xmod_lab``.
XMOD_DATA   a folder of data sets that already exist, one sub-folder per manifest key. It is searched first and
            never written to.
XMOD_RUNS   run folders of their own (a series run sets it, so that two of them do not meet). Default XMOD_HOME/runs.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
LPIPS_FILE = "lpips.pt2"


def checkout() -> Path | None:
    """The source checkout this package runs from, or None for a plain install."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def home() -> Path:
    """The folder everything is written below."""
    if value := os.environ.get("XMOD_HOME"):
        return Path(value).expanduser().resolve()
    return checkout() or Path.home() / ".xmod_lab"


def data_home() -> Path:
    """Where data sets are made and downloaded to."""
    return home() / "data"


def cache_home() -> Path:
    """Where prepared arrays lie; safe to delete."""
    return home() / "cache"


def features_home() -> Path:
    """Where a reader puts networks that images are compared by: by their features (`evaluate.features`), and LPIPS's
    under the name LPIPS_FILE (`evaluate.translation.lpips_score`)."""
    return home() / "features"


def runs_home() -> Path:
    """Where run folders lie."""
    if value := os.environ.get("XMOD_RUNS"):
        return Path(value).expanduser().resolve()
    return home() / "runs"


def data_folder(key: str) -> Path:
    """The folder of data set `key`: below XMOD_DATA if it is there, else below XMOD_HOME/data."""
    if value := os.environ.get("XMOD_DATA"):
        folder = Path(value).expanduser().resolve() / key
        if folder.is_dir():
            return folder
    return data_home() / key

"""What every test stands on: one thread, a home of its own, and shapes that are checked.

Environment variables are set before anything imports torch or matplotlib.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import jaxtyping  # noqa: E402

# Signatures carry shapes (Float[Tensor, "b c h w"]); in the tests, and only there, every call is held to them.
jaxtyping.install_import_hook(["xmod_lab.models", "xmod_lab.losses"], "beartype.beartype")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("here", deadline=None, max_examples=50)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

if os.environ.get("XMOD_DATA"):  # a relative folder means the one seen from where pytest was started
    os.environ["XMOD_DATA"] = str(Path(os.environ["XMOD_DATA"]).expanduser().resolve())

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test writes lands in the checkout: data, cache and runs go to a temporary home of this worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("XMOD_RUNS", raising=False)
        yield


@pytest.fixture
def figure_style() -> Iterator[None]:
    """The package's picture style, and no figure left open."""
    import matplotlib.pyplot as plt

    from xmod_lab.view import figures

    with plt.rc_context():
        figures.use()
        yield
    plt.close("all")

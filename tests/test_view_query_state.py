"""What can be set in the query view, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import views

from xmod_lab.errors import LabError
from xmod_lab.view.query_state import window_of


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"zoom": 2}, "nothing called 'zoom' can be set"),
        ({"map": "other"}, "no map 'other'"),
        ({"slice": 3}, "no slice 3"),
        ({"query": (24, 0)}, "no pixel"),
        ({"query": (3.5, 2)}, "is no pixel"),
        ({"other": (0, -1)}, "no pixel"),
        ({"opacity": 1.5}, "opacity 1.5"),
        ({"scale": "log"}, "no scale 'log'.*shared"),
        ({"map": "waves", "index": 4}, "no map 4 in 'waves'"),
        ({"windows": {"PET": (0, 1)}}, "no image 'PET'"),
        ({"windows": {"MR": "bone"}}, "'MR' has no window 'bone'"),
        ({"windows": {"as CT": "teeth"}}, "no window 'teeth'.*bone"),
        ({"windows": {"MR": (1, 0)}}, "is no window of 'MR'"),
        ({"windows": {"MR": 3}}, "is no window of 'MR'"),
        ({"windows": 3}, "name no image"),
        ({"contours": 2}, "neither True nor False"),
        ({"query": None}, "is no pixel"),
        ({"query": 0}, "is no pixel"),
        ({"other": []}, "is no pixel"),
        ({"slice": 1.5}, "no whole number"),
        ({"map": "waves", "index": 1.5}, "no whole number"),
        ({"windows": {"as CT": [0, [1]]}}, "is no window"),
    ],
)
def test_only_what_exists_can_be_set(values: dict[str, Any], text: str) -> None:
    view = views.view()
    before = view.state
    with pytest.raises(LabError, match=text):
        view.set(**values)
    assert view.state == before


def test_windows_and_contours_reach_the_picture() -> None:
    import matplotlib.pyplot as plt

    view = views.view()
    assert window_of(view, "as CT") == pytest.approx(tuple(np.percentile(100 - 300 * views.image(), (0.5, 99.5))))
    view.set(windows={"as CT": "brain", "MR": (0, 0.5)}, contours=False)
    figure = view.figure()
    pictures = [axis.images[0] for axis in figure.axes if axis.images]
    greys = [picture.get_clim() for picture in pictures if picture.get_cmap().name == "gray"]
    assert greys[0] == (0, 0.5) and (0, 80) in greys
    assert not any(axis.collections for axis in figure.axes[:1]) and not figure.legends
    plt.close(figure)
    assert view.set(windows={}).state.windows == {} and window_of(view, "MR") != (0, 0.5)

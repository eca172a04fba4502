"""All figures under one name: ``from xmod_lab.view import figures``."""

from __future__ import annotations

from xmod_lab.view.adaptation import feature_planes, rival_curves
from xmod_lab.view.attention import draw_overlay, faded, overlays
from xmod_lab.view.beside import beside_shipped
from xmod_lab.view.cycles import cycle_curves, mixture_histograms, noise_curves, paired_curves
from xmod_lab.view.evidence import VERDICTS, cost, critical_differences, forest
from xmod_lab.view.maps import channel_order, map_grid, matrix_grid, systems
from xmod_lab.view.matrices import statistics_scatter
from xmod_lab.view.orthogonal import orthogonal
from xmod_lab.view.pairwise import attention_row, attention_rows, channel_matrices
from xmod_lab.view.planes import centre_of, three_planes
from xmod_lab.view.plots import dice_matrix, grey_shifts, intensity_histograms, loss_curves, patient_boxes
from xmod_lab.view.registration import checkerboard, information_panels, middle_slice, registration_grid
from xmod_lab.view.schematics import two_streams
from xmod_lab.view.slices import (
    batch_panel,
    draw_contours,
    draw_slice,
    example_rows,
    montage,
    predictions,
    recipe_steps,
    slice_dice,
    slice_panels,
)
from xmod_lab.view.solid import surfaces, surfaces_page
from xmod_lab.view.stills import surface_views
from xmod_lab.view.style import colours_of, stamp, use
from xmod_lab.view.translation import Shown, around, cycle_grid, error_grid, slot_grid, translation_grid
from xmod_lab.view.volume_widget import volume_widget
from xmod_lab.view.volumes import Picture, gallery, picture_of, picture_panels

__all__ = [
    "VERDICTS", "Picture", "Shown", "around", "attention_row", "attention_rows", "batch_panel", "beside_shipped",
    "centre_of", "channel_matrices", "channel_order", "checkerboard", "colours_of", "cost", "critical_differences",
    "cycle_curves", "cycle_grid", "dice_matrix", "draw_contours", "draw_overlay", "draw_slice", "error_grid",
    "example_rows", "faded", "feature_planes", "forest", "gallery", "grey_shifts", "information_panels",
    "intensity_histograms", "loss_curves", "map_grid", "matrix_grid", "middle_slice", "mixture_histograms", "montage",
    "noise_curves", "orthogonal", "overlays", "paired_curves", "patient_boxes", "picture_of", "picture_panels",
    "predictions", "recipe_steps", "registration_grid", "rival_curves", "slice_dice", "slice_panels", "slot_grid",
    "stamp", "statistics_scatter", "surface_views", "surfaces", "surfaces_page", "systems", "three_planes",
    "translation_grid", "two_streams", "use", "volume_widget",
]

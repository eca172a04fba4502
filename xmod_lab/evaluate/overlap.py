"""Overlap of two binary masks, from four counts."""

from __future__ import annotations

NAN = float("nan")


def overlap_scores(tp: int, pred: int, truth: int, total: int) -> dict[str, float]:
    """Overlap metrics from voxel counts: in both masks, in the prediction, in the truth, in the volume.

    ============  =======================  ===========================================================
    key           definition               where it has no value
    ============  =======================  ===========================================================
    dice          2 TP / (P + G), 0..1     both empty: 1; exactly one empty: 0
    precision     TP / P, 0..1             P empty, G not: 0; both empty: NaN
    sensitivity   TP / G, 0..1             G empty: NaN
    specificity   TN / (TN + FP), 0..1     G fills the volume: NaN. Saturates with small structures: never
                                           rank by it
    ravd          abs(P - G) / G, percent  G empty: NaN; P empty, G not: 100 (by the formula). Absolute, as in
                                           CHAOS; 0 and above, no upper limit, so a miss does not come last
    ============  =======================  ===========================================================
    """
    negatives = total - truth
    return {
        "dice": 2 * tp / (pred + truth) if pred + truth else 1.0,
        "precision": tp / pred if pred else (0.0 if truth else NAN),
        "sensitivity": tp / truth if truth else NAN,
        "specificity": (negatives - (pred - tp)) / negatives if negatives else NAN,
        "ravd": 100 * abs(pred - truth) / truth if truth else NAN,
    }

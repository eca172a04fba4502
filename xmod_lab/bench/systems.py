"""Names of systems that suites, claims and tables share."""

from __future__ import annotations

MEAN = "mean"
"""as a modality: the mean over targets"""
NOT_ADAPTED = "scorer (none)"
"""the scorer on the image as it is"""
GLIOMA = ("brain_tumour", "subregions")
"""where BiGL's tables and claims of the brain are"""
STACKED = "target_only (all modalities)"
"""the upper bound that sees every modality as a channel of one image; BiGL's only one on the brain"""
STRONG = "source_only (augment=strong)"
ABLATIONS = {
    "bigl": ("output", "feature", "weight 0.02", "weight 0.5", "plain", "no attention", "source only"),
    "adaptsegnet": ("single level", "single level, least squares", "no gradient"),
    "cyclegan_seg": ("target to source",),
}
"""of those that claims and tables know, by method; published tables and claims call them by these names.

Against BiGL's "feature", "no attention" lacks attention alone and keeps the convolutions of its block; "plain" lacks
these as well, so that it says what the whole block does. "source only" is the lower bound of BiGL's own network. All
three are this lab's own: the paper has no such rows"""
ALONE = f"bigl ({ABLATIONS['bigl'][-1]})"
TRANSLATOR_ABLATIONS = ("way back 10", "identity", "small critics", "pool", "shape", "CycleGAN's")
TRANSLATORS = tuple(f"bigl ({name})" for name in TRANSLATOR_ABLATIONS)
"""of what BiGL's translators are set to: this lab's own question as well"""
SHOWN_ABLATIONS = ("reconstructed", "translations alone")
"""of labelled images that are real in the source's look and made in the target's: made in both, or no label of a real
one is learned; this lab's own question too"""
CONTROL = f"adaptsegnet ({ABLATIONS['adaptsegnet'][-1]})"
UNADAPTED = ("source_only", STRONG, CONTROL, ALONE)
"""what learns from labelled images alone: that it fails in the other modality is no failure of training"""
AT_TEST, AT_TRAINING = f"cyclegan_seg ({ABLATIONS['cyclegan_seg'][0]})", "cyclegan_seg"
"""CycleGAN + segmentation: the target's images as source to a segmenter of real source images (BiGL's and SASAN's
"CycleGAN"), and a segmenter that was trained on the source's images as target"""

"""What results look like.

    style.py     one look for all figures, colours of classes, the line that says what a figure was made with
    slices.py    pictures: slices with contours, patients by modalities, prediction beside truth, recipe steps, a batch
    volumes.py   slices of stored volumes, before any preparation
    plots.py      numbers: intensity histograms, cross-modality matrix, box plots over patients, loss curves
    figures.py   all of them under one name

Every function returns a matplotlib Figure and computes nothing that a table would not also hold.
"""

"""xmod_lab: an open laboratory for cross-modality medical imaging.

Importing the package stays light on purpose: every notebook pays for what is imported here.
"""

__version__ = "0.1.0"

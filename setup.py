"""Puts data_manifest.yaml, which lies beside the package for its readers, inside the package in a wheel.

Everything else about the build stands in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "data_manifest.yaml"


class BuildWithManifest(build_py):
    """An editable install reads the checkout's own file (xmod_lab.data.manifest), so only real builds copy it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file(MANIFEST, self._inside())

    def _inside(self) -> str:
        return str(Path(self.build_lib) / "xmod_lab" / MANIFEST)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), self._inside()]


setup(cmdclass={"build_py": BuildWithManifest})

"""Puts the serve configs, which stand at the top of the repository, into the wheel.

All else about the package is in pyproject.toml. A checkout reads the configs where they stand.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = ("serve_config.yaml", "serve_config.cpu.yaml")
SHIPPED_IN = Path("deployments", "config")  # where deployments/config/serve_config.py looks


class BuildWithConfigs(build_py):
    """setuptools' own step, and the configs beside the module that reads them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name, target in zip(CONFIGS, self._targets(), strict=True):
                self.copy_file(name, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, *self._targets()]

    def get_source_files(self) -> list[str]:
        """What a source distribution holds, so that the wheel can be built from it."""
        return [*super().get_source_files(), *CONFIGS]

    def _targets(self) -> list[str]:
        return [str(Path(self.build_lib) / SHIPPED_IN / name) for name in CONFIGS]


setup(cmdclass={"build_py": BuildWithConfigs})

"""What pyproject.toml cannot say: the packages are those found in tfsac/, and the device kit, which lies in export/."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["tfsac*"]), "tfsac._device_kit"])

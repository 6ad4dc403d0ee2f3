"""Three things that pyproject.toml cannot say; everything else is there."""

import os
import shutil
import sys
import warnings

from setuptools import setup

# An editable install warns that a folder in the working directory may hide the package of the same name.
# Here that folder is the package, and the installed finder leads to it.
warnings.filterwarnings("ignore", message="Editable installation")

COMPILES = {"bdist_wheel", "build", "build_ext", "build_rust", "develop", "editable_wheel", "install"}

if COMPILES & set(sys.argv) and not shutil.which(os.environ.get("CARGO", "cargo")):
    sys.exit(
        "forwarder: cargo not found: install Rust 1.85 or later "
        "(https://rustup.rs, or 'apt-get install rustup && rustup default stable')"
    )

# One wheel for every Python from 3.11 on, as the crate's abi3-py311 says.
setup(options={"bdist_wheel": {"py_limited_api": "cp311"}})

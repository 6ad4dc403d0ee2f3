"""How tests of packaging compile the crate: what is optimised is of no interest to them."""

from __future__ import annotations

from pathlib import Path

ENVIRONMENT = {
    # one folder for all of them: dependencies are compiled once
    "CARGO_TARGET_DIR": str(Path(__file__).resolve().parents[1] / "native" / "target" / "packaging"),
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
}
"""Environment variables of cargo."""

"""The parts of `out_forward`."""

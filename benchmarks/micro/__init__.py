"""Pins what the hot functions cost: counted instructions, against the parent commit, in the same run."""

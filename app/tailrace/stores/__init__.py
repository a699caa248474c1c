"""What survives a restart: the snapshot file, and the places where it may lie.

Nothing here knows what a model is. Bytes that come from outside are checked step by step, and every step that
refuses says so by name.
"""

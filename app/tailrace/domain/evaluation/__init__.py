"""How good the served predictions were: metrics, the quality of a loop, and trivial models beside it."""

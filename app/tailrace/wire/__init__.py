"""Bytes ↔ records. No network, no decisions: what a record means is the business of `domain`."""

"""Looks at a loop through its topics and store alone, beside whatever runs: status, books, refolding, records.

Reads in no group and commits nothing, so that it may run while workers do. Writes only where a person asked for it:
topics that are applied, events and labels that are sent by hand. What a command prints, and how, is the CLI's.
"""

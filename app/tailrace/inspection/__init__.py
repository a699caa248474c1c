"""Looks at a loop through its topics and store, beside whatever runs: status, books, refolding, records.

It joins no consumer group, so that it may run while workers do. These write, each where a person asked for it:
    topics          makes and changes topics
    sending         events and labels by hand
    replay          sends dead letters back, and commits how far it is in a group that has no members
    asking          puts requests to a learner
    building        publishes a branch: its file in the store and its entry in the index
    snapshot_moves  brings snapshots into store and index, and throws them away
    erasing         makes the training topic of a stopped loop anew, and throws its snapshots away
    doctor          puts a probe into the store and deletes it
What a command prints, and how, is the CLI's.
"""

"""The bugs that can be planted into a simulation: what goes wrong, and which defence of the product is missing then."""

from __future__ import annotations

from typing import Final, NamedTuple


class Plant(NamedTuple):
    """One bug.

    Attributes:
        bug: What goes wrong.
        defence: Where the product has what is taken away, and what that is.
    """

    bug: str
    defence: str


PLANTS: Final[dict[str, Plant]] = {
    "commit_first": Plant(
        "a scorer commits its positions before what it produced for them is acknowledged",
        "streams/completion.py: only the completed front of a partition may be committed",
    ),
    "no_claim_check": Plant(
        "blocks are accepted whoever owns the partition",
        "domain/ownership.py: a block counts only if its writer owns the part",
    ),
    "block_sent_twice": Plant(
        "a block's number is not checked, so a block that is sent twice counts twice",
        "domain/ownership.py: a block counts only if its number is the next one",
    ),
    "dead_letter_after_block": Plant(
        "dead letters and forwards are sent after the block whose vector passes them",
        "streams/join_writer.py: dead letters and forwards are acknowledged before their block",
    ),
    "expiry_without_marks": Plant(
        "a wait ends without regard to the labels watermarks of other partitions",
        "domain/join/state.py: waits end by the watermarks of all labels partitions",
    ),
    "dropped_not_a_row": Plant(
        "a dropped event leaves no row in the log",
        "domain/join/batch.py: what settles an identity is a row",
    ),
    "lost_correction": Plant(
        "a corrected or withdrawn target leaves no row in the log",
        "domain/join/batch.py: corrections are rows too",
    ),
    "forgotten_correction": Plant(
        "recovery takes no notice of corrections",
        "domain/join/recovery.py: corrections are read again",
    ),
    "older_revision": Plant(
        "a label of an older revision takes effect",
        "domain/join/machine.py: only a higher revision takes effect",
    ),
    "implicit_not_now": Plant(
        "a late first word on an event that still waits for its implicit target is late",
        "domain/join/machine.py: the implicit row is written before its correction",
    ),
    "low_without_watermarks": Plant(
        "the vector's lowest positions come without the watermarks just before them",
        "domain/blocks.py: the vector keeps the watermark just before each lowest position",
    ),
    "label_by_wall_clock": Plant(
        "a label is judged by the clock of the process that reads it",
        "domain/join: decided by times in records alone",
    ),
    "key_order": Plant(
        "features come to the model in the order of one process's hashes",
        "domain/contract.py: features come in one fixed order",
    ),
    "unseeded_generator": Plant(
        "the model holds a generator that nobody seeded",
        "domain/models/rules.py: seeds are required",
    ),
    "claim_without_commit": Plant(
        "a claim is appended without a successful commit just before it",
        "streams/training_log.py: a claim follows a successful commit",
    ),
    "labels_after_refused_idle": Plant(
        "labels are read on after an idle move whose commit was refused",
        "streams/partition_join.py: an idle move is committed before anything is read on",
    ),
    "unverified_snapshots": Plant(
        "no signature of a snapshot is verified",
        "stores/signing.py: nothing is read that no trusted key signed",
    ),
    "unchecked_bodies": Plant(
        "the bytes of a snapshot are not compared with the digests in its manifest",
        "stores/snapshot_file.py: every part is hashed before it is read",
    ),
    "unverified_commands": Plant(
        "no signature of a command is verified",
        "stores/signing.py: nothing is obeyed that no operator signed",
    ),
    "served_below": Plant(
        "a server takes whatever state the index names last",
        "streams/followers.py, domain/snapshots.py: a server never goes below what it served",
    ),
    "early_index_record": Plant(
        "a snapshot is in the index before its file is in the store",
        "streams/snapshot_index.py: the file is complete before its index record",
    ),
    "half_applied_learn": Plant(
        "an example at which the model raised stays half-learned",
        "domain/learning.py, streams/learn_agent.py: a half-changed state is thrown away",
    ),
    "forgotten_skip": Plant(
        "recovery takes no notice of examples that the log says to skip",
        "streams/learner_part.py: the notices of the tail are read before it is folded",
    ),
    "untold_skip": Plant(
        "an admission does not tell at which examples the model raised last",
        "streams/branch_keeper.py: an admission tells every example that was skipped",
    ),
    "retired_for_good": Plant(
        "a branch that was retired cannot be warmed again",
        "domain/learning.py: what is folded beside goes on past its retirement",
    ),
    "corrections_to_come": Plant(
        "a filter may speak of what is not in the log yet",
        "domain/pointers.py, streams/warming.py: a filter counts only what stands in the log",
    ),
    "stale_epoch": Plant(
        "a command takes effect whatever epoch it was made for",
        "domain/pointers.py: a command takes effect in its epoch alone",
    ),
    "dropped_example_learned": Plant(
        "a repaired branch learns what its filter leaves out",
        "domain/notices.py: a filter leaves out what it names",
    ),
    "correction_not_applied": Plant(
        "a branch that counts corrections learns the targets of before",
        "domain/notices.py: targets before a position are the corrected ones",
    ),
    "unsorted_set": Plant(
        "a set in a state is written in the order of its hash table",
        "domain/models/encoding.py: sets are sorted by their encoded elements",
    ),
    "unsorted_branches": Plant(
        "branches are written in the order in which a process came to hold them",
        "domain/learning.py: branches are held in the order of their lineages",
    ),
    "memory_management": Plant(
        "a tree watches how much memory its objects take",
        "domain/models/rules.py: the memory management of trees is out of reach",
    ),
}

CLASSICS: Final = {
    "commit first": "commit_first",
    "no dedupe": "block_sent_twice",
    "no verify": "unverified_snapshots",
    "key order": "key_order",
    "wall clock": "label_by_wall_clock",
    "unseeded generator": "unseeded_generator",
    "memory management on": "memory_management",
    "half-applied learn": "half_applied_learn",
    "lost correction": "lost_correction",
    "early index record": "early_index_record",
    "unsorted set": "unsorted_set",
    "stale epoch": "stale_epoch",
}
"""The twelve that every check of determinism and of recovery has to find, by their usual names."""

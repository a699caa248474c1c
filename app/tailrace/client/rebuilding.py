"""A River model out of a snapshot that somebody sent: verified first, then rebuilt by the codec; nothing is unpickled.

Steps 1 to 11 of the load order (`stores.snapshot_file`), then: the branch that serves is folded by the libraries that
are installed here, else its state would mean something else.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailrace.domain.branches import Branch, BranchState, Codec, differences, part_name
from tailrace.domain.compiling import compiled_kit
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.errors import CodecError, ContractError, ExpressionError, SettingsError, SnapshotRefused
from tailrace.domain.features import FeatureSpec
from tailrace.domain.models.fused import as_river
from tailrace.domain.models.spec import ModelSpec, branch_of
from tailrace.domain.records import Task
from tailrace.domain.snapshots import Kind
from tailrace.domain.state import read_directory
from tailrace.stores import snapshot_file
from tailrace.stores.key_folder import TrustFile, read_public
from tailrace.stores.signing import Purpose, TrustedKey, TrustList
from tailrace.stores.snapshot_file import Expected


def trust_of(files: Iterable[Path]) -> TrustList:
    """Return the keys whose signatures count.

    Args:
        files: `.pub` files, or folders with a `trusted.json`.

    Raises:
        SettingsError: One cannot be read, or there is none.
    """
    keys: list[TrustedKey] = []
    for file in files:
        if not file.is_dir():
            keys.append(TrustedKey(read_public(file), Purpose.SNAPSHOTS))
            continue
        found = TrustFile(file).current()
        if found.problem:
            raise SettingsError([found.problem])
        keys += found.keys
    if not keys:
        allowed = "trusted=[…] with the learner.pub of the machine that signs, or its folder of keys"
        raise SettingsError([f"trusted: found no key; allowed: {allowed}. Unsigned snapshots are never read"])
    return TrustList(tuple(keys))


def rebuild(
    content: bytes,
    loop: str,
    number: int | None,
    lineage: str,
    trust: TrustList,
    at_ms: int,
    functions: Mapping[str, Callable[[], Any]],
    describe: Callable[[], Mapping[str, Any]],
) -> Any:
    """Return the model that serves according to a snapshot.

    Args:
        loop, number: That were asked for; None: whichever is the newest. The signature covers both.
        lineage: Of the loop, as the API told it.
        at_ms: Now: the key must be valid.
        functions: What a `module:function` of a model's text stands for; nothing is imported by name.
        describe: Returns the loop as the API describes it; asked where the model is a compiled one.

    Raises:
        SnapshotRefused: One step refused, the snapshot is another one than was asked for, its state cannot be read, or
            the model is of other libraries or code than are here.
    """
    manifest, bodies = snapshot_file.read(content, Expected(lineage, trust, at_ms, kind=Kind.SNAPSHOT))
    if manifest.loop != loop:
        raise SnapshotRefused("loop", f"found a snapshot of the loop {manifest.loop}; asked for is {loop}")
    if number is not None and manifest.number != number:
        raise SnapshotRefused("number", f"found snapshot {manifest.number} of {loop}; asked for is {number}")
    with _refused_where_unreadable():
        champion, definitions = read_directory(bodies)
    theirs = definitions.get(champion)
    if theirs is None or part_name(champion) not in bodies:
        raise SnapshotRefused("branch", "the snapshot does not hold the branch that serves; take another one")

    def build(name: str) -> Callable[[], Any]:
        if name not in functions:
            step = f"give functions={{{name!r}: …}} with the function that builds it"
            raise ExpressionError(f"the model is {name}, which is not here; {step}", 0)
        return functions[name]

    try:
        spec = ModelSpec.load(theirs.task, theirs.model, build, experimental=theirs.experimental)
    except ExpressionError as cause:
        raise SnapshotRefused("branch", str(cause)) from cause
    mine = branch_of(
        spec,
        contract_id=theirs.contract_id,
        cpu_class=platform.machine(),
        start=theirs.start,
        drop=theirs.filter,
        is_compiled=theirs.is_compiled,
    )
    if mine != theirs:
        differing = "; ".join(differences(theirs, mine))
        raise SnapshotRefused("branch", f"the model cannot be rebuilt here: {differing}. Install the same versions")
    codec = _compiled_codec(theirs, spec, describe()) if theirs.is_compiled else spec.codec()
    with _refused_where_unreadable():
        return as_river(BranchState.load(codec.decode(bodies[part_name(champion)]), champion).model)


@contextmanager
def _refused_where_unreadable() -> Iterator[None]:
    try:
        yield
    except CodecError as cause:
        raise SnapshotRefused("codec", f"the state cannot be read: {cause}") from cause
    except (KeyError, TypeError, ValueError) as cause:
        raise SnapshotRefused("codec", "the state of the branch cannot be read; it is of another version") from cause


def _compiled_codec(branch: Branch, spec: ModelSpec, described: Mapping[str, Any]) -> Codec:
    """Return the codec of a compiled branch, whose columns are those of the contract."""
    try:
        target = TargetContract(
            Task(described["task"]), described["positive"], described["negative"], tuple(described["classes"])
        )
        features = tuple(FeatureSpec(**each | {"values": tuple(each["values"])}) for each in described["features"])
        contract = FeatureContract(features, target.canonical)
    except (ContractError, KeyError, TypeError, ValueError) as cause:
        raise SnapshotRefused("branch", "the contract of the loop cannot be read; it is of another version") from cause
    # The signature covers the id, and the id the contract: what the API said is what the model was taught by.
    kit = None if contract.id != branch.contract_id else compiled_kit(branch, spec, contract, target)
    if kit is None:
        raise SnapshotRefused("branch", "the loop has another contract now than when the snapshot was taken")
    return kit.codec

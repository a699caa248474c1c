"""The structural codec: canonical bytes, and nothing that bytes may do."""

from __future__ import annotations

import collections
import functools
import math
import random
import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift, linear_model, optim, preprocessing, proba, stats, utils
from river.optim import schedulers
from tests.domain.models.parts import Dynamic, Frozen, Numbers, Slotted, Tally

from tailrace.domain.errors import CodecError
from tailrace.domain.models.codec import CODEC_VERSION, Caps, StateCodec
from tailrace.domain.models.codec_format import WORDS, Node, Value, touched_entries
from tailrace.domain.models.symbols import SymbolTable

PLAIN = StateCodec([])


def reborn(codec: StateCodec, state: Any) -> Any:
    """Encode and decode."""
    return codec.decode(codec.encode(state))


def body_of(codec: StateCodec, nodes: list[Any], root: Any = 0, layouts: Any = ()) -> bytes:
    """Bytes that say what the test wants them to say; a number as root refers to that node."""
    root = ref(root) if isinstance(root, int) else root
    packed: bytes = msgpack.packb(
        [CODEC_VERSION, codec.table.fingerprint, list(layouts), root, nodes], use_bin_type=True
    )
    return packed


def ref(number: int) -> msgpack.ExtType:
    """A reference to a node."""
    return msgpack.ExtType(Value.REFERENCE, number.to_bytes(4, "big"))


def symbol(codec: StateCodec, name: str) -> int:
    """The number of a class in the codec's table."""
    return codec.table.names.index(name)


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
KEYS = ATOMS | st.tuples(ATOMS, ATOMS) | st.frozensets(ATOMS, max_size=3)
STATES = st.recursive(
    ATOMS | st.complex_numbers() | KEYS | st.sets(ATOMS, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=3).map(collections.deque)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(STATES)
def test_every_plain_state_reads_back_with_the_same_bytes(state: Any) -> None:
    body = PLAIN.encode(state)

    assert body == PLAIN.encode(PLAIN.decode(body))
    assert repr(type(state)) == repr(type(PLAIN.decode(body)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_are_a_state(tail: bytes) -> None:
    body = PLAIN.encode([1])[:36] + tail

    try:
        state = PLAIN.decode(body)
    except CodecError:
        return

    assert body == PLAIN.encode(state)


def test_equal_values_in_different_objects_have_equal_bytes() -> None:
    text = "".join(["a", "b"])

    assert PLAIN.encode([("ab", 1), ("ab", 1)]) == PLAIN.encode([(text, 1), (text, 1)])


def test_shared_objects_stay_shared_and_equal_ones_stay_apart() -> None:
    shared: list[int] = [1]

    together = reborn(PLAIN, [shared, shared])
    apart = reborn(PLAIN, [[1], [1]])

    assert together[0] is together[1]
    assert apart[0] is not apart[1]


def test_a_circle_of_objects_reads_back() -> None:
    circle: list[Any] = []
    circle.append({"self": (circle,)})

    restored = reborn(PLAIN, circle)

    assert restored is restored[0]["self"][0]


def test_a_long_chain_is_no_danger() -> None:
    chain: list[Any] = []
    for _ in range(20_000):
        chain = [chain]

    assert PLAIN.encode(chain) == PLAIN.encode(reborn(PLAIN, chain))


def test_the_order_of_a_dict_is_part_of_the_state() -> None:
    assert PLAIN.encode({"a": 1, "b": 2}) != PLAIN.encode({"b": 2, "a": 1})
    assert ["b", "a"] == list(reborn(PLAIN, {"b": 2, "a": 1}))


def test_the_order_of_a_set_is_not() -> None:
    assert PLAIN.encode({9, 1}) == PLAIN.encode({1, 9})


def test_every_nan_is_the_same_and_the_two_zeros_differ() -> None:
    other = struct.unpack(">d", b"\xff\xf8\0\0\0\0\0\1")[0]

    assert PLAIN.encode([math.nan]) == PLAIN.encode([other])
    assert PLAIN.encode(np.array([math.nan])) == PLAIN.encode(np.array([other]))
    assert PLAIN.encode(complex(1, math.nan)) == PLAIN.encode(complex(1, other))
    assert PLAIN.encode(0.0) != PLAIN.encode(-0.0)


def test_containers_keep_their_kind() -> None:
    state = {
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("aab"),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "window": collections.deque([1, 2], maxlen=2),
        "partial": functools.partial(int, base=2),
    }

    restored = reborn(PLAIN, state)

    assert [1] == restored["default"]["a"]
    assert [] == restored["default"]["new"]
    assert {"a": 2, "b": 1} == restored["counter"]
    assert ["b", "a"] == list(restored["ordered"])
    assert 2 == restored["window"].maxlen
    assert 5 == restored["partial"]("101")


def test_a_factory_that_refers_back_reads_back() -> None:
    codec = StateCodec([proba.Gaussian()])
    nested: Any = collections.defaultdict(functools.partial(collections.defaultdict, float))
    nested["class"]["feature"] += 1.5

    restored = reborn(codec, nested)

    assert {"feature": 1.5} == restored["class"]
    assert 0.0 == restored["other"]["feature"]


def test_arrays_and_scalars_of_numpy_keep_type_and_shape() -> None:
    state = [np.arange(6, dtype="int32").reshape(2, 3), np.float64(1.5), np.bool_(True), np.array([[1.5], [math.inf]])]

    restored = reborn(PLAIN, state)

    assert [[0, 1, 2], [3, 4, 5]] == restored[0].tolist()
    assert "int32" == restored[0].dtype.name
    assert [np.float64, np.bool_] == [type(restored[1]), type(restored[2])]
    assert (2, 1) == restored[3].shape
    restored[0][0, 0] = 7  # It can be written, as the one before.


def test_generators_go_on_where_they_were() -> None:
    state = [random.Random(1), np.random.RandomState(2), np.random.default_rng(3)]
    state[0].gauss(0, 1)
    state[1].normal()
    state[2].integers(5, dtype="uint32")

    restored = reborn(PLAIN, state)

    assert [state[0].gauss(0, 1), state[0].random()] == [restored[0].gauss(0, 1), restored[0].random()]
    assert state[1].normal() == restored[1].normal()
    assert state[2].random() == restored[2].random()


def test_a_generator_of_another_kind_is_refused() -> None:
    with pytest.raises(CodecError, match=r"SFC64.*default_rng"):
        PLAIN.encode(np.random.Generator(np.random.SFC64(1)))


def test_plain_objects_keep_attributes_slots_and_methods() -> None:
    codec = StateCodec([Tally(), Slotted(1), Frozen("a")])
    tally = Tally()
    tally.add()
    tally.double = 9

    state = reborn(codec, [tally, Slotted(tally), Frozen("b", [1])])
    state[0].step()

    assert 2 == state[0].count
    assert 9 == state[0].half_set
    assert state[1].left is state[0]
    assert not hasattr(state[1], "right")
    assert Frozen("b", [1]) == state[2]


def test_a_bound_method_of_a_compiled_object_reads_back() -> None:
    generator = random.Random(5)
    codec = StateCodec([generator.random, generator])

    restored = reborn(codec, {"rng": generator, "draw": generator.random})

    assert restored["draw"].__self__ is restored["rng"]
    assert generator.random() == restored["draw"]()


def test_compiled_objects_of_river_keep_their_bytes() -> None:
    codec = StateCodec([drift.ADWIN(), stats.Quantile(0.5)])
    detector, quantile = drift.ADWIN(), stats.Quantile(0.5)
    for number in range(300):
        detector.update(number % 5)
        quantile.update(number)

    restored, other = reborn(codec, [detector, quantile])
    for number in range(300):
        detector.update(number)
        restored.update(number)

    assert detector.estimation == restored.estimation
    assert quantile.get() == other.get()


def test_a_vector_keeps_order_numbers_and_factory() -> None:
    vector = utils.VectorDict({"b": np.float64(1.5), "a": 2}, float)
    codec = StateCodec([vector])

    restored = reborn(codec, [vector, vector])

    assert {"b": 1.5, "a": 2.0} == restored[0].to_dict()
    assert 0.0 == restored[1]["new"]
    assert restored[0] is restored[1]


def test_a_masked_vector_is_no_state() -> None:
    vector = utils.VectorDict({"a": 1.0}, None, {"a"})

    with pytest.raises(CodecError, match="masked"):
        StateCodec([utils.VectorDict()]).encode(vector)


def test_generators_of_distributions_are_left_out_and_remade() -> None:
    codec = StateCodec([proba.Gaussian()], [stats.Var, stats.Mean])
    one, two = proba.Gaussian(), proba.Gaussian()
    one.update(3.0)
    two.update(3.0)

    assert codec.encode(one) == codec.encode(two)
    assert isinstance(reborn(codec, one).sample(), float)


def test_entries_that_lookups_left_behind_are_no_state() -> None:
    scalers = [
        preprocessing.MinMaxScaler(),
        preprocessing.StandardScaler(),
        preprocessing.StandardScaler(window_size=3),
    ]
    for scaler in scalers:
        codec = StateCodec([scaler, stats.Min(), stats.Max(), utils.Rolling(stats.Mean, window_size=1)], [stats.Var])
        before = codec.encode(scaler)
        if not isinstance(scaler, preprocessing.MinMaxScaler):
            scaler.transform_one({"looked_up": 1.0})
        else:
            scaler.min["looked_up"].get()

        assert before == codec.encode(scaler)


class LookedUp:
    """A statistic that another thread looks something up beside, just when it is compared."""

    __slots__ = ()
    beside: collections.defaultdict[str, Any]

    def __eq__(self, other: object) -> bool:
        self.beside[f"looked up {len(self.beside)}"]
        return False

    __hash__ = None  # type: ignore[assignment]


def test_lookups_go_on_while_a_state_is_written() -> None:
    """Defence: what is gone through is a copy; scoring with a feature that was never learned ended the learner."""
    LookedUp.beside = collections.defaultdict(LookedUp, {"a": LookedUp()})

    assert ["a"] == list(touched_entries(LookedUp.beside))


def test_a_lookup_of_other_kinds_of_entries_is_state() -> None:
    scaler = preprocessing.MaxAbsScaler()
    codec = StateCodec([scaler], [stats.AbsMax, stats.Max])
    scaler.abs_max = collections.defaultdict(None, {"a": stats.Max()})

    assert "a" in reborn(codec, scaler).abs_max


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda: 1, r"<lambda>.*freshly built"),
        (open, r"io\.open"),
        (Tally(), "Tally"),
        (Numbers([1]), "Numbers"),
        (np.array(["a"]), "str"),
        (np.array([object()]), "object"),
        ({Tally(): 1}, "key of a dict"),
        ({(1, Tally()): 1}, "key of a dict"),
        ({frozenset([Tally()]): 1}, "element of a set"),
        (Tally().add, "bound method"),
        (stats.Quantile(0.5), "Quantile"),
        (stats.Quantile(0.5)._quantile, "RsQuantile"),
        (random, "module"),
    ],
)
def test_what_has_no_place_in_a_state_is_refused_by_name(state: Any, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        PLAIN.encode([state])


def test_a_method_of_something_that_stands_in_place_is_refused() -> None:
    codec = StateCodec(["".join])

    with pytest.raises(CodecError, match="bound method"):
        codec.encode("a".join)


def test_a_subclass_of_a_list_is_refused_even_when_the_model_has_it() -> None:
    with pytest.raises(CodecError, match="Numbers"):
        StateCodec([Numbers]).encode(Numbers([1]))


def test_an_undeclared_attribute_is_refused_with_its_class() -> None:
    codec = StateCodec([Dynamic(a=1)])

    assert 2 == reborn(codec, Dynamic(a=2)).a
    with pytest.raises(CodecError, match=r"Dynamic has the attribute 'b'"):
        codec.encode(Dynamic(b=1))


@pytest.mark.parametrize(
    ("state", "caps", "says"),
    [
        ([1.5] * 100, Caps(state_bytes=200), "larger than 200 bytes"),
        ([[], [], []], Caps(nodes=3), "more than 3 objects"),
        (["é" * 9], Caps(text_bytes=16), "a text of 18 bytes"),
        ([b"a" * 17], Caps(text_bytes=16), "a text of 17 bytes"),
        (np.zeros(3), Caps(array_bytes=16), "an array of 24 bytes"),
        ((((1,),),), Caps(tuple_depth=2), "more than 2 deep"),
        (dict.fromkeys("abc"), Caps(entries=2), "at most 2 are kept"),
        ([0] * 6, Caps(entries=2), "at most 2 are kept"),
        (stats.RollingQuantile(0.5, 9), Caps(entries=8), "RsRollingQuantile of size 9"),
        ([stats.RollingQuantile(0.5, 9) for _ in range(2)], Caps(reserved=17), "17 for all"),
    ],
)
def test_what_exceeds_a_cap_is_not_written(state: Any, caps: Caps, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        StateCodec([stats.RollingQuantile(0.5, 9)], caps=caps).encode(state)


@pytest.mark.parametrize(
    "size",
    [
        10**9,
        2**40,
        msgpack.ExtType(Value.INTEGER, (2**70).to_bytes(9, "big")),
        msgpack.ExtType(Value.SCALAR, msgpack.packb(["<i8", struct.pack("<q", 2**40)])),
    ],
)
def test_a_compiled_object_of_an_absurd_size_is_refused_before_it_is_made(size: Any) -> None:
    """Defence: sizes are counted first; memory that is not there ends the process, past every `except`."""
    codec = StateCodec([stats.RollingQuantile(0.5, 9)])
    (name,) = [name for name in codec.table.names if name.endswith("RsRollingQuantile")]
    forged = [Node.RUST, symbol(codec, name), [0.5, size], b""]

    with pytest.raises(CodecError, match="RsRollingQuantile of size"):
        codec.decode(body_of(codec, [forged]))


def test_whatever_goes_wrong_while_a_state_is_written_is_told_as_such() -> None:
    """Defence: learning goes on without snapshots; only errors of the codec are waited out."""
    scaler = preprocessing.StandardScaler()
    codec = StateCodec([scaler])
    scaler.means = collections.defaultdict(stats.RollingQuantile)  # which cannot be made without arguments

    with pytest.raises(CodecError, match="cannot be written") as told:
        codec.encode(scaler)

    assert "(TypeError)" in str(told.value), "its text may hold values of the state, and this one is logged"


def test_what_is_at_a_cap_is_written_and_read() -> None:
    codec = StateCodec([], caps=Caps(text_bytes=16, nodes=2, tuple_depth=2, array_bytes=64))

    assert ["é" * 8, ((1,),)] == reborn(codec, ["é" * 8, ((1,),)])
    assert [0.0] * 8 == reborn(codec, np.zeros(8)).tolist()


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        (Caps(state_bytes=10), "at most 10"),
        (Caps(nodes=1), "at most 1"),
        (Caps(text_bytes=2), "not an encoded state"),
        (Caps(entries=0), "at most 0 entries"),
    ],
)
def test_what_exceeds_a_cap_is_not_read(caps: Caps, says: str) -> None:
    body = PLAIN.encode(["text", []])

    with pytest.raises(CodecError, match=says):
        StateCodec([], caps=caps).decode(body)


def test_another_version_of_the_format_is_refused() -> None:
    body = PLAIN.encode(1)

    with pytest.raises(CodecError, match="codec version"):
        PLAIN.decode(body[:1] + b"\x63" + body[2:])


def test_another_table_is_refused() -> None:
    with pytest.raises(CodecError, match="another model"):
        StateCodec([Tally()]).decode(PLAIN.encode(1))


FORGED = StateCodec([Tally(), drift.ADWIN(), utils.VectorDict(), Slotted(1)])


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([[99]], "unknown kind"),
        ([[Node.LIST, msgpack.ExtType(99, b"")]], "unknown kind 99"),
        ([[Node.LIST, msgpack.ExtType(Value.SYMBOL, b"\xff\xff")]], "table of"),
        ([[Node.LIST, ref(7)]], "not an encoded state"),
        ([[Node.DICT, ref(0), 1]], "as a key"),
        ([[Node.DICT, [ref(0)], 1]], "as a key"),
        ([[Node.DICT, 1]], "not an encoded state"),
        ([[Node.SET, ref(0)]], "as a key"),
        ([[Node.INSTANCE, 0]], "not an encoded state"),
        ([[Node.ARRAY, "|O", [1], b"12345678"]], "unknown type of numbers"),
        ([[Node.ARRAY, "<f8", [-1], b"12345678"]], "canonical"),
        ([[Node.RANDOM, b"short", None]], "not an encoded state"),
        ([[Node.RANDOM, WORDS.pack(*range(624), 625), None]], "not an encoded state"),
        ([[Node.RANDOM, WORDS.pack(*range(624), 624), "a text"]], "whose next number is none"),
        ([[Node.RANDOM, WORDS.pack(*range(624), 624), math.inf]], "whose next number is none"),
        ([[Node.RANDOM_STATE, bytes(2496), 625, 0, 0.0]], "beside its numbers"),
        ([[Node.RANDOM_STATE, bytes(2496), -1, 0, 0.0]], "beside its numbers"),
        ([[Node.RANDOM_STATE, bytes(2496), 624, 2, 0.0]], "beside its numbers"),
        ([[Node.RANDOM_STATE, bytes(2496), 624, 0, math.nan]], "beside its numbers"),
        ([[Node.RUST, 0, [], b""]], "no compiled class"),
        ([[Node.RUST, symbol(FORGED, "river._river_rust.vectordict.VectorDict"), [], b""]], "no compiled class"),
        ([[Node.RUST, symbol(FORGED, "river._river_rust.drift.AdaptiveWindowing"), [], b"cut"]], "refuses its bytes"),
        ([[Node.RUST, symbol(FORGED, "river._river_rust.drift.AdaptiveWindowing"), [], "text"]], "no compiled class"),
        ([[Node.VECTOR, ref(1)], [Node.VECTOR, None]], "refers to a later one"),
        ([[Node.LIST, msgpack.ExtType(Value.METHOD, b"\0\0\0\0\0\0")]], "no such method"),
        ([[Node.SET, 2, 1]], "canonical"),
        ([[Node.LIST], [Node.LIST]], "canonical"),
    ],
)
def test_forged_nodes_are_refused(nodes: list[Any], says: str) -> None:
    with pytest.raises(CodecError, match=says):
        FORGED.decode(body_of(FORGED, nodes))


def test_frozen_sets_that_lie_deep_in_each_other_are_refused() -> None:
    inner = b"\x90"
    for _ in range(5_000):
        inner = b"\x91" + msgpack.packb(msgpack.ExtType(Value.FROZENSET, inner))

    with pytest.raises(CodecError, match="too deep"):
        FORGED.decode(body_of(FORGED, [], root=msgpack.ExtType(Value.FROZENSET, inner)))


def test_what_lies_as_deep_as_it_may_reads_back() -> None:
    state: frozenset[Any] = frozenset([np.float64(1.5)])
    for _ in range(Caps().tuple_depth - 1):
        state = frozenset([state])

    assert state == reborn(PLAIN, state)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "add", "unheard_of"])
def test_forged_attributes_are_refused(name: str) -> None:
    layouts = [[symbol(FORGED, "tests.domain.models.parts.Tally"), name]]

    with pytest.raises(CodecError, match="no attribute of the name"):
        FORGED.decode(body_of(FORGED, [[Node.INSTANCE, 0, 1]], layouts=layouts))


def test_an_attribute_that_is_remade_is_not_read() -> None:
    """Defence: what is no state has no place in a layout; else bytes would choose what stands there for a while."""
    codec = StateCodec([proba.Gaussian()])
    layouts = [[symbol(codec, "river.proba.gaussian.Gaussian"), "_rng"]]

    with pytest.raises(CodecError, match="no attribute of the name"):
        codec.decode(body_of(codec, [[Node.INSTANCE, 0, 1]], layouts=layouts))


@pytest.mark.parametrize("name", ["builtins.dict", "tests.domain.models.parts.Tally.add"])
def test_a_forged_object_of_what_is_no_plain_class_is_refused(name: str) -> None:
    with pytest.raises(CodecError, match="no class with attributes"):
        FORGED.decode(body_of(FORGED, [[Node.INSTANCE, 0]], layouts=[[symbol(FORGED, name)]]))


def test_a_list_that_is_longer_than_any_may_be_is_refused_before_it_exists() -> None:
    """A few bytes that announce two thousand million items must not make anybody look for the memory."""
    head = FORGED.encode([])[:36]

    with pytest.raises(CodecError, match="not an encoded state"):
        FORGED.decode(head + b"\x90" + msgpack.packb(ref(0)) + b"\xdd\x7f\xff\xff\xff")


# ── what an attribute may hold ──────────────────────────────────────────────────────────────────────────────────────


def make_regression() -> linear_model.LogisticRegression:
    return linear_model.LogisticRegression(optim.Adam(0.01), l2=0.5)


REGRESSION = StateCodec([make_regression(), utils.VectorDict()], [optim.SGD, schedulers.Constant])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("l2", "half", "LogisticRegression.l2 holds a str"),
        ("l2", math.inf, "LogisticRegression.l2 holds inf"),
        ("l2", math.nan, "LogisticRegression.l2 holds nan"),
        ("l2", None, "LogisticRegression.l2 holds a NoneType"),
        ("optimizer", 5, "LogisticRegression.optimizer holds a int"),
        ("optimizer", optim.losses.Log(), "LogisticRegression.optimizer holds a Log"),
        ("optimizer", schedulers.Constant(0.1), "LogisticRegression.optimizer holds a Constant"),
        ("loss", optim.losses.Log, "LogisticRegression.loss holds a ABCMeta"),
        ("_weights", [1.0], "LogisticRegression._weights holds a list"),
    ],
)
def test_an_attribute_holds_nothing_that_none_of_its_class_can(name: str, value: Any, says: str) -> None:
    """Without rules for types such a state is read, and raises when it is asked for the first prediction."""
    lenient = StateCodec([make_regression(), utils.VectorDict()], [optim.SGD, schedulers.Constant])
    lenient.table.attribute_rule = lambda *_: None  # type: ignore[method-assign]
    model = make_regression()
    setattr(model, name, value)
    forged = lenient.encode(model)
    assert name in vars(lenient.decode(forged))

    with pytest.raises(CodecError, match=f"{says}, which no such object can"):
        REGRESSION.decode(forged)
    with pytest.raises(CodecError, match=f"{says}, which no such object should"):
        REGRESSION.encode(model)


def test_an_attribute_may_hold_what_takes_the_place_of_the_fresh_one() -> None:
    model = make_regression()
    model.l2 = np.float64(1)
    model.intercept = math.inf  # A learned number may overflow; a constructor's may not.
    model.optimizer = optim.SGD()

    restored = reborn(REGRESSION, model)

    assert (1.0, math.inf, optim.SGD) == (restored.l2, restored.intercept, type(restored.optimizer))


def test_a_class_that_fresh_models_do_not_hold_is_known_by_its_constructor() -> None:
    codec = StateCodec([utils.VectorDict()], [schedulers.Optimal, stats.Var, stats.Mean])

    assert codec.table.attribute_rule(stats.Var, "mean") is None
    assert not codec.table.attribute_rule(stats.Var, "ddof").allows("one")
    assert codec.table.attribute_rule(Tally, "count") is None


def test_a_stop_of_the_process_is_not_taken_for_damage() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    codec = StateCodec([type("Stopping", (), {"__module__": "river._river_rust.stopping", "__setstate__": stop})])
    number = symbol(codec, "river._river_rust.stopping.Stopping")

    with pytest.raises(KeyboardInterrupt):
        codec.decode(body_of(codec, [[Node.RUST, number, [], b""]]))


def test_two_things_of_one_name_are_refused() -> None:
    one = type("Same", (), {"__module__": "somewhere"})
    two = type("Same", (), {"__module__": "somewhere"})

    with pytest.raises(CodecError, match=r"somewhere\.Same.*rename one"):
        SymbolTable([one, two])


def test_inner_functions_have_no_place_in_a_table() -> None:
    table = SymbolTable([lambda: 1, len, Tally.nothing, random])

    assert "builtins.len" in table.names
    assert "tests.domain.models.parts.Tally.nothing" in table.names
    assert not any("<" in name for name in table.names)
    assert table.number_of(Tally) is None

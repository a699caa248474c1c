"""Text of a model → River object. The text is parsed with `ast` and never evaluated.

An expression may hold constructors of River's public classes (`allowed`), bare or with their module, with positional
and named arguments; numbers, texts, booleans, None, lists, tuples, dicts; `|` and `+` and parentheses; and the types
`str float int bool` inside `SelectType`. Anything else is refused with its position. The second form,
`module:function`, names a function that builds the model; importing it is the caller's business.

Every expression has one canonical text (modules named, arguments by name, in the order of the constructor, our bounds
on tree growth written out), so that two spellings of one model are one spec.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from sys import float_info
from typing import Any, Final

from tailrace.domain.errors import ExpressionError
from tailrace.domain.models import rules
from tailrace.domain.models.allowed import CLASSES, MODULES
from tailrace.domain.models.canonical import Call, Literal, Mapping, Part, Series, Steps, TypeName, text_of

BuildFunction = Callable[[str], Callable[[], object]]
"""`module:function` → that function, imported; raises ImportError or AttributeError when there is none."""

MAX_LENGTH: Final = 10_000
MAX_NODES: Final = 2_000
MAX_DEPTH: Final = 40
_GREATEST: Final = float_info.max
_SHOWN: Final = 40  # characters of a refused part in a message

_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TYPES: Final = {"str": str, "float": float, "int": int, "bool": bool}
_WHAT_IS_ALLOWED: Final = (
    "allowed are River's classes with arguments, numbers, texts, lists, tuples, dicts, '|', '+' and parentheses"
)
_QUALIFIED: Final = {
    f"{module}.{name}": getattr(MODULES[module], name) for module, names in CLASSES.items() for name in names
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model's text that was accepted.

    Attributes:
        text: Canonical text: equal for equal models.
        build: Makes a fresh model, each time a new one.
    """

    text: str
    build: Callable[[], Any]


def is_function(text: str) -> bool:
    """Tell whether `text` is of the form `module:function`."""
    return _FUNCTION.fullmatch(text.strip()) is not None


def load(text: str, build_function: BuildFunction) -> Recipe:
    """Accept one model, of either form, and try it by building it once.

    Raises:
        ExpressionError: The text is no model, or the model breaks a rule. The message says what was found, what is
            allowed and the nearest valid name; `column` says where.
    """
    recipe = _function_recipe(text.strip(), build_function) if is_function(text) else parse(text)
    recipe.build()
    return recipe


def parse(text: str) -> Recipe:
    """Read an expression.

    Raises:
        ExpressionError: See `load`. Constructors have not run yet, so their refusals come from `build`.
    """
    root = _Reader(text).read()

    def build() -> Any:
        return _checked(_made(root))

    return Recipe(text_of(root), build)


def _function_recipe(text: str, build_function: BuildFunction) -> Recipe:
    def build() -> Any:
        try:
            model = build_function(text)()
        except Exception as cause:
            raise ExpressionError(
                f"{text} could not build a model: {type(cause).__name__}: {cause}; "
                f"it must be an importable function without arguments that returns a River model",
                0,
            ) from cause
        return _checked(model)

    return Recipe(text, build)


def _checked(model: Any) -> Any:
    # Of an expression too: a wrapper may bring a tree that the text does not name.
    rules.bound_growth(model)
    broken = rules.broken_rules(model)
    if broken:
        raise ExpressionError("; ".join(broken), 0)
    return model


class _Reader:
    """Turns the text into parts, or refuses it at a column."""

    def __init__(self, text: str) -> None:
        # Line breaks are spaces, so that a long expression may stand on many lines and a column is a position.
        self._text = re.sub(r"[\r\n\t\f]", " ", text)
        self._start = len(self._text) - len(self._text.lstrip())
        self._nodes = 0

    def read(self) -> Part:
        if len(self._text) > MAX_LENGTH:
            raise ExpressionError(
                f"the expression has {len(self._text)} characters; at most {MAX_LENGTH} are read: "
                f"write a function that builds the model and name it as 'module:function'",
                MAX_LENGTH,
            )
        body = self._text.strip()
        try:
            tree = ast.parse(body, mode="eval").body
        except SyntaxError as error:
            column = self._start + max((error.offset or 1) - 1, 0)
            raise ExpressionError(f"not an expression: {error.msg}; {_WHAT_IS_ALLOWED}", column) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"not an expression that can be read; {_WHAT_IS_ALLOWED}", 0) from error
        root = self._part(tree, 0)
        if not isinstance(root, (Call, Steps)):
            raise ExpressionError(f"found {self._shown(tree)}, which is no model; {_WHAT_IS_ALLOWED}", self._start)
        return root

    def _column(self, node: ast.expr) -> int:
        before = self._text.lstrip().encode()[: node.col_offset]
        return self._start + len(before.decode())

    def _part(self, node: ast.expr, depth: int) -> Part:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ExpressionError(
                f"the expression is too large: at most {MAX_NODES} parts, {MAX_DEPTH} deep; "
                f"write a function that builds the model and name it as 'module:function'",
                self._column(node),
            )
        if isinstance(node, ast.Call):
            return self._call(node, depth + 1)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.Add)):
            return self._steps(node, depth)
        if isinstance(node, (ast.List, ast.Tuple)):
            items = tuple(self._part(item, depth + 1) for item in node.elts)
            return Series(items, isinstance(node, ast.List))
        if isinstance(node, ast.Dict):
            return self._mapping(node, depth + 1)
        return self._literal(node)

    def _steps(self, node: ast.BinOp, depth: int) -> Steps:
        sign = "|" if isinstance(node.op, ast.BitOr) else "+"
        left = self._part(node.left, depth + 1)
        right = self._part(node.right, depth + 1)
        for part, side in ((left, node.left), (right, node.right)):
            if not isinstance(part, (Call, Steps)):
                raise ExpressionError(
                    f"'{sign}' joins models and transformers only; {_WHAT_IS_ALLOWED}", self._column(side)
                )
        return Steps(sign, left, right, self._column(node))

    def _mapping(self, node: ast.Dict, depth: int) -> Mapping:
        items: list[tuple[Part, Part]] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise ExpressionError(f"'**' inside a dict; {_WHAT_IS_ALLOWED}", self._column(value))
            items.append((self._literal(key), self._part(value, depth)))
        return Mapping(tuple(items))

    def _literal(self, node: ast.expr) -> Literal:
        value, sign = node, 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value, sign = node.operand, -1 if isinstance(node.op, ast.USub) else 1
        if isinstance(value, ast.Constant):
            found = value.value
            if isinstance(found, (int, float)) and not isinstance(found, bool):
                if not abs(found) <= _GREATEST:
                    message = "a number that is not finite in 64 bits; write a smaller one"
                    raise ExpressionError(message, self._column(node))
                return Literal(found * sign)
            if value is node and (found is None or isinstance(found, (bool, str))):
                return Literal(found)
        raise self._refused(node)

    def _refused(self, node: ast.expr) -> ExpressionError:
        name = _dotted(node)
        if name is None:
            found = f"found {self._shown(node)}; {_WHAT_IS_ALLOWED}"
        elif name in _TYPES:
            found = f"{name} may stand inside SelectType only; {_WHAT_IS_ALLOWED}"
        elif name in _QUALIFIED or _candidates(name):
            found = f"{name} is a class; write {name}() to make one"
        else:
            found = f"the name {name} means nothing here{_nearest(name)}; {_WHAT_IS_ALLOWED}"
        return ExpressionError(found, self._column(node))

    def _shown(self, node: ast.expr) -> str:
        body = self._text.strip().encode()[node.col_offset : node.end_col_offset]
        found = body.decode()
        return found if len(found) <= _SHOWN else found[: _SHOWN - 1] + "…"

    def _call(self, node: ast.Call, depth: int) -> Call:
        name, kind = self._class(node.func)
        column = self._column(node)
        if kind is _QUALIFIED["compose.SelectType"]:
            return self._select_type(node, kind, name, column)
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise ExpressionError(f"'*' in the arguments of {name}; {_WHAT_IS_ALLOWED}", self._column(argument))
        positional = [self._part(argument, depth) for argument in node.args]
        named: dict[str, Part] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ExpressionError(f"'**' in the arguments of {name}; {_WHAT_IS_ALLOWED}", column)
            if keyword.arg in named:
                raise ExpressionError(f"{name} got its argument {keyword.arg} twice; keep one", column)
            named[keyword.arg] = self._part(keyword.value, depth)
        return _bound(name, kind, positional, named, column)

    def _select_type(self, node: ast.Call, kind: type, name: str, column: int) -> Call:
        found: list[Part] = []
        for argument in node.args:
            if not isinstance(argument, ast.Name) or argument.id not in _TYPES:
                raise ExpressionError(
                    f"SelectType takes str, float, int or bool, not {self._shown(argument)}", self._column(argument)
                )
            found.append(TypeName(argument.id, _TYPES[argument.id]))
        if node.keywords or not found:
            raise ExpressionError("SelectType takes str, float, int or bool, and at least one of them", column)
        return Call(name, kind, tuple(found), (), column)

    def _class(self, node: ast.expr) -> tuple[str, type]:
        column = self._column(node)
        name = _dotted(node)
        if name is None:
            raise ExpressionError(f"a call of something that is no name; {_WHAT_IS_ALLOWED}", column)
        candidates = [name] if name in _QUALIFIED else _candidates(name)
        if not candidates:
            raise ExpressionError(
                f"{name} is no class of River that may be used{_nearest(name)}; {_WHAT_IS_ALLOWED}", column
            )
        if len(candidates) > 1:
            raise ExpressionError(f"{name} is the name of several classes; write {' or '.join(candidates)}", column)
        kind = _QUALIFIED[candidates[0]]
        reason = rules.banned(kind)
        if reason is not None:
            raise ExpressionError(reason, column)
        return candidates[0], kind


def _dotted(node: ast.expr) -> str | None:
    """Return `a.b.C` of a name or attribute, without a leading `river.`; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)]).removeprefix("river.")


def _candidates(name: str) -> list[str]:
    return [f"{module}.{name}" for module, names in CLASSES.items() if name in names]


def _nearest(name: str) -> str:
    bare = [each for names in CLASSES.values() for each in names]
    close = difflib.get_close_matches(name, [*_QUALIFIED] if "." in name else bare, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _bound(name: str, kind: type, positional: list[Part], named: dict[str, Part], column: int) -> Call:
    """Return the call with every argument named, in the constructor's order, and our bounds added."""
    parameters = rules.parameters_of(kind)
    given: dict[str, Part] = {}
    rest: list[Part] = []
    places = [each for each in parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters.values())
    if variadic:
        rest = positional
    else:
        if len(positional) > len(places):
            raise ExpressionError(
                f"{name} takes at most {len(places)} arguments by position and got {len(positional)}; name them", column
            )
        given = {place.name: part for place, part in zip(places, positional, strict=False)}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for argument, part in named.items():
        if argument not in parameters and not open_ended:
            close = difflib.get_close_matches(argument, parameters, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ExpressionError(
                f"{name} has no argument {argument}{hint}; it takes {', '.join(parameters) or 'none'}", column
            )
        if argument in given:
            raise ExpressionError(
                f"{name} got its argument {argument} twice, by position and by name; keep one", column
            )
        given[argument] = part
    _require_seed(kind, given, column)
    _bound_growth(name, kind, given, column)
    order = {each: place for place, each in enumerate(parameters)}
    arguments = sorted(given.items(), key=lambda item: order.get(item[0], len(order)))
    return Call(name, kind, tuple(rest), tuple(arguments), column)


def _require_seed(kind: type, given: dict[str, Part], column: int) -> None:
    if rules.takes_seed(kind) and given.get("seed", Literal(None)) == Literal(None):
        raise ExpressionError(rules.missing_seed(kind), column)


def _bound_growth(name: str, kind: type, given: dict[str, Part], column: int) -> None:
    if not rules.has_memory_management(kind):
        return
    for argument in ("memory_estimate_period", "max_size", "stop_mem_management"):
        if argument in given and given[argument] != Literal(rules.NEVER_PERIOD):
            raise ExpressionError(
                f"{name} got {argument}: memory management of trees goes by the size of Python objects, which differs "
                f"after a restore, so it is switched off; leave it out and bound the tree with max_depth (default "
                f"{rules.DEFAULT_MAX_DEPTH}, at most {rules.GREATEST_MAX_DEPTH})",
                column,
            )
    depth = given.get("max_depth", Literal(None))
    if depth == Literal(None):
        depth = Literal(rules.DEFAULT_MAX_DEPTH)
    if (
        not isinstance(depth, Literal)
        or type(depth.value) is not int
        or not 1 <= depth.value <= rules.GREATEST_MAX_DEPTH
    ):
        raise ExpressionError(f"max_depth of {name} is a whole number from 1 to {rules.GREATEST_MAX_DEPTH}", column)
    given["max_depth"] = depth
    given["memory_estimate_period"] = Literal(rules.NEVER_PERIOD)


def _made(part: Part) -> Any:
    """Make the object of a part. Recursion is bounded by MAX_DEPTH."""
    if isinstance(part, Literal):
        return part.value
    if isinstance(part, TypeName):
        return part.kind
    if isinstance(part, Series):
        items = [_made(item) for item in part.items]
        return items if part.is_list else tuple(items)
    if isinstance(part, Mapping):
        return {_made(key): _made(value) for key, value in part.items}
    if isinstance(part, Call):
        return _constructed(part)
    left, right = _made(part.left), _made(part.right)
    try:
        return left | right if part.sign == "|" else left + right
    except (TypeError, ValueError, AttributeError) as cause:
        raise ExpressionError(
            f"River cannot join {type(left).__name__} {part.sign} {type(right).__name__}: {cause}; "
            f"join transformers with '+', and chain them into a model with '|'",
            part.column,
        ) from cause


def _constructed(call: Call) -> Any:
    positional = [_made(part) for part in call.positional]
    named = {argument: _made(part) for argument, part in call.named}
    try:
        made = call.kind(*positional, **named)
    except Exception as cause:
        raise ExpressionError(
            f"{call.name} refuses its arguments: {type(cause).__name__}: {cause}; "
            f"see River's documentation of {call.name}",
            call.column,
        ) from cause
    for argument, value in named.items():
        if isinstance(value, str) and getattr(made, argument, value) != value:
            raise ExpressionError(
                f"{call.name} does not know {argument}={value!r} and would use {getattr(made, argument)!r} instead; "
                f"write one of the values in River's documentation of {call.name}",
                call.column,
            )
    return made

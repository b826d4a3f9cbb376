"""Choices as text: `name(argument, key=value)|name(...)`.

A spec names a loss, an augmentation, a backbone or the like, with the arguments
of its constructor: `focal(gamma=2)`, `pad_crop_flip(4)|cutout(16)`. Arguments
are literals (numbers, texts in quotation marks, True, False, None; lists,
tuples and dictionaries of these) or other specs, as in
`rotation(weight=linear(1.0))`. Nothing in a spec is evaluated.

`package.module:Name(alpha=2)` stands for a class or function of yours wherever
a name can stand. The module is imported, from the current folder too, so such a
spec runs code as `python -m package.module` does. Without parentheses
`package.module:name` is the object of this name itself, unless it is a class,
which is always called.

What a constructor needs to know of the data and the run, such as
`class_counts`, is filled in by whoever builds the spec: `CONTEXT` lists it.
"""

import ast
import collections.abc
import dataclasses
import difflib
import importlib
import inspect
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_lt.messages import brief, one_line

# Arguments that are filled in, wherever a signature has them. Arguments without
# a name in a spec pass them over: `mixup(0.4)` is `mixup(num_classes, 0.4)`.
CONTEXT = {
    "class_counts": "training images per class",
    "num_classes": "the number of classes",
    "input_shape": "the shape of an image, (height, width, channels)",
    "image_shape": "the same as input_shape",
    "mean": "the mean of each channel of the training images",
    "variance": "the variance of each channel of the training images",
    "l2": "the factor of the weights' squared norm in the loss",
    "batch_normalization": "the class of batch normalization layers",
    "seed": "the seed of the run",
    "soft_labels": "whether labels are (batch, classes), as mixing makes them",
    "read": "a function of indices and seeds that reads images",
    "steps_per_epoch": "steps per epoch",
    "total_steps": "steps of the whole training",
}
_MAX_CHARACTERS = 4_000
_MAX_DEPTH = 10
_WORD = r"[^\W\d]\w*"
_USERS = re.compile(rf"{_WORD}(\.{_WORD})*:{_WORD}")
# Texts in quotation marks come first: nothing in them is syntax.
_TOKEN = re.compile(
    r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*"|[][(){}#\n]|"""
    rf"(?<![\w.]){_USERS.pattern}"
)
_LITERALS = (
    "a number, a text in quotation marks, True, False, None, a list, a tuple "
    "or a dictionary of these, or another spec"
)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A name and its arguments, as `parse` reads them.

    Attributes:
        name: A name in a registry, or `package.module:Name`.
        arguments: Arguments without a name.
        keywords: Arguments by name.
        called: Whether it has parentheses, or is a name in a registry, which
            has no need of them.

    Example:
        >>> spec = keras_lt.specs.Spec("focal", keywords={"gamma": 2})
        >>> str(spec), spec.is_imported
        ('focal(gamma=2)', False)
    """

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    called: bool = True

    def __str__(self) -> str:
        arguments = [_text(value) for value in self.arguments]
        arguments += [f"{k}={_text(v)}" for k, v in self.keywords.items()]
        if arguments or (self.called and self.is_imported):
            return f"{self.name}({','.join(arguments)})"
        return self.name

    @property
    def is_imported(self) -> bool:
        """Whether it names something outside of the registries."""
        return ":" in self.name


class Chain(tuple[Spec, ...]):
    """Specs that follow one another, as `parse_chain` reads them.

    Example:
        >>> spec = keras_lt.specs.Spec("cutout", (16,))
        >>> str(keras_lt.specs.Chain([spec, spec]))
        'cutout(16)|cutout(16)'
    """

    def __str__(self) -> str:
        return "|".join(map(str, self))


def _text(value: Any) -> str:
    """A value of a spec as a spec shows it."""
    if isinstance(value, Mapping):
        items = (f"{_text(k)}:{_text(v)}" for k, v in value.items())
        return f"{{{','.join(items)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, tuple):
        comma = "," if len(value) == 1 else ""
        return f"({','.join(map(_text, value))}{comma})"
    return str(value) if isinstance(value, Spec) else repr(value)


def parse(text: str) -> Spec:
    """Reads a spec; nothing in it is evaluated.

    Args:
        text: `name`, `name(argument, key=value)` or the same with
            `package.module:Name` for the name.

    Returns:
        The spec. `str` of it is the same spec in one form, for records.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is no spec, with the place that is wrong.

    Example:
        >>> spec = keras_lt.specs.parse("warmup_step(0.1, [16, 18], [.1, 0])")
        >>> spec.arguments
        (0.1, [16, 18], [0.1, 0])
        >>> str(spec)
        'warmup_step(0.1,[16,18],[0.1,0])'
    """
    chain = parse_chain(text)
    if len(chain) > 1:
        raise ValueError(
            "Expected one spec, such as name(argument, key=value). "
            f"Received: {brief(text)}, which has {len(chain)}"
        )
    return chain[0]


def parse_chain(text: str) -> Chain:
    """Reads one spec or several with `|` in between, as `parse` does.

    Args:
        text: Such as `name(argument)|name`.

    Returns:
        The specs. `str` of them is the same chain in one form.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is no spec, with the place that is wrong.

    Example:
        >>> chain = keras_lt.specs.parse_chain("pad_crop_flip(4) | cutout(16)")
        >>> [spec.name for spec in chain], str(chain)
        (['pad_crop_flip', 'cutout'], 'pad_crop_flip(4)|cutout(16)')
    """
    if not isinstance(text, str):
        raise TypeError(
            "Expected a text such as name(argument, key=value). "
            f"Received: {brief(text)}"
        )
    return _Reader(text.strip()).chain()


class _Reader:
    """Makes specs of the syntax tree of a text."""

    def __init__(self, text: str):
        self.text = text
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(
                f"Expected a spec of at most {_MAX_CHARACTERS:,} characters. "
                f"Received: {brief(text)}"
            )

    def error(self, expected: str, start: int) -> ValueError:
        """An error about what stands at a character, counted from 0."""
        here = self.text[start : start + 40]
        what = repr(here) if here else "its end"
        return ValueError(
            f"Expected {expected}. Received: {brief(self.text)}, with {what} "
            f"at character {start + 1}"
        )

    def chain(self) -> Chain:
        source = self._python()
        if not source:
            raise self.error("a spec such as name(argument, key=value)", 0)
        try:
            node = ast.parse(source, mode="eval").body
        except SyntaxError as error:
            start = min((error.offset or len(source) + 1) - 1, len(source))
            raise self.error(
                f"a spec such as name(argument, key=value) ({error.msg})", start
            ) from error
        except (ValueError, MemoryError, RecursionError) as error:
            raise ValueError(
                "Expected a spec such as name(argument, key=value). Received: "
                f"{brief(self.text)} ({one_line(error) or 'too much of it'})"
            ) from error
        nodes = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            nodes.append(node.right)
            node = node.left
        return Chain(map(self.spec, reversed([*nodes, node])))

    def _python(self) -> str:
        """The text as Python reads it: `package.module:Name` with a point."""
        depth = 0

        def replaced(match: re.Match) -> str:
            nonlocal depth
            token = match[0]
            if token in "([{":
                depth += 1
                if depth > _MAX_DEPTH:
                    raise self.error(
                        f"at most {_MAX_DEPTH} nested brackets",
                        match.start(),
                    )
            elif token in ")]}":
                depth -= 1
            elif token in "#\n":
                raise self.error("one line without a comment", match.start())
            elif token[0] not in "'\"":
                return token.replace(":", ".")
            return token

        return _TOKEN.sub(replaced, self.text)

    def _start(self, node: ast.AST) -> int:
        return self._character(node.col_offset)

    def _character(self, offset: int) -> int:
        """Python counts bytes."""
        return len(self.text.encode()[:offset].decode(errors="ignore"))

    def spec(self, node: ast.expr) -> Spec:
        call = node if isinstance(node, ast.Call) else None
        name = self._name(call.func if call else node)
        if call is None:
            return Spec(name, called=":" not in name)
        keywords = {}
        for each in call.keywords:
            if each.arg is None or each.arg in keywords:
                raise self.error(
                    "each argument once, as key=value", self._start(each)
                )
            keywords[each.arg] = self.value(each.value)
        return Spec(name, tuple(map(self.value, call.args)), keywords)

    def _name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        start = self._start(node)
        name = self.text[start : self._character(node.end_col_offset)]
        # An attribute is one by its colon alone.
        if (
            not isinstance(node, ast.Attribute)
            or not _USERS.fullmatch(name)
            or name.rpartition(":")[2].startswith("__")
        ):
            raise self.error("a name, or package.module:Name", start)
        return name

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
            return self.spec(node)
        if isinstance(node, (ast.List, ast.Tuple)):
            make = list if isinstance(node, ast.List) else tuple
            return make(map(self.value, node.elts))
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [*map(self._constant, node.keys)]
            if len({*keys}) < len(keys):
                raise self.error("each key once", self._start(node))
            values = map(self.value, node.values)
            return dict(zip(keys, values, strict=True))
        return self._constant(node)

    def _constant(self, node: ast.expr) -> Any:
        sign, number = 1, node
        if isinstance(node, ast.UnaryOp) and isinstance(
            node.op, (ast.USub, ast.UAdd)
        ):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            number = node.operand
        value = getattr(number, "value", ...)
        if isinstance(number, ast.Constant):
            if _is_number(value):
                return sign * value
            if number is node and isinstance(value, (str, bool, type(None))):
                return value
        raise self.error(_LITERALS, self._start(node))


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return value < 2**63
    return type(value) is float and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class Registry:
    """The names of one kind of thing, and what makes each of them.

    Attributes:
        kind: What they are, for errors, such as "loss".
        table: A class or function for each name.
        makes: The type of what they make.
        nested: What makes something of a spec in an argument, by the name of
            the argument: a function of the spec and the context.

    Example:
        >>> heads = keras_lt.specs.Registry(
        ...     "head",
        ...     {"linear": keras_lt.models.linear_head},
        ...     makes=keras.Layer,
        ... )
        >>> heads.get("linear(l2=1e-4)", num_classes=10).units
        10
    """

    kind: str
    table: Mapping[str, Callable]
    makes: type | tuple[type, ...] = collections.abc.Callable
    nested: Mapping[str, Callable] = dataclasses.field(default_factory=dict)

    def get(
        self,
        identifier: Any,
        *,
        given: Mapping[str, Any] | None = None,
        **context: Any,
    ) -> Any:
        """Makes what a spec says, or returns what is made already.

        Args:
            identifier: A text, a `Spec`, or an object of this kind.
            given: Arguments to add to those of the spec. The constructor must
                have them, and the spec must not give them too.
            **context: What can be filled in, by the names of `CONTEXT`. None
                is as if it were not given; what the spec gives goes first.

        Raises:
            TypeError: If an argument, or what is made, is of another type.
            ValueError: If there is no such name or argument, or one is missing.
        """
        if isinstance(identifier, str):
            identifier = parse(identifier)
        if isinstance(identifier, Spec):
            made = self._make(identifier, given or {}, _checked(context))
        else:
            made = identifier
        if not isinstance(made, self.makes):
            received = brief(made)
            if isinstance(identifier, Spec):
                received = f"{_short(identifier)}, which gives {received}"
            raise TypeError(
                f"Expected {self._one()}: one of {', '.join(self.table)}, "
                "package.module:Name(argument, key=value), or such an object. "
                f"Received: {received}"
            )
        return made

    def _one(self) -> str:
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    def _make(self, spec: Spec, given: Mapping, context: Mapping) -> Any:
        make = _found(spec, self)
        # A function is what is wanted, or makes it.
        is_wanted = isinstance(make, self.makes) or not callable(make)
        if not spec.called and not inspect.isclass(make) and is_wanted:
            if given:
                raise ValueError(
                    f"Expected {spec.name}(), which can be given "
                    f"{' and '.join(given)}. Received: {_short(spec)}"
                )
            return make
        arguments = self._bound(spec, make, given, context)
        try:
            return _call(make, arguments)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            message = one_line(error)
            twice = re.search(r"multiple values for .*'(\w+)'", message)
            if twice and twice[1] in arguments:  # a parent's argument
                message = (
                    f"Expected no argument {twice[1]}, which the {self.kind} "
                    "sets itself."
                )
            raise kind(f"{message} (in {_short(spec)})") from error

    def _bound(
        self, spec: Spec, make: Callable, given: Mapping, context: Mapping
    ) -> dict[str, Any]:
        parameters, others = _parameters(make)
        known = [name for name in parameters if name not in given]
        what = f"the {self.kind} {spec.name}"
        takes = f"{what} takes {', '.join(known) or 'no arguments'}"
        unnamed = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is not parameter.KEYWORD_ONLY
            and name not in CONTEXT
        ]
        if len(spec.arguments) > len(unnamed):
            raise ValueError(
                f"Expected at most {len(unnamed)} arguments without a name: "
                f"{takes}. Received: {_short(spec)}"
            )
        pairs = [*zip(unnamed, spec.arguments, strict=False)]
        pairs += spec.keywords.items()
        for name in [*given, *(name for name, _ in pairs)]:
            if name not in parameters and not others:
                raise ValueError(
                    f"Expected no argument {name}: {takes}. Received: "
                    f"{_short(spec)}{_hint(name, known)}"
                )
        values = dict(given)
        for name, value in pairs:
            if name in values:
                where = "beside it" if name in given else "in it"
                raise ValueError(
                    f"Expected the argument {name} once. Received: "
                    f"{_short(spec)}, with another {name} {where}"
                )
            values[name] = self._value(name, value, parameters, spec, context)
        for name, parameter in parameters.items():
            if name in values:
                continue
            if name in CONTEXT and name in context:
                values[name] = context[name]
            elif parameter.default is parameter.empty:
                meaning = f" ({CONTEXT[name]})" if name in CONTEXT else ""
                raise ValueError(
                    f"Expected the argument {name}{meaning}: {takes}. "
                    f"Received: {_short(spec)} without it"
                )
        return values

    def _value(
        self,
        name: str,
        value: Any,
        parameters: Mapping[str, inspect.Parameter],
        spec: Spec,
        context: Mapping,
    ) -> Any:
        """An argument, with the specs in it made into what they say."""
        if isinstance(value, (list, tuple)):
            return type(value)(
                self._value(name, each, {}, spec, context) for each in value
            )
        if isinstance(value, Mapping):
            return {
                key: self._value(name, each, {}, spec, context)
                for key, each in value.items()
            }
        if isinstance(value, Spec):
            if name in self.nested:
                return self.nested[name](value, **context)
            if value.is_imported:
                return _OBJECTS._make(value, {}, context)
            raise ValueError(
                f"Expected {name} to be a number, a text in quotation marks, "
                "True, False, None, a list, a tuple or a dictionary. Received: "
                f"{name}={value} in {_short(spec)}"
            )
        default = getattr(parameters.get(name), "default", None)
        expected = None
        if isinstance(default, bool):
            if not isinstance(value, bool | None):
                expected = "True or False"
        elif isinstance(default, int | float) and isinstance(value, str | bool):
            expected = "a number"
        if expected is not None:
            raise TypeError(
                f"Expected {name} to be {expected}. Received: "
                f"{name}={value!r} in {_short(spec)}"
            )
        return value


# What a user's spec in an argument makes can be anything.
_OBJECTS = Registry("object", {}, makes=object)


def _short(spec: Spec) -> str:
    return brief(str(spec))


def _checked(context: Mapping[str, Any]) -> dict[str, Any]:
    for name in context:
        if name not in CONTEXT:
            raise TypeError(
                f"Expected what is filled in to be of {', '.join(CONTEXT)}. "
                f"Received: {name}{_hint(name, CONTEXT)}"
            )
    context = {k: v for k, v in context.items() if v is not None}
    for one, other in (
        ("input_shape", "image_shape"),
        ("image_shape", "input_shape"),
    ):
        if one in context:
            context.setdefault(other, context[one])
    return context


def _hint(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """The nearest name, as the end of an error."""
    lower = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.lower(), lower, 1)
    return f". Did you mean {lower[close[0]]}?" if close else ""


def _found(spec: Spec, registry: Registry) -> Any:
    """What a name stands for."""
    if spec.is_imported:
        return _imported(spec)
    if spec.name not in registry.table:
        raise ValueError(
            f"Expected {registry._one()}: one of {', '.join(registry.table)}, "
            "or package.module:Name. Received: "
            f"{_short(spec)}{_hint(spec.name, registry.table)}"
        )
    return registry.table[spec.name]


def _imported(spec: Spec) -> Any:
    """The object of a user's module, of the current folder or installed."""
    path, _, name = spec.name.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        # In the end: a file there is not to replace a module of others.
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # it runs the user's code
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = ""
        if not last.filename.startswith("<"):  # of Python's own import
            where = f", {Path(last.filename).name}, line {last.lineno}"
        raise ValueError(
            f"Expected the module {path} in {folder} or installed. Received: "
            f"{_short(spec)} ({type(error).__name__}: {one_line(error)}{where})"
        ) from error
    if name not in vars(module):
        names = [each for each in vars(module) if not each.startswith("_")]
        raise ValueError(
            f"Expected a name of the module {path} "
            f"({getattr(module, '__file__', None)}). Received: "
            f"{_short(spec)}{_hint(name, names)}"
        )
    found = vars(module)[name]
    if spec.called and not callable(found):
        raise ValueError(
            f"Expected a class or function, or {spec.name} without "
            f"parentheses. Received: {_short(spec)}, where {name} is "
            f"{brief(found)}"
        )
    return found


def _parameters(make: Callable) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters of a class or function, and whether it takes others.

    Where a constructor passes on `**kwargs`, those of its parents are among
    them, but for those that it has to give itself.
    """
    steps = [make]
    if inspect.isclass(make):
        steps = [
            vars(parent)["__init__"]
            for parent in make.__mro__[:-1]
            if "__init__" in vars(parent)
        ] or [make]
    found, others, unnamed = {}, False, True
    for number, step in enumerate(steps):
        try:
            parameters = [*inspect.signature(step).parameters.values()]
        except ValueError:  # of some functions in C they are not known
            return found, True
        if step is not make:
            parameters = parameters[1:]  # without self
        for each in parameters:
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                continue
            if not unnamed:
                each = each.replace(kind=each.KEYWORD_ONLY)
            optional = each.default is not each.empty
            if number == 0 or optional or each.name in CONTEXT:
                found.setdefault(each.name, each)
        kinds = {each.kind for each in parameters}
        unnamed = unnamed and inspect.Parameter.VAR_POSITIONAL in kinds
        others = inspect.Parameter.VAR_KEYWORD in kinds
        if not others:
            return found, False
    # Keras' own base classes refuse what is left.
    keras_own = getattr(step, "__module__", "").partition(".")[0] == "keras"
    return found, not keras_own


def _call(make: Callable, arguments: Mapping[str, Any]) -> Any:
    """Calls with arguments by name, but for those that can't have one."""
    arguments, unnamed = dict(arguments), []
    for name, parameter in _parameters(make)[0].items():
        if parameter.kind is parameter.POSITIONAL_ONLY and name in arguments:
            unnamed.append(arguments.pop(name))
    return make(*unnamed, **arguments)

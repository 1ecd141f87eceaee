"""Strict reading and exact writing of TOML into frozen structs.

Theory of operation.  ``tomllib`` gives plain dicts and lists.  :class:`Reader`
walks them next to the annotations of msgspec Structs: a table belongs to a
Struct, an array to a ``tuple[X, ...]``, a free table to a ``dict[str, X]``, and
every scalar goes through :func:`msgspec.convert`, which owns types and ranges.
msgspec alone would stop at the first error and name no TOML key, so the walk
collects a :class:`Problem` with the full dotted key for everything that is wrong
and goes on; what could not be read is :data:`INVALID`, so that later rules can
still look at the rest.

The meaning of a scalar stands in its annotation: ``Meta(description=...)`` is
what an error says it expected, ``Meta(extra={"path": True})`` makes a relative
path absolute, seen from the folder of the file.

:func:`render` writes the same structs back; reading its text gives an equal
struct.  A value that looks like a secret is never shown in a problem.
"""

import difflib
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

INVALID: Any = object()
"""Stands for a value that could not be read; its problem is on the list."""

_SECRET = re.compile(r"pass|secret|token|pw|credential|auth", re.IGNORECASE)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS = 60


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong in a file: dotted key, what is wrong, remedy, value as text or None."""

    key: str
    what: str
    remedy: str
    value: str | None = None

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {self.value}"
        return f"{self.key}{value}: {self.what}; remedy: {self.remedy}"


def shown(key: str, value: object) -> str:
    """Return ``value`` as a problem may show it: short, on one line, never a secret."""
    if _SECRET.search(key):
        return "(not shown)"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        # str() of an integer with thousands of digits is an error in Python.
        return str(value) if abs(value) < 10**_SHOWN_CHARACTERS else "a huge number"
    text = _text(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def join(key: str, name: str) -> str:
    """Return the dotted key of ``name`` inside the table ``key`` ("" is the file)."""
    part = name if _BARE_KEY.fullmatch(name) else _text(name)
    return f"{key}.{part}" if key else part


class Reader:
    """Reads one document; ``problems`` grows, nothing is raised."""

    def __init__(self, base: Path) -> None:
        self.problems: list[Problem] = []
        self._base = base

    def fields(self, struct: type[msgspec.Struct], table: Mapping[str, Any], key: str) -> dict:
        """Read ``table`` field by field: {field name: value, default or INVALID}."""
        known = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in table:
                values[field.name] = self.read(field.type, table[name], join(key, name))
            elif field.required:
                values[field.name] = INVALID
                what, remedy = "is missing", f"add it: {_expected(field.type)}"
                self.problems.append(Problem(join(key, name), what, remedy))
            else:
                values[field.name] = (
                    field.default
                    if field.default is not msgspec.NODEFAULT
                    else field.default_factory()
                )
        for name in table:
            if name not in known:
                self._unknown(join(key, name), name, table[name], list(known))
        return values

    def read(self, kind: Any, value: object, key: str) -> Any:
        """Read one value of the annotated type ``kind``; INVALID where that fails.

        Elements of an array that fail stay in their place as INVALID.
        """
        kind = _without_none(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, value, key)
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                return self._refuse(kind, value, key)
            item = get_args(kind)[0]
            return tuple(self.read(item, one, f"{key}[{n}]") for n, one in enumerate(value))
        if get_origin(kind) is dict:
            if not isinstance(value, dict):
                return self._refuse(kind, value, key)
            item = get_args(kind)[1]
            return {name: self.read(item, one, join(key, name)) for name, one in value.items()}
        try:
            read = msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            return self._refuse(kind, value, key)
        if any((meta.extra or {}).get("path") for meta in _metas(kind)):
            return os.path.normpath(self._base / read)
        return read

    def _struct(self, struct: type[msgspec.Struct], value: object, key: str) -> Any:
        if not isinstance(value, dict):
            return self._refuse(struct, value, key)
        before = len(self.problems)
        values = self.fields(struct, value, key)
        complete = not any(is_invalid(one) for one in values.values())
        # A secret that stands in the file has said enough about its table.
        forbidden = any(_SECRET.search(problem.key) for problem in self.problems[before:])
        return struct(**values) if complete and not forbidden else INVALID

    def _refuse(self, kind: Any, value: object, key: str) -> Any:
        remedy = f"write {_expected(kind)}"
        text = shown(key, value)
        if isinstance(value, str) and isinstance(kind, type):
            # Text in place of a whole table may be anything, an account's password too.
            text = "a string"
        self.problems.append(Problem(key, "is not valid here", remedy, text))
        return INVALID

    def _unknown(self, key: str, name: str, value: object, known: list[str]) -> None:
        if _SECRET.search(name):
            what = "a secret never stands in this file"
            remedy = (
                'delete the line, change that password, and write password_env = "NAME" or'
                ' password_file = "path"'
            )
        else:
            near = difflib.get_close_matches(name, known, n=1)
            what = "is not a known key"
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        # Next to the source of a secret, a key of any name may hold one.
        text = shown(" ".join([key, *known]), value)
        self.problems.append(Problem(key, what, remedy, text))


def is_invalid(value: object) -> bool:
    """Tell whether ``value`` is INVALID or holds something that is."""
    if isinstance(value, tuple):
        return any(is_invalid(one) for one in value)
    if isinstance(value, dict):
        return any(is_invalid(one) for one in value.values())
    return value is INVALID


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (one for one in get_args(kind) if one is not types.NoneType)
    return kind


def _metas(kind: Any) -> list[msgspec.Meta]:
    if get_origin(kind) is not Annotated:
        return []
    return [one for one in get_args(kind)[1:] if isinstance(one, msgspec.Meta)]


def _expected(kind: Any) -> str:
    kind = _without_none(kind)
    for meta in _metas(kind):
        if meta.description:
            return meta.description
    if get_origin(kind) is Literal:
        return " or ".join(_text(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return f"an array, each entry {_expected(item)}"
    if get_origin(kind) is dict:
        return f"a table, each value {_expected(get_args(kind)[1])}"
    keys = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    return f"a table with {', '.join(keys)}" if keys else "a table"


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """Return dicts, lists and scalars under their TOML names, values at their default left out."""
    table = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if value is not None and value != default:
            table[field.encode_name] = _plain_value(value)
    return table


def _plain_value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain_value(one) for one in value]
    return value


def render(struct: msgspec.Struct) -> str:
    """Write ``struct`` as TOML: scalars, then ``[tables]``, then ``[[arrays of tables]]``.

    What lies deeper is written inline, one line a key.
    """
    scalars, tables, arrays = [], [], []
    for name, value in plain(struct).items():
        if isinstance(value, dict):
            tables += ["", f"[{_key(name)}]", *_lines(value)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                arrays += ["", f"[[{_key(name)}]]", *_lines(entry)]
        else:
            scalars += _lines({name: value})
    return "\n".join(scalars + tables + arrays) + "\n"


def _lines(table: dict[str, Any]) -> list[str]:
    return [f"{_key(name)} = {_inline(value)}" for name, value in table.items()]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_lines(value)) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else repr(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    """Return a TOML basic string: control characters, quotes and backslashes escaped."""
    escaped = re.sub(
        r'[\x00-\x1f\x7f"\\]',
        lambda found: f"\\u{ord(found[0]):04x}" if found[0] not in '"\\' else "\\" + found[0],
        value,
    )
    return f'"{escaped}"'

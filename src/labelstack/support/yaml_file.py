"""YAML as DVC reads it (version 1.2, through ruamel.yaml), with limits: params.yaml, dvc.yaml and dvc.lock.

What comes out holds mappings with texts as keys, lists, texts, numbers, booleans and nulls, and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from labelstack.support.credentials import without_credentials
from labelstack.support.errors import UserError

MAX_BYTES = 2_000_000
MAX_VALUES = 200_000
# An escape beyond Unicode, a version of thousands of digits.
_TOO_LARGE = re.compile(r"\\U(?!000[0-9a-fA-F]|0010)[0-9a-fA-F]{8}|^%YAML", re.MULTILINE)
MAX_DEPTH = 30
_INT64 = 2**63
_MAX_DIGITS = 100
_CORE = "tag:yaml.org,2002:"
_TAGS = {f"{_CORE}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value")}
# DVC reads 010 as 10, readers of YAML 1.1 read 8, and which of the two was meant nobody knows.
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file, see ``parse_yaml``; None when it is empty.

    Raises
    ------
    FileNotFoundError
        When there is none: callers know what to do then.
    UserError
        One sentence with line and column.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES:,} bytes, which no file of this kind needs")
    try:
        return parse_yaml(data.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


def parse_yaml(text: str, source: str) -> Any:
    """The one document of a YAML text, or None.

    It equals what DVC reads, or is refused: a key twice, a key that is no text, other tags than those of JSON's types,
    dates, numbers with a leading zero or of more than 64 bits, an alias inside its own anchor, and more than
    ``MAX_DEPTH`` levels or ``MAX_VALUES`` values once aliases are written out.

    Parameters
    ----------
    source : str
        What messages call it.

    Raises
    ------
    UserError
        One sentence with line and column.
    """
    loader = YAML(typ="safe", pure=True)
    loader.Composer, loader.Constructor = _Composer, _Constructor
    try:
        return loader.load(text)
    except _RefusedError as error:
        raise UserError(f"{source}: {_place(error.problem_mark)}{error.problem}") from None
    except ReaderError as error:
        place = _at(text, error.position)
        raise UserError(f"{source}: {place}not valid YAML (the character #x{error.character:04x})") from None
    except MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        raise UserError(f"{source}: {place}not valid YAML ({error.problem or error.context})") from None
    except YAMLError as error:
        raise UserError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
    except (ValueError, OverflowError):  # numbers that are values have their own limit
        found = _TOO_LARGE.search(text)
        place = _at(text, found.start()) if found else ""
        raise UserError(f"{source}: {place}not valid YAML (the number here is too large)") from None


class _RefusedError(MarkedYAMLError):
    """Something that YAML allows and this reader does not; the problem is the whole sentence."""


def _refuse(mark: Any, sentence: str) -> NoReturn:
    raise _RefusedError(None, None, sentence, mark)


def _at(text: str, position: int) -> str:
    before = text[:position]
    return f"line {before.count(chr(10)) + 1}, column {position - before.rfind(chr(10))}: "


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _shown(text: str) -> str:
    text = without_credentials(text)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


class _Composer(Composer):
    """Composes nodes within the limits; measures each with its aliases written out."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self._measures: dict[Node, tuple[int, int]] = {}  # values, levels

    def compose_document(self) -> Any:
        event = self.parser.peek_event()
        if event.version not in (None, (1, 2)):
            _refuse(
                event.start_mark, f"YAML {'.'.join(map(str, event.version))}: expected version 1.2, as DVC reads it"
            )
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        if self.depth >= MAX_DEPTH:
            _refuse(event.start_mark, f"more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        if isinstance(event, AliasEvent):
            if node not in self._measures:
                _refuse(event.start_mark, f"the alias *{event.anchor} stands inside its own anchor")
            if self.depth + self._measures[node][1] > MAX_DEPTH:
                _refuse(event.start_mark, f"more than {MAX_DEPTH} levels deep, aliases written out")
            return node
        children = () if isinstance(node, ScalarNode) else node.value
        if isinstance(node, MappingNode):
            children = [each for pair in node.value for each in pair]
        sizes, levels = zip(*(self._measures[child] for child in children), strict=True) if children else ((), ())
        size, level = 1 + sum(sizes), 1 + max(levels, default=0)
        if size > MAX_VALUES:
            _refuse(event.start_mark, f"more than {MAX_VALUES:,} values, aliases written out")
        self._measures[node] = size, level
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if node.tag == f"{_CORE}timestamp":
            _refuse(node.start_mark, f"{_shown(node.value)} is a date in YAML: put it in quotes to make it a text")
        if _SURROGATE.search(node.value):
            _refuse(node.start_mark, "half a character (an escape \\ud800 … \\udfff), which no file can hold")
        _check_tag(node)
        return node

    def compose_sequence_node(self, anchor: Any) -> Any:
        _check_tag(node := super().compose_sequence_node(anchor))
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        _check_tag(node := super().compose_mapping_node(anchor))
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                _refuse(key.start_mark, "a key must be a text, not a list or mapping")
            if key.tag not in {f"{_CORE}str", f"{_CORE}merge"}:
                _refuse(key.start_mark, f"a key must be a text: put {key.value or '(nothing)'} in quotes")
            if key.value in first:
                _refuse(key.start_mark, f"the key {_shown(key.value)} stands twice (first in line {first[key.value]})")
            first[key.value] = key.start_mark.line + 1
        return node


def _check_tag(node: Node) -> None:
    if node.tag not in _TAGS:
        shown = str(node.tag).replace(_CORE, "!!")
        _refuse(node.start_mark, f"the tag {_shown(shown)}: expected plain texts, numbers, lists and mappings")


class _Constructor(SafeConstructor):
    """Makes values, and a sentence of whatever goes wrong with one."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except YAMLError:
            raise
        except Exception:  # the library's own conversions raise what int, float and dict raise
            kind = str(node.tag).replace(_CORE, "")
            value = _shown(node.value) if isinstance(node, ScalarNode) else "this"
            _refuse(node.start_mark, f"{value} cannot be read as {kind}: put it in quotes if it is a text")

    def construct_yaml_int(self, node: Any) -> int:
        text = str(self.construct_scalar(node))
        value = super().construct_yaml_int(node) if len(text) <= _MAX_DIGITS else _INT64
        if not -_INT64 <= value < _INT64:
            _refuse(node.start_mark, f"{_shown(text)}: a whole number has at most 64 bits")
        if _LEADING_ZERO.fullmatch(text) and abs(value) > 7:
            sign, digits = "-" * (value < 0), str(abs(value))
            octal = f" or {sign}0o{digits}" if not set(digits) & {"8", "9"} else ""
            _refuse(node.start_mark, f"{text}: a leading zero is read in two ways; write {value}{octal}")
        return value


# Constructors are looked up in tables by tag, not by name.
_Constructor.add_constructor(f"{_CORE}int", _Constructor.construct_yaml_int)

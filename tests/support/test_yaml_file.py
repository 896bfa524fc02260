import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml as read_as_dvc
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labelstack.support.errors import UserError
from labelstack.support.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml, read_yaml

ROOT = Path(__file__).parents[2]
REFUSED = re.compile(r"here: line [1-9]\d*, column [1-9]\d*: [^\n]+")


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "here")
    assert REFUSED.fullmatch(str(caught.value))
    return str(caught.value).removeprefix("here: ")


def same(one: Any, other: Any) -> bool:
    """Equal in value and type; not a number is equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def agrees(text: str) -> None:
    """Ours is DVC's, or is refused with a line; what DVC cannot read is refused."""
    ours, refused = None, ""
    try:
        ours = parse_yaml(text, "here")
    except UserError as error:
        refused = str(error)
    if refused:
        assert REFUSED.fullmatch(refused)
    else:
        assert same(ours or {}, read_as_dvc(text, "here"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1_000", 1000),
        ("0o10", 8),
        ("0x1F", 31),
        ("00", 0),
        ("07", 7),
        ("1e3", 1000.0),
        ("1e-3", 0.001),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("True", True),
        ("~", None),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("!!str 8", "8"),
        ("!!float 1", 1.0),
        ("'2024-01-01'", "2024-01-01"),
        ("-.inf", -math.inf),
        (".NaN", math.nan),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_value_is_what_dvc_reads(text, value):
    assert same(parse_yaml(f"a: {text}", "here"), {"a": value})
    assert same(read_as_dvc(f"a: {text}", "here"), {"a": value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' stands twice (first in line 1)"),
        ("a: 1\nb: {c: 1, 'c': 2}", "line 2, column 11: the key 'c' stands twice (first in line 2)"),
        ("a: 1\n<<: {b: 1}\n<<: {c: 1}", "line 3, column 1: the key '<<' stands twice (first in line 2)"),
        ("a: 010", "line 1, column 4: 010: a leading zero is read in two ways; write 10 or 0o10"),
        ("a: -08", "line 1, column 4: -08: a leading zero is read in two ways; write -8"),
        ("a: 0_10", "line 1, column 4: 0_10: a leading zero is read in two ways; write 10 or 0o10"),
        ("a: 2024-01-01", "line 1, column 4: '2024-01-01' is a date in YAML: put it in quotes to make it a text"),
        ("a: 2024-13-45", "line 1, column 4: '2024-13-45' is a date in YAML: put it in quotes to make it a text"),
        ("1: 2", "line 1, column 1: a key must be a text: put 1 in quotes"),
        ("a: {true: 2}", "line 1, column 5: a key must be a text: put true in quotes"),
        ("? [a]\n: 1", "line 1, column 3: a key must be a text, not a list or mapping"),
        (": 1", "line 1, column 1: a key must be a text: put (nothing) in quotes"),
        ("a: !!python/object/apply:os.getcwd []", "line 1, column 4: the tag '!!python/object/apply:os.getcwd'"),
        ("!!python/name:os.system x", "line 1, column 1: the tag '!!python/name:os.system'"),
        ("a: !!set {b, c}", "line 1, column 4: the tag '!!set'"),
        ("a: !!omap [b: 1, b: 2]", "line 1, column 4: the tag '!!omap'"),
        ("a: !mine 1", "line 1, column 4: the tag '!mine'"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML"),
        ("a:\t1", "line 1, column 3: not valid YAML"),
        ("a:\n\t- 1", "line 2, column 1: not valid YAML"),
        ("a: [1, 2}", "line 1, column 9: not valid YAML"),
        ("a: *b", "line 1, column 4: not valid YAML"),
        ("%YAML 1.1\n---\na: yes", "line 2, column 1: YAML 1.1: expected version 1.2"),
        ("a: b\nc: \x07", "line 2, column 4: not valid YAML (the character #x0007)"),
        ('a: "\\ud800"', "line 1, column 4: half a character"),
        ('a: "\\UFFFFFFFF"', "line 1, column 5: not valid YAML (the number here is too large)"),
        ('a: "\\U00110000"', "line 1, column 5: not valid YAML (the number here is too large)"),
        ("%YAML " + "9" * 5000 + "\n---\na", "line 1, column 1: not valid YAML (the number here is too large)"),
        ("%YAML 1." + "9" * 5000 + "\n---\na", "line 1, column 1: not valid YAML (the number here is too large)"),
        ("a: " + "9" * 5000, "line 1, column 4: '" + "9" * 40 + "…': a whole number has at most 64 bits"),
        ("a: 9223372036854775808", "line 1, column 4: '9223372036854775808': a whole number has at most 64 bits"),
        ("a: 0b_", "line 1, column 4: '0b_' cannot be read as int"),
        ("a: ._", "line 1, column 4: '._' cannot be read as float"),
        ("a: !!bool maybe", "line 1, column 4: 'maybe' cannot be read as bool"),
        ("&a [*a]", "line 1, column 5: the alias *a stands inside its own anchor"),
        ("a: &a {b: {c: *a}}", "line 1, column 15: the alias *a stands inside its own anchor"),
        ("[" * 5000, f"line 1, column {MAX_DEPTH + 1}: more than {MAX_DEPTH} levels deep"),
        ("- " * 5000, f"line 1, column {2 * MAX_DEPTH + 1}: more than {MAX_DEPTH} levels deep"),
    ],
)
def test_what_is_not_read_is_refused_with_its_place(text, said):
    assert refusal(text).startswith(said)


@pytest.mark.parametrize(
    "text", ["a: !!int http://me:pass-word@host", "? http://me:pass-word@host\n? http://me:pass-word@host"]
)
def test_no_password_is_shown(text):
    assert "pass-word" not in refusal(text)


def powers(first: str, following: str) -> str:
    """Ten anchors, each of which takes the one before ten times."""
    lines = [f"a0: &a0 {first}"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} {following.format(','.join([f'*a{i - 1}'] * 10))}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [powers("[1,1,1,1,1,1,1,1,1,1]", "[{}]"), powers("{x: 1}", "{{<<: [{}]}}")], ids=["lists", "merges"]
)
def test_aliases_are_counted_as_written_out(text):
    assert len(text) < 600
    assert refusal(text) == refusal(text)
    assert refusal(text).endswith(f"more than {MAX_VALUES:,} values, aliases written out")


def test_aliases_are_as_deep_as_written_out():
    deep = "\n".join([f"a0: &a0 {'[' * 20}{']' * 20}", f"a1: &a1 {'[' * 10}*a0{']' * 10}"])
    assert refusal(deep) == f"line 2, column 19: more than {MAX_DEPTH} levels deep, aliases written out"


def test_anchors_and_merge_keys_work_as_in_dvc():
    text = "a: &a {x: 1, y: [1]}\nb:\n  <<: *a\n  x: 2\nc: {<<: [{x: 3}, *a], z: 4}\nd: [*a, 5]\n"
    assert parse_yaml(text, "here") == {
        "a": {"x": 1, "y": [1]},
        "b": {"x": 2, "y": [1]},
        "c": {"x": 3, "y": [1], "z": 4},
        "d": [{"x": 1, "y": [1]}, 5],
    }
    agrees(text)


@pytest.mark.parametrize(
    "file", ["params.yaml", "dvc.yaml", "dvc.lock", *(f"recipes/{file.name}" for file in (ROOT / "recipes").iterdir())]
)
def test_the_projects_own_files_are_read_as_by_dvc(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert same(read_yaml(ROOT / file), read_as_dvc(text, file))


def test_what_cannot_be_read_at_all_is_named(tmp_path):
    file = tmp_path / "a.yaml"
    with pytest.raises(FileNotFoundError):
        read_yaml(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
    file.write_bytes("a: größer".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.yaml: not UTF-8 text \(byte 5\)"):
        read_yaml(file)
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="larger than 2,000,000 bytes"):
        read_yaml(file)
    file.write_text("")
    assert read_yaml(file) is None


NUMBERLIKE = st.text("0123456789_+-.eExXoObBinfNaTZ: ", min_size=1, max_size=9)
WORDS = st.sampled_from(
    [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "true",
        "True",
        "TRUE",
        "false",
        "null",
        "Null",
        "~",
        "<<",
        "=",
        ".inf",
        ".nan",
    ]
)
TAGS = st.sampled_from(["", "", "", "!!int ", "!!str ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "! ", "!x "])


@settings(max_examples=600, deadline=None)
@given(TAGS, NUMBERLIKE | WORDS | st.text(max_size=6))
@example("", "0b_")
@example("!!int ", "")
@example("", "2024-13-45")
@example("", "+_")
@example("!!timestamp ", "a")
def test_scalars_are_read_as_by_dvc_or_refused(tag, scalar):
    agrees(f"a: {tag}{scalar}")
    agrees(f"[{tag}{scalar}, b]")


@settings(max_examples=600, deadline=None)
@given(st.text("ab1:- \n[]{},&*<'\"|>#?!%\t", max_size=30))
@example("a: &a\n  <<: *a")
@example("&a a: 1\n*a : 2")
@example("? a\n? b")
@example("%TAG ! tag:yaml.org,2002:\n---\n!int 010")
def test_documents_are_read_as_by_dvc_or_refused(text):
    agrees(text)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cf", "Cn", "Zl", "Zp"]), max_size=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_json_is_yaml(content):
    text = json.dumps(content, ensure_ascii=False)
    assert same(parse_yaml(text, "here"), content)
    agrees(text)

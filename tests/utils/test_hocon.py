"""HOCON text to plain values: what pyhocon reads wrongly or lets pass, and the way back."""

import pytest
from pyparsing import ParserElement

from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import MAX_BYTES, merge, parse, read_file, write


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, "a.conf")
    return str(caught.value)


def test_values_are_plain():
    text = """
    # comment
    train { seed = 3, rate = 1e-4, name = a/b // comment
      "quoted": "x # y ${z} {" }
    plot.resolution = 1e3
    flags = [True, false, null
             -2.5]
    """
    assert parse(text, "a.conf").tree == {
        "train": {"seed": 3, "rate": 1e-4, "name": "a/b", "quoted": "x # y ${z} {"},
        "plot": {"resolution": 1000.0},
        "flags": [True, False, None, -2.5],
    }


def test_whole_file_in_braces_as_json():
    assert parse('{"train": {"seed": 3}, "x": [{"y": 1}]}', "a").tree == {
        "train": {"seed": 3},
        "x": [{"y": 1}],
    }


@pytest.mark.parametrize("text", ["3d", "10 m", "1s", "5 days"])
def test_lengths_of_time_stay_text(text):
    assert parse(f"a = {text}\nb = [{text}]", "a.conf").tree == {"a": text, "b": [text]}


def test_lines_of_keys():
    text = (
        'a {\n  b = 1 # {\n  c =\n    2\n}\nd.e = [{\n  f = 1 }, {\n  f = 2\n}]\ng = """x\n}"""\nh\n{ i = 1 }'
    )
    assert parse(text, "a.conf").lines == {
        "a": 1, "a.b": 2, "a.c": 3, "d": 6, "d.e": 6, "d.e[0].f": 7, "d.e[1].f": 8, "g": 10,
        "h": 12, "h.i": 13,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\n\na = 1", "line 3: a is already set on line 1"),
        ("a {\n b = 1 }\na { c = 1\n b = 2 }", "line 4: a.b is already set on line 2"),
        ("a.b = 1\na { b = 2 }", "line 2: a.b is already set on line 1"),
        ("a = 1\na.b = 2", "line 2: a is already set on line 1"),
        ("a { b = 1 }\na = 2", "line 2: a is already set on line 1"),
        ("x = [{\n a = 1\n a = 2 }]", "line 3: x[0].a is already set on line 2"),
        ('a = 1\n"a" = 2', "line 2: a is already set on line 1"),
    ],
)
def test_repeated_key_names_both_lines(text, message):
    assert refusal(text) == f"a.conf: {message}; keep one of the two"


def test_sections_may_come_in_parts():
    assert parse("a { b = 1 }\na { c = 2 }\na.d = 3", "a.conf").tree == {"a": {"b": 1, "c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {\n b = 1\n", "line 1: this { is never closed"),
        ("a = [1,\n 2", "line 1: this [ is never closed"),
        ("a = 1\n}", "line 2: } does not match: nothing is open"),
        ("a = [\n1 }", "line 2: } does not match: the [ of line 1 is open"),
        ("a {\n seed 5\n\n b = 1 }", "line 2: 'seed 5' has no value; expected key = value, or a section { }"),
        (
            "a = 1\nb = 2 c = 3",
            "line 2: not HOCON near '= 3'; expected key = value, a section { } or a comment",
        ),
        ("seed", "line 1: not HOCON near 'seed'; expected key = value, a section { } or a comment"),
    ],
)
def test_syntax_errors_name_file_and_line(text, message):
    assert refusal(text) == f"a.conf: {message}"


def test_mixed_list_and_text_is_one_line():
    message = refusal("a = [1] 2")
    assert message.startswith("a.conf: not HOCON: ")
    assert "\n" not in message


def test_root_list():
    assert refusal("[1, 2]") == "a.conf: a list; expected keys and sections"


def test_deep_nesting():
    deep = "a.conf: line 1: brackets are nested more than 20 deep; close some"
    assert refusal("a = " + "[" * 5000 + "]" * 5000) == deep
    assert refusal("a {" * 5000 + "}" * 5000) == deep
    assert parse("a = " + "[" * 15 + "]" * 15, "a.conf").tree


@pytest.mark.parametrize(
    "directive", ['include "b.conf"', 'a = 1\nx { include file("b.conf") }', 'y = include required("b.conf")']
)
def test_include_is_refused_before_it_is_followed(directive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.conf").write_text("= broken {")
    assert "include is not supported; write everything into one file" in refusal(directive)


def test_include_as_a_word_is_no_directive():
    assert parse("include = 1\na = include", "a.conf").tree == {"include": 1, "a": "include"}


@pytest.mark.parametrize("value", ["${HOME}", "${?HOME}", "x ${b.c}", "[1, ${HOME}]"])
def test_substitutions_are_refused(value):
    assert refusal(f"b.c = 1\na = {value}") == (
        "a.conf: line 2: substitutions ${...} are not supported; write the value itself"
    )


def test_append_is_refused():
    assert refusal("a += [3]") == "a.conf: line 1: += is not supported; write the whole value with ="


def test_failed_parse_leaves_pyparsing_as_it_was():
    before = ParserElement.DEFAULT_WHITE_CHARS
    refusal("a = 1 b = 2")
    assert before == ParserElement.DEFAULT_WHITE_CHARS


def test_write_is_read_back_equal():
    tree = {
        "train": {"name": 'q"uo\\te # ${x} {é}\nλ', "rate": 1e-05, "none": None, "yes": True, "3d": "3d"},
        "list": [{"Type": "Step", "Initial": 0.005}, [], [1, 2.5]],
        "empty": {},
        "a.b c": "1e-4",
    }
    assert parse(write(tree).replace('"a.b c"', "abc"), "a.conf").tree == {
        **{key: tree[key] for key in ("train", "list", "empty")},
        "abc": "1e-4",
    }


def test_merge_joins_sections_and_replaces_the_rest():
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    assert merge(below, {"a": {"c": [3]}, "d": {"g": 2}, "e": 5}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"g": 2},
        "e": 5,
    }
    assert below == {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}


def test_files_that_are_no_configuration(tmp_path):
    latin, large = tmp_path / "latin.conf", tmp_path / "large.conf"
    latin.write_bytes(b"a = \xe9")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    for path, message in [
        (tmp_path / "none.conf", "no such configuration file; check the path"),
        (tmp_path, "is a folder; give a configuration file, such as setup.conf"),
        (latin / "below", "cannot be read (Not a directory); check its permissions"),
        (latin, "not UTF-8 text (byte 4); save it as UTF-8"),
        (large, f"{MAX_BYTES + 1} bytes is too large for a configuration (at most {MAX_BYTES})"),
    ]:
        with pytest.raises(UserError) as caught:
            read_file(path)
        assert str(caught.value) == f"{path}: {message}"


def test_byte_order_mark_and_crlf(tmp_path):
    path = tmp_path / "windows.conf"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = x\r\n")
    assert parse(read_file(path), "a.conf").tree == {"a": 1, "b": "x"}

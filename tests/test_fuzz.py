"""Input of every kind, damaged: a result or one line. fuzz.py does it, and says how to see a finding again."""

import json
import string
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import override
from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import parse, write

INPUTS, SEED = 1000, 20260101
FIXED = settings(max_examples=60, deadline=None, derandomize=True)


def test_a_thousand_damaged_inputs():
    findings = fuzz.hunt(SEED, INPUTS)
    assert not findings.failures, "\n".join(findings.failures)
    assert sum(findings.outcomes.values()) == INPUTS
    for kind in fuzz.ATTEMPTS:  # damage is neither always fatal nor always harmless
        assert findings.outcomes[f"{kind} refused"] > 50, findings.outcomes
        assert findings.outcomes[f"{kind} result"] > 0, findings.outcomes


BROKEN = """
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import fuzz
from phase_recon.utils.errors import UserError

def refuse(text):
    raise UserError(text)

breaches = [
    lambda: time.sleep(60),
    lambda: bytearray(600 << 20),
    lambda: os.abort(),
    lambda: 1 / 0,
    lambda: subprocess.run(["true"]),
    lambda: open({elsewhere!r}, "w").close(),
    lambda: refuse("nameless"),
    lambda: refuse("a.xyz: two\\nlines"),
]
fuzz.SECONDS = 1
fuzz.corpus = lambda: [fuzz.Subject("cloud", "a.xyz", b"")]
fuzz.damaged = lambda subjects, seed, number: fuzz.Subject("cloud", "a.xyz", str(number).encode())
fuzz.ATTEMPTS = {{"cloud": lambda path: breaches[int(path.read_bytes())]() if path.read_bytes() else None}}
fuzz.child(0, int(sys.argv[-2]), int(sys.argv[-1]))
"""


def test_the_fuzzer_finds_what_it_looks_for(tmp_path):
    """Each way to break the promise is told with the number to replay, and the hunt goes on behind it."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN.format(tests=str(Path(fuzz.__file__).parent), elsewhere=str(tmp_path / "mark")))
    findings = fuzz.hunt(0, 8, str(script))
    expected = [
        "Timeout (0:00:01)", "MemoryError", "ended with -6", "ZeroDivisionError", "subprocess.Popen", "mark' to write",
        "does not name the file",  # the last input's text is mended to one line, and sound
    ]  # fmt: skip
    assert len(findings.failures) == len(expected), findings.failures
    for number, (failure, text) in enumerate(zip(findings.failures, expected, strict=True)):
        assert failure.startswith(f"--seed 0 --replay {number} (cloud a.xyz): ")
        assert text in failure
    assert findings.outcomes == {"cloud refused": 1}


numbers = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(), st.booleans(), st.none(), st.text(string.printable, max_size=9)
)
lists = st.lists(numbers | st.lists(numbers, max_size=2), max_size=3)
values = numbers | lists | st.dictionaries(st.text("ab.\" #", max_size=4), numbers | lists, max_size=3)
KEYS = [
    f"{section}.{key}"
    for section, keys in Config().to_dict().items()
    for key in keys
] + [f"network.inputs.{key}" for key in ("dims", "skip_in", "beta", "k", "radius_init")] + [
    f"network.loss.{key}" for key in ("type", "lambda", "mu", "epsilon", "epsilon_start")
]  # fmt: skip


@FIXED
@given(st.sampled_from(KEYS), values)
def test_any_value_of_any_key_is_taken_or_named(key, value):
    from phase_recon.reconstruction.build_model import check_model

    try:
        text = f"{key} = {json.dumps(value)}"
    except ValueError:
        return
    try:
        config = override(Config().to_dict(), [text], check_model)
    except UserError as error:
        lines = str(error).split("\n")
        assert all(line.isprintable() for line in lines)
    else:
        assert override(config.to_dict(), []) == config


@FIXED
@given(st.text(max_size=60))
def test_any_set_string_is_taken_or_refused(text):
    try:
        config = override(Config().to_dict(), [text])
    except UserError as error:
        told = str(error)
        assert told.startswith(("--set ", "checkpoint: "))
    else:
        assert isinstance(config, Config)


scalars = (
    st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
    # pyhocon drops empty texts in lists
    | st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=12)
)  # fmt: skip
plain = scalars | st.lists(scalars | st.lists(scalars, max_size=3), max_size=3)


@FIXED
@given(st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), plain, min_size=1, max_size=4))
def test_what_is_written_is_read_back_equal(tree):
    assert parse(write(tree), "a.conf").tree == tree


@FIXED
@given(st.lists(st.tuples(*[st.floats(-1e99, 1e99, allow_subnormal=False)] * 3), min_size=10, max_size=14, unique=True))
def test_numbers_in_text_are_read_to_the_last_digit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("text") / "a.xyz"
    path.write_text("\n".join(" ".join(map(repr, row)) for row in rows))
    try:
        cloud = load_point_cloud(path)
    except UserError as error:
        told = str(error)
        assert any(text in told for text in ("equal", "straight line", "one plane")), told
    else:
        np.testing.assert_array_equal(cloud.points, rows)

"""A loop over threads."""

import pytest

from phase_recon.utils.threads import in_threads


def test_what_threads_give_keeps_the_order_of_its_parts():
    assert in_threads(lambda part: part**2, range(20)) == [part**2 for part in range(20)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda part: 1 / part, [1, 0])

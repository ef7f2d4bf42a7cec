"""When a failure of a run counts, and what is done about the first."""

import pytest
from test_health import Values, ball, field, on_ball

from phase_recon.reconstruction.health import Failure
from phase_recon.reconstruction.recovery import Course, Mending

LOST, THROUGH, WELL = (lambda x: 1 + 0 * x[..., 0]), (lambda x: x[..., 0] - 0.01), ball(1.0)


@pytest.mark.parametrize("progress", [0.0, 0.24, 0.25, 0.9, 1.0])
def test_what_is_a_failure_when(progress):
    course = Course(Mending(0), allowed=True)

    def examine(values: Values) -> bool:
        return course.examine(field(values), on_ball(1.0, 3), 0.0, 70, progress)

    assert examine(WELL)
    if progress < 0.25:
        assert not examine(LOST)
    else:
        with pytest.raises(Failure, match=r"no surface is left: .*, at step 70: .*raise network\.loss\.lambda"):
            examine(LOST)
    if progress < 1:
        assert not examine(THROUGH)  # may draw back
    else:
        with pytest.raises(Failure, match=r"leaves Ω at .*, at step 70: enlarge Ω"):
            examine(THROUGH)
        course.allowed = False
        assert not examine(THROUGH)  # the result, such as it is
        course.allowed, course.open_allowed = True, True
        assert not examine(THROUGH)  # a result that was asked for


@pytest.mark.parametrize(("seconds", "worth"), [(49.0, False), (51.0, True)])
def test_a_surface_that_leaves_when_the_time_is_over_is_the_result_unless_there_is_a_better_one(seconds, worth):
    """At the end of 100 s nothing is left for more steps: a good state is one that had half of them."""
    course = Course(Mending(0), allowed=True)
    course.saved({"epoch": 12, "seconds": seconds}, healthy=True)

    def examine() -> bool:
        return course.examine(field(THROUGH), on_ball(1.0, 3), 0.0, 70, 1.0, 100.0)

    if worth:
        with pytest.raises(Failure, match=r"leaves Ω at"):
            examine()
    else:
        assert not examine()


@pytest.mark.parametrize("seconds", [49.0, 51.0])
def test_when_the_time_is_over_a_state_of_less_than_half_of_it_is_no_result(seconds):
    """The loss of a late failure: a state after 51 of 100 seconds is worth having, one after 49 is an error."""
    course, failure = Course(Mending(seed=0), allowed=True), Failure("the surface leaves Ω")
    course.saved({"epoch": 12, "seconds": seconds}, healthy=True)
    if seconds > 50:
        state = course.mend(failure, 100.0, over=True)
        assert state is not None
        assert state["epoch"] == 12
    else:
        with pytest.raises(Failure, match="the surface leaves Ω"):
            course.mend(failure, 100.0, over=True)
        assert course.mend(failure, 100.0, over=False) is not None  # there is time to go on from it

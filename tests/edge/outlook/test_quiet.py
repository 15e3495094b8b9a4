"""Which hours are told to be calm."""

from edge.outlook.history import HOUR_S, Expected
from edge.outlook.quiet import Span, calmest, quiet
from index.entry import Timestamp

START = 2_000_000 * HOUR_S


def hours(*utilisations: float | None) -> list[Expected]:
    return [Expected(moment(at), share, weeks=1) for at, share in enumerate(utilisations)]


def moment(hour: float) -> Timestamp:
    return Timestamp(START + hour * HOUR_S)


def test_calm_hours_that_follow_each_other_are_one_span() -> None:
    assert quiet(hours(0.9, 0.25, 0.5, 0.6, 0.5)) == [
        Span(moment(1), moment(3), 0.375),
        Span(moment(4), moment(5), 0.5),
    ]


def test_hours_that_nobody_knows_are_not_calm_and_part_spans() -> None:
    assert quiet(hours(0.25, None, 0.25)) == [
        Span(moment(0), moment(1), 0.25),
        Span(moment(2), moment(3), 0.25),
    ]


def test_where_no_hour_is_calm_the_least_busy_are_told() -> None:
    assert quiet(hours(1.0, 0.75, 0.77, 0.9)) == [Span(moment(1), moment(3), 0.76)]


def test_where_all_hours_are_alike_none_is_preferred() -> None:
    assert quiet(hours(0.75, 0.75, 0.75)) == [Span(moment(0), moment(3), 0.75)]


def test_nothing_is_told_of_what_is_not_known() -> None:
    assert quiet(hours(None, None)) is None
    assert quiet([]) is None
    assert calmest(hours(None)) is None


def test_of_equally_calm_hours_the_soonest_is_the_calmest() -> None:
    found = calmest(hours(None, 0.5, 0.25, 0.25))
    assert found is not None
    assert found.begins == moment(2)

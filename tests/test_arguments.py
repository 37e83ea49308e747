"""Values of a command line against annotations."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from nlaic.arguments import check_arguments
from nlaic.errors import NlaicError


class Kind:
    def __init__(
        self,
        count: int,
        share: float,
        word: str,
        on: bool,
        terms: Mapping[str, float] | None,
        pairs: tuple[tuple[int, int], ...],
        ends: tuple[float, float],
        strides: Sequence[int],
        anything: Any,
    ) -> None: ...


@pytest.mark.parametrize(
    ("name", "sound", "wrong", "told"),
    [
        ("count", [1, -3], [1.5, "1", True, None], "a whole number"),
        ("share", [1, 0.5, float("inf")], ["0.5", False, None], "a number"),
        ("word", ["a", ""], [1, None], "a word"),
        ("on", [True, False], [0, "true"], "true or false"),
        ("terms", [None, {}, {"a": 1, "b": 0.5}], [{"a": "1"}, {1: 2}, [1]], "{NAME: a number, ...} or null"),
        (
            "pairs",
            [[], [[1, 2]], ((1, 2), (3, 4))],
            [[1], [[1, 2, 3]], "12"],
            "[[a whole number, a whole number], ...]",
        ),
        ("ends", [(1, 2), [0.5, 1]], [[1], [1, 2, 3], [1, "2"]], "[a number, a number]"),
        ("strides", [[], [1, 2, 2]], [[1.5], "12", 2], "[a whole number, ...]"),
        ("anything", [1, None, "a", {}], [], ""),
    ],
)
def test_values_are_what_they_are_annotated_to_be(name, sound, wrong, told):
    for value in sound:
        check_arguments(Kind, {name: value}, "group")
    for value in wrong:
        with pytest.raises(NlaicError) as caught:
            check_arguments(Kind, {name: value}, "group")
        assert str(caught.value) == f"group.{name} must be {told}, but got {value!r}"


def test_names_are_arguments():
    with pytest.raises(NlaicError, match="group: unknown setting 'size', allowed: count, share"):
        check_arguments(Kind, {"count": 1, "size": 2}, "group")

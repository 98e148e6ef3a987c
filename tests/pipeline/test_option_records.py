"""Options that are declared once: the parser's, the record's, and what both refuse."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import pytest
from jsonargparse import ArgumentParser

from diffsmooth.cli.options import add_options
from diffsmooth.pipeline.command_specification import (
    BenchOptions,
    ExamineOptions,
    ExportOptions,
    ForecastOptions,
    ReportOptions,
    VisualizeOptions,
)
from diffsmooth.pipeline.option_records import OptionRecord, option, options_of, required
from diffsmooth.pipeline.specification import CertifyOptions, PredictOptions
from diffsmooth.pipeline.tune_specification import TuneOptions
from diffsmooth.stats.errors import UserError

RECORDS = (
    CertifyOptions, PredictOptions, TuneOptions, ExamineOptions, VisualizeOptions, ExportOptions,
    BenchOptions, ForecastOptions, ReportOptions,
)  # fmt: skip


def refuse_odd(name: str, value: int) -> None:
    if value % 2:
        raise UserError(f"{name} must be even, got {value}")


@dataclass(frozen=True, kw_only=True)
class Walk(OptionRecord):
    """A record for these tests."""

    place: str = required("where")
    pace: float = required("how fast", "--pace")
    n: int = option(4, "how often", "--n", "--N", least=1, check=refuse_odd)
    dog: Literal["big", "small"] | None = option(None, "which dog")
    friends: list[int] = option([2], "who comes", least=1)
    rain: bool = option(True, "whatever the weather")
    fast: bool | Literal["auto"] = option("auto", "whether to run")


@dataclass(frozen=True, kw_only=True)
class LongWalk(Walk):
    """The same by another default, and one more."""

    n: int = 40
    shoes: str = option("old", "which shoes")


def parsed(record: type[Any], words: str) -> Any:
    parser = ArgumentParser()
    add_options(parser, record)
    return record.from_namespace(parser.parse_args(words.split()))


def test_what_is_declared_is_what_is_parsed() -> None:
    assert parsed(Walk, "park --pace 2") == Walk(place="park", pace=2.0)
    words = "park --pace 2 --N 6 --dog big --friends 1 3 --no_rain --fast"
    assert parsed(Walk, words) == Walk(
        place="park", pace=2.0, n=6, dog="big", friends=[1, 3], rain=False, fast=True
    )
    assert parsed(Walk, "park --pace 2 --fast false").fast is False


def test_a_base_class_lends_its_declarations() -> None:
    assert parsed(LongWalk, "park --pace 2").n == LongWalk(place="park", pace=2).n == 40
    own_first = [one.name for one in options_of(LongWalk)]
    assert own_first == ["shoes", "place", "pace", "n", "dog", "friends", "rain", "fast"]
    with pytest.raises(UserError, match="N must be at least 1, got 0"):
        LongWalk(place="park", pace=2, n=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "N must be at least 1, got 0"),
        ({"n": 10**10}, "N must be at most 1000000000, got 10000000000"),
        ({"n": 3}, "n must be even, got 3"),
        ({"dog": "old"}, "dog must be big or small, got 'old'"),
        ({"friends": [2, 0]}, "friends must be at least 1, got 0"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(Walk(place="park", pace=1), **changes)


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_is_an_option_that_says_what_it_means(record: type[OptionRecord]) -> None:
    options = list(options_of(record))
    assert {one.name for one in options} == {one.name for one in fields(record)}
    assert all(len(one.text) > 3 for one in options)
    parser = ArgumentParser()
    add_options(parser, record)
    shown = " ".join(parser.format_help().split())
    for one in options:
        assert one.text.split()[0] in shown
        for spelling in one.spellings:
            assert spelling in shown

"""The sample of a large family covers every pair of values, and what is left out is marked."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairwise import covering, pairs_of

AXES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
CASES = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), min_size=1), min_size=1, max_size=40)


@given(CASES, st.data())
@settings(deadline=None, max_examples=60)
def test_every_pair_that_any_case_has_is_in_one_that_is_taken(cases: list[dict[str, int]], data: st.DataObject) -> None:
    numbers = st.integers(0, len(cases) - 1)
    first = data.draw(st.lists(numbers, max_size=3))
    kinds = data.draw(st.lists(st.integers(0, 2), min_size=len(cases), max_size=len(cases)))
    taken = covering(cases, first, kinds)
    assert taken == covering(cases, first, kinds)
    assert {*first} <= {*taken}
    assert set().union(*(pairs_of(cases[number]) for number in taken)) == set().union(*map(pairs_of, cases))


@given(AXES)
@settings(deadline=None, max_examples=30)
def test_a_full_matrix_of_two_parameters_is_taken_whole_and_a_larger_one_is_not(sizes: list[int]) -> None:
    cases = [dict(zip("abcd", values, strict=False)) for values in product(*map(range, sizes))]
    taken = covering(cases)
    largest = sorted(sizes)[-2:]
    assert len(taken) >= (largest[0] * largest[-1] if len(sizes) > 1 else largest[0])
    if len(sizes) <= 2:
        assert len(taken) == len(cases)
    if len(sizes) > 2 and min(sizes) > 2:
        assert len(taken) < len(cases)


FAMILY = """\
import pytest

family = pytest.mark.family(main="model", whole=("one",))


@pytest.fixture(params=["one", "two", "three"])
def model(request):
    return request.param


@family
@pytest.mark.parametrize("way", ["up", "down"])
def test_paths(model, way):
    pass


@family
@pytest.mark.parametrize("way", ["up", "down"])
def test_totals(model, way):
    pass


@family
def test_alone(model):
    pass


@pytest.mark.sample(3)
@pytest.mark.parametrize("number", range(8))
def test_many(number):
    pass


@pytest.mark.family
@pytest.mark.parametrize("a", range(4))
@pytest.mark.parametrize("b", range(3))
@pytest.mark.parametrize("c", range(3))
def test_matrix(a, b, c):
    pass
"""
CONFTEST = "from pairwise import mark_families\n\ndef pytest_collection_modifyitems(items):\n    mark_families(items)\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nmarkers =\n    family\n    sample\n    complete\naddopts = -p no:randomly -p no:xdist")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(FAMILY)
    return pytester


def names(result: pytest.RunResult) -> list[str]:
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def test_what_is_left_out_of_the_sample_is_marked_and_nothing_is_lost(project: pytest.Pytester) -> None:
    quick, complete, every = (
        names(project.runpytest_inprocess("--collect-only", "-q", *marked))
        for marked in (["-m", "not complete"], ["-m", "complete"], [])
    )
    assert sorted([*quick, *complete]) == sorted(every)
    assert sum(name.startswith("test_matrix") for name in quick) < 4 * 3 * 3
    for name in ("test_paths[one-up]", "test_totals[one-down]", "test_alone[one]"):
        assert name in quick
    assert "test_alone[two]" in complete
    assert [name for name in quick if name.startswith("test_many")] == ["test_many[0]", "test_many[4]", "test_many[7]"]
    for model in ("two", "three"):
        for way in ("up", "down"):
            assert sum(name in (f"test_paths[{model}-{way}]", f"test_totals[{model}-{way}]") for name in quick) == 1


def test_a_case_that_is_asked_for_by_name_runs(project: pytest.Pytester) -> None:
    file = next(project.path.glob("test_*.py")).name
    result = project.runpytest_inprocess(f"{file}::test_alone[two]", "-m", "not complete")
    result.assert_outcomes(passed=1)

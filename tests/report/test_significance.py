"""Welch's test against SciPy's, and that the seeds asked for are those that settle a difference, at the least cost."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from raysynth.report.significance import LEVEL, MOST_SEEDS, Sample, cheapest, difference, pooled


def sample(mean, spread, size):
    return Sample(mean=mean, size=size, spread=spread, freedom=size - 1)


def welch(one, other, sizes):
    """The p of SciPy's test at other numbers of seeds."""
    return stats.ttest_ind_from_stats(
        one.mean, one.spread, sizes[0], other.mean, other.spread, sizes[1], equal_var=False
    ).pvalue


CASES = [
    (sample(0.50, 0.02, 3), sample(0.48, 0.03, 3)),
    (sample(0.50, 0.02, 5), sample(0.51, 0.005, 2)),
    (sample(0.30, 0.10, 2), sample(0.45, 0.01, 4)),
    (sample(0.612, 0.007, 5), sample(0.605, 0.011, 5)),
]


@pytest.mark.parametrize(("one", "other"), CASES)
def test_a_difference_has_the_p_and_the_freedom_of_welchs_test(one, other):
    found = difference(one, other)
    theirs = stats.ttest_ind_from_stats(
        one.mean, one.spread, one.size, other.mean, other.spread, other.size, equal_var=False
    )
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.value / found.error == pytest.approx(theirs.statistic)
    interval = stats.t.interval(0.95, found.freedom, found.value, found.error)
    assert (interval[0] > 0 or interval[1] < 0) == found.settled
    assert difference(other, one).p == found.p


def test_without_any_spread_only_equal_means_are_not_settled():
    assert difference(sample(0.2, 0.0, 2), sample(0.1, 0.0, 3)).settled
    assert not difference(sample(0.1, 0.0, 2), sample(0.1, 0.0, 3)).settled
    assert cheapest(sample(0.1, 0.0, 2), sample(0.1, 0.0, 3), (1.0, 1.0)) is None


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 7.0), (3.0, 0.5)])
@pytest.mark.parametrize(("one", "other"), CASES)
def test_no_cheaper_seeds_settle_a_difference_by_scipys_test(one, other, costs):
    def price(more):
        return more[0] * costs[0] + more[1] * costs[1]

    settling = [
        more
        for more in itertools.product(range(MOST_SEEDS - one.size + 1), range(MOST_SEEDS - other.size + 1))
        if welch(one, other, (one.size + more[0], other.size + more[1])) < LEVEL
    ]
    found = cheapest(one, other, costs)
    assert (found is None) == (not settling)
    if found is not None:
        assert found in settling
        assert price(found) == min(map(price, settling))


def test_new_seeds_with_the_same_means_and_sds_settle_it_and_one_fewer_do_not():
    """On drawn values, which are shifted and scaled to have exactly the means and SDs of the cells."""
    rng = np.random.default_rng(0)

    def drawn(cell, size):
        values = rng.normal(size=size)
        return cell.mean + cell.spread * (values - values.mean()) / values.std(ddof=1)

    tried = 0
    for _ in range(200):
        one, other = (sample(rng.normal(0.5, 0.02), rng.uniform(0.005, 0.03), rng.integers(2, 6)) for _ in range(2))
        more = cheapest(one, other, (1.0, 1.0))
        if difference(one, other).settled or more is None:
            continue
        sizes = one.size + more[0], other.size + more[1]
        assert stats.ttest_ind(drawn(one, sizes[0]), drawn(other, sizes[1]), equal_var=False).pvalue < LEVEL
        for side in (0, 1):
            if more[side]:
                fewer = [size - (index == side) for index, size in enumerate(sizes)]
                p = stats.ttest_ind(drawn(one, fewer[0]), drawn(other, fewer[1]), equal_var=False).pvalue
                assert p >= LEVEL
        tried += 1
    assert tried > 50


def test_seeds_go_to_the_side_where_they_are_cheap():
    one, other = sample(0.50, 0.02, 3), sample(0.47, 0.02, 3)
    dear, cheap = cheapest(one, other, (10.0, 1.0))
    assert cheap > dear
    assert cheapest(one, other, (1.0, 10.0)) == (cheap, dear)
    even = cheapest(one, other, (1.0, 1.0))
    assert abs(even[0] - even[1]) <= 1


def test_a_cell_of_one_seed_gets_a_second_for_an_sd_of_its_own():
    one = Sample(mean=0.5, size=1, spread=0.02, freedom=8)
    other = sample(0.47, 0.02, 5)
    assert cheapest(one, other, (1e6, 1.0))[0] >= 1


def test_a_difference_too_small_for_any_number_of_seeds_has_none():
    one, other = sample(0.500, 0.02, 3), sample(0.495, 0.02, 3)
    assert welch(one, other, (MOST_SEEDS, MOST_SEEDS)) > LEVEL
    assert cheapest(one, other, (1.0, 1.0)) is None


def test_the_pooled_sd_is_that_of_the_values_around_their_own_means():
    groups = [[0.1, 0.3, 0.2], [0.7, 0.75]]
    samples = [sample(np.mean(group), np.std(group, ddof=1), len(group)) for group in groups]
    squares = sum((value - np.mean(group)) ** 2 for group in groups for value in group)
    assert pooled(samples) == (pytest.approx(math.sqrt(squares / 3)), 3)

"""Welch's test against SciPy's, and that the seeds proposed are the cheapest that settle a difference."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from raysynth.report.significance import LEVEL, MOST_SEEDS, Sample, cheapest, difference, holm, pooled


def sample(mean, spread, size):
    """A sample with an SD of its own."""
    return Sample(mean=mean, size=size, spread=spread, freedom=size - 1)


def welch(first, second, sizes):
    """The p of SciPy's test at other numbers of seeds."""
    return stats.ttest_ind_from_stats(
        first.mean, first.spread, sizes[0], second.mean, second.spread, sizes[1], equal_var=False
    ).pvalue


CASES = [
    (sample(0.50, 0.02, 3), sample(0.48, 0.03, 3)),
    (sample(0.50, 0.02, 5), sample(0.51, 0.005, 2)),
    (sample(0.30, 0.10, 2), sample(0.45, 0.01, 4)),
    (sample(0.612, 0.007, 5), sample(0.605, 0.011, 5)),
]


@pytest.mark.parametrize(("first", "second"), CASES)
def test_a_difference_has_the_p_and_the_freedom_of_welchs_test(first, second):
    ours = difference(first, second)
    theirs = stats.ttest_ind_from_stats(
        first.mean, first.spread, first.size, second.mean, second.spread, second.size, equal_var=False
    )
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.value / ours.error == pytest.approx(theirs.statistic)
    interval = stats.t.interval(0.95, ours.freedom, ours.value, ours.error)
    assert (interval[0] > 0 or interval[1] < 0) == (ours.p < LEVEL)
    assert difference(second, first).p == ours.p


def test_without_any_spread_only_equal_means_are_not_settled():
    assert difference(sample(0.2, 0.0, 2), sample(0.1, 0.0, 3)).p == 0
    assert difference(sample(0.1, 0.0, 2), sample(0.1, 0.0, 3)).p == 1
    assert cheapest(sample(0.1, 0.0, 2), sample(0.1, 0.0, 3), (1.0, 1.0)) is None


def test_a_mean_that_is_no_number_settles_nothing():
    odd, other = sample(math.nan, math.nan, 3), sample(0.1, 0.0, 3)
    assert math.isnan(difference(odd, other).p)
    assert cheapest(odd, other, (1.0, 1.0)) is None


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 7.0), (3.0, 0.5)])
@pytest.mark.parametrize(("first", "second"), CASES)
def test_no_cheaper_seeds_settle_a_difference_by_scipys_test(first, second, costs):
    def price(more):
        return more[0] * costs[0] + more[1] * costs[1]

    settling = [
        more
        for more in itertools.product(range(MOST_SEEDS - first.size + 1), range(MOST_SEEDS - second.size + 1))
        if welch(first, second, (first.size + more[0], second.size + more[1])) < LEVEL
    ]
    proposed = cheapest(first, second, costs)
    assert (proposed is None) == (not settling)
    if proposed is not None:
        assert proposed in settling
        assert price(proposed) == min(map(price, settling))


def test_new_seeds_with_the_same_means_and_sds_settle_it_and_one_fewer_do_not():
    """On drawn values, which are shifted and scaled to have exactly the means and SDs of the samples."""
    rng = np.random.default_rng(0)

    def drawn(sample, size):
        values = rng.normal(size=size)
        return sample.mean + sample.spread * (values - values.mean()) / values.std(ddof=1)

    tried = 0
    for _ in range(200):
        first, second = (sample(rng.normal(0.5, 0.02), rng.uniform(0.005, 0.03), rng.integers(2, 6)) for _ in range(2))
        more = cheapest(first, second, (1.0, 1.0))
        if difference(first, second).p < LEVEL or more is None:
            continue
        sizes = first.size + more[0], second.size + more[1]
        assert stats.ttest_ind(drawn(first, sizes[0]), drawn(second, sizes[1]), equal_var=False).pvalue < LEVEL
        for side in (0, 1):
            if more[side]:
                fewer = [size - (index == side) for index, size in enumerate(sizes)]
                p = stats.ttest_ind(drawn(first, fewer[0]), drawn(second, fewer[1]), equal_var=False).pvalue
                assert p >= LEVEL
        tried += 1
    assert tried > 50


def test_seeds_go_to_the_side_where_they_are_cheap():
    first, second = sample(0.50, 0.02, 3), sample(0.47, 0.02, 3)
    dear, cheap = cheapest(first, second, (10.0, 1.0))
    assert cheap > dear
    assert cheapest(first, second, (1.0, 10.0)) == (cheap, dear)
    even = cheapest(first, second, (1.0, 1.0))
    assert abs(even[0] - even[1]) <= 1


def test_an_entry_of_one_seed_gets_a_second_for_an_sd_of_its_own():
    first = Sample(mean=0.5, size=1, spread=0.02, freedom=8)
    second = sample(0.47, 0.02, 5)
    assert cheapest(first, second, (1e6, 1.0))[0] >= 1


def test_a_difference_too_small_for_any_number_of_seeds_has_none():
    first, second = sample(0.500, 0.02, 3), sample(0.495, 0.02, 3)
    assert welch(first, second, (MOST_SEEDS, MOST_SEEDS)) > LEVEL
    assert cheapest(first, second, (1.0, 1.0)) is None


def test_the_pooled_sd_is_that_of_the_values_around_their_own_means():
    groups = [[0.1, 0.3, 0.2], [0.7, 0.75]]
    samples = [sample(np.mean(group), np.std(group, ddof=1), len(group)) for group in groups]
    squares = sum((value - np.mean(group)) ** 2 for group in groups for value in group)
    assert pooled(samples) == (pytest.approx(math.sqrt(squares / 3)), 3)


# -------------------------------------------------------------------------------- several comparisons


def test_holms_p_is_that_of_the_step_down_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([math.nan, 0.01]) == [1.0, 0.02]
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.uniform(0, 0.1, rng.integers(1, 9)).tolist()
        rejected, left = set(), sorted(range(len(values)), key=values.__getitem__)
        while left and values[left[0]] < LEVEL / len(left):
            rejected.add(left.pop(0))
        assert {index for index, p in enumerate(holm(values)) if p < LEVEL} == rejected


@pytest.mark.parametrize("num_true", [0, 3])
def test_the_family_wise_error_of_simulated_tables_is_at_most_the_level(num_true):
    """Ten rows of five seeds against a baseline; `num_true` rows differ from it by far, the others not at all."""
    num_tables, num_rows, num_seeds = 1_500, 10, 5
    values = np.random.default_rng(1).normal(0.5, 0.02, (num_tables, num_rows + 1, num_seeds))
    values[:, :num_true] += 0.2
    alone = together = 0
    for rows in values:
        samples = [sample(row.mean(), row.std(ddof=1), num_seeds) for row in rows]
        ps = [difference(each, samples[-1]).p for each in samples[:-1]]
        alone += min(ps[num_true:]) < LEVEL
        together += min(holm(ps)[num_true:]) < LEVEL
    error = math.sqrt(LEVEL * (1 - LEVEL) / num_tables)
    assert together / num_tables < LEVEL + 3 * error
    assert alone / num_tables > 0.15

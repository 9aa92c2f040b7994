"""What to run next: which differences a table claims, what their seeds cost, and that the proposed lines add them."""

import statistics

import numpy as np
import pytest
from scipy import stats

from raysynth import InputError, Sweep
from raysynth.report.next_seeds import extend_lines, proposal_row, propose_seeds, summary
from raysynth.report.significance import LEVEL, Origin, comparisons
from raysynth.specs.identity import in_order
from raysynth.store.store import Store
from tests.records import provenance, weights_result
from tests.report.grids import VALUES, all_new, done, grid, paper_sweep, record, trial


def propose(sweep, values, store):
    """What to run next, after records of the values of each init."""
    for init, metrics in values.items():
        for seed, value in enumerate(metrics):
            record(store, trial(init, seed), value)
    return propose_again(sweep, store)


def propose_again(sweep, store):
    """What to run next, with the records that the store has."""
    cells = sweep.cells()
    return propose_seeds(sweep.tables[0], cells, store.statuses(in_order([cell.artifact for cell in cells])), store)


def test_a_difference_is_that_of_the_records(store):
    next_seeds = propose(grid(random=3, full=3), VALUES, store)
    (proposal,) = next_seeds.proposals
    difference = proposal.comparison.difference
    assert difference.p == pytest.approx(stats.ttest_ind(VALUES["full"], VALUES["random"], equal_var=False).pvalue)
    assert difference.p > LEVEL
    assert difference.value == pytest.approx(statistics.fmean(VALUES["full"]) - statistics.fmean(VALUES["random"]))
    assert proposal_row(proposal)[0] == "full against random"
    assert summary(next_seeds) == "0 of 1 differences are settled at two-sided 95 % after Holm's correction over all 1"


def test_new_pre_trainings_count_and_move_the_seeds_to_the_cheaper_side(tmp_path):
    """A seed of full is an hour of fine-tuning and ten of pre-training; random and shared need the hour only."""
    next_seeds = propose(grid(random=3, full=3), VALUES, Store(str(tmp_path / "full")))
    (proposal,) = next_seeds.proposals
    full, random = proposal.add
    assert random > full
    assert proposal.cost.hours == pytest.approx(full * (1 + 10) + random)
    assert next_seeds.cost == proposal.cost
    values = {"random": VALUES["random"], "shared": VALUES["full"]}
    (proposal,) = propose(grid(random=3, shared=3), values, Store(str(tmp_path / "shared"))).proposals
    assert sum(proposal.add) < full + random
    assert proposal.cost.hours == pytest.approx(sum(proposal.add))


def test_what_is_in_the_store_costs_nothing(store):
    sweep = grid(random=3, full=3)
    hours_before = propose(sweep, VALUES, store).proposals[0].cost.hours
    store.record(trial("random", 3), result=weights_result(), provenance=provenance())
    assert propose_again(sweep, store).proposals[0].cost.hours == pytest.approx(hours_before - 1)


def test_the_lines_add_the_seeds_and_nothing_else_and_the_difference_is_then_settled(store):
    sweep = grid(random=3, full=3)
    next_seeds = propose(sweep, VALUES, store)
    (proposal,) = next_seeds.proposals
    before = [cell.artifact for cell in sweep.cells()]
    for line in extend_lines(sweep.tables[0], next_seeds):
        exec(line, {"sweep": sweep})
    added = [cell.artifact for cell in sweep.cells() if cell.artifact not in before]
    full, random = proposal.add
    expected = [trial("full", 3 + seed) for seed in range(full)] + [trial("random", 3 + seed) for seed in range(random)]
    assert set(added) == set(expected)
    assert len(added) == len(expected)
    for init, num_added in (("full", full), ("random", random)):
        values = np.random.default_rng(0).normal(size=3 + num_added)
        values = (values - values.mean()) / values.std(ddof=1)
        values = statistics.fmean(VALUES[init]) + statistics.stdev(VALUES[init]) * values  # mean and SD as before
        for seed, value in enumerate(values):
            record(store, trial(init, seed), float(value))
    assert len(propose_again(sweep, store).settled) == 1


def test_seeds_that_the_grid_has_come_first_and_need_no_line(store):
    next_seeds = propose(grid(random=30, full=3), VALUES, store)
    (proposal,) = next_seeds.proposals
    assert proposal.add[1] > 0
    assert [addition.where for addition in next_seeds.additions] == [{"init": ("full",)}] * (proposal.add[0] > 0)


def test_an_entry_of_several_comparisons_gets_the_most_that_one_of_them_asks_for(store):
    """Slow is nearer to random than fast is, so its comparison asks for more seeds."""
    values = {"random": VALUES["random"], "slow": [0.37, 0.33, 0.41], "fast": [0.40, 0.36, 0.44]}
    next_seeds = propose(grid(random=3, slow=3, fast=3), values, store)
    num_random = {proposal.comparison.names[0]: proposal.add[1] for proposal in next_seeds.proposals}
    assert num_random["slow"] > num_random["fast"] > 0
    (seeds,) = [addition.seeds for addition in next_seeds.additions if "random" in addition.where["init"]]
    assert seeds == tuple(range(3, 3 + num_random["slow"]))


def test_equal_seeds_of_several_entries_are_one_line(store):
    sweep = grid(random=1, full=1, shared=1)
    next_seeds = propose(sweep, {"random": [0.3], "full": [0.4], "shared": [0.5]}, store)
    lines = extend_lines(sweep.tables[0], next_seeds)
    assert lines == ["sweep.extend({'init': ['full', 'random', 'shared']}, seed=[1])"]


def test_a_single_seed_borrows_the_pooled_sd_of_the_table_and_the_row_says_so(store):
    (proposal,) = propose(grid(random=3, full=1), {"random": VALUES["random"], "full": [0.40]}, store).proposals
    full, random = proposal.comparison.samples
    assert (full.origin, random.origin) == (Origin.POOLED, Origin.OWN)
    assert (full.spread, full.freedom) == (pytest.approx(random.spread), 2)
    assert proposal_row(proposal)[3].endswith(" (pooled SD)")
    assert proposal.add[0] >= 1


def test_without_any_sd_a_second_seed_comes_first(store):
    (proposal,) = propose(grid(random=1, full=1), {"random": [0.3], "full": [0.9]}, store).proposals
    assert proposal.comparison.difference is None
    assert proposal.add == (1, 1)
    assert proposal_row(proposal)[1] == "both +1 first, for an SD"
    assert proposal.cost.hours == pytest.approx(1 + 10 + 1)


def test_an_entry_without_results_waits(store):
    next_seeds = propose(grid(random=3, full=3), {"random": VALUES["random"]}, store)
    assert (len(next_seeds.settled), len(next_seeds.proposals), len(next_seeds.waiting)) == (0, 0, 1)
    assert summary(next_seeds).endswith("; 1 wait for a first result")


def test_if_a_speed_is_unknown_seeds_are_weighed_by_steps_and_the_row_says_so(store):
    sweep = grid(random=3, full=3)
    cells = sweep.cells()
    statuses = all_new(cells)
    for cell, value in zip(cells, VALUES["random"] + VALUES["full"], strict=True):
        statuses[cell.artifact] = done(exact_match=value)
    (proposal,) = propose_seeds(sweep.tables[0], cells, statuses, store).proposals
    full, random = proposal.add
    assert random > full
    assert proposal.cost.steps == full * (1_000 + 5_000) + random * 1_000
    assert proposal_row(proposal)[-1] == "unknown"


def test_the_row_says_if_no_number_of_seeds_would_do(store):
    values = {"random": VALUES["random"], "full": [0.301, 0.341, 0.381]}
    next_seeds = propose(grid(random=3, full=3), values, store)
    (proposal,) = next_seeds.proposals
    assert proposal.add is None
    row = proposal_row(proposal)
    assert row[1:2] + row[-2:] == ["more than 30 a side", "", ""]
    assert next_seeds.additions == ()


def test_seeds_are_planned_at_holms_level_so_that_each_proposal_settles_its_difference(store):
    values = {"random": VALUES["random"], "slow": [0.37, 0.36, 0.41], "fast": [0.80, 0.81, 0.82]}
    next_seeds = propose(grid(random=3, slow=3, fast=3, full=3), values | {"full": VALUES["full"]}, store)
    (settled,) = next_seeds.settled
    assert settled.names[0] == "fast"
    for comparison in (settled, *(proposal.comparison for proposal in next_seeds.proposals)):
        assert comparison.corrected_p >= comparison.difference.p
    for proposal in next_seeds.proposals:
        first, second = proposal.comparison.samples
        sizes = [side.size + more for side, more in zip((first, second), proposal.add, strict=True)]
        p = stats.ttest_ind_from_stats(
            first.mean, first.spread, sizes[0], second.mean, second.spread, sizes[1], equal_var=False
        ).pvalue
        assert p < LEVEL / 2
    alone = propose(grid(random=3, slow=3), {}, store).proposals[0]
    slow = next(each for each in next_seeds.proposals if each.comparison.names[0] == "slow")
    assert sum(slow.add) > sum(alone.add)


# -------------------------------------------------------------------------------- the paper's tables


def labels(name, number=0):
    """The comparisons of a table of the paper, by label, before anything is run."""
    sweep = paper_sweep(name)
    cells = sweep.cells()
    return [comparison.label for comparison in comparisons(sweep.tables[number], cells, all_new(cells))]


def test_rows_are_compared_with_baseline_and_ceiling():
    table6 = labels("table6")
    assert len(table6) == len(set(table6)) == 6 * (6 * 2 + 1)
    assert {"MTOP: Set against Random Init", "MTOP: Set against Pre-trained T5"} < set(table6)
    assert "MTOP: Pre-trained T5 against Random Init" in table6
    assert "MTOP: Random Init against Pre-trained T5" not in table6


def test_without_a_baseline_neighbours_of_one_task_are_compared():
    table4, table5 = labels("table4"), labels("table5")
    assert len(table4) == 9 * 2
    assert table4[:2] == ["Retrosyn-1K: Pre-trained T5 against LIME", "Retrosyn-1K: LIME against Random Init"]
    assert len(table5) == 9 * 6
    assert table5[0] == "CNNDM-10K LIME: Full Init against Per Param Mean/SD"
    assert "SQuAD Set: Full Init against Per Param Mean/SD" in labels("table7")
    assert labels("table7", 1)[0] == "CNNDM-10K: Random Init against Pre-trained T5"


def test_the_papers_sd_stands_in_if_the_table_has_none_of_its_own():
    sweep = paper_sweep("table3")
    cells = [cell for cell in sweep.cells() if cell.fields["seed"] == 0]
    statuses = all_new(cells) | {cell.artifact: done(rouge1=0.2, exact_match=0.4) for cell in cells}
    by_label = {comparison.label: comparison for comparison in comparisons(sweep.tables[0], cells, statuses)}
    value, random = by_label["MTOP: 0.2 against Random Init"].samples
    assert (random.origin, random.spread, random.freedom) == (Origin.PAPER, pytest.approx(0.021), 4)
    squares = [0.021**2, 0.003**2]  # Random Init and Pre-trained T5, the only two with a printed SD
    assert (value.origin, value.spread) == (Origin.PAPER, pytest.approx(statistics.fmean(squares) ** 0.5))


# -------------------------------------------------------------------------------- layouts without an answer


def test_an_entry_that_folds_more_than_seeds_has_no_sd_over_seeds():
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda init, extra, seed: trial(init, 10 * extra + seed), init=["random"], extra=[0, 1], seed=range(2))
    sweep.table(title="t", rows=("init",))
    cells = sweep.cells()
    with pytest.raises(InputError, match="entry 'random' folds extra besides seed"):
        comparisons(sweep.tables[0], cells, all_new(cells))


def test_an_entry_that_folds_grids_with_other_fields_has_no_sd_over_seeds():
    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, init=["random"], seed=range(2))
    sweep.add(lambda init, extra, seed: trial(init, 10 * extra + seed), init=["random"], extra=[1], seed=range(2))
    sweep.table(title="t", rows=("init",))
    cells = sweep.cells()
    with pytest.raises(InputError, match="entry 'random' folds extra besides seed"):
        comparisons(sweep.tables[0], cells, all_new(cells))


def test_only_whole_numbers_have_a_next_one(store):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda init, seed: trial(init, int(seed)), init=["random", "full"], seed=["0"])
    sweep.table(title="t", rows=("init",), baseline=("random",))
    with pytest.raises(InputError, match="whole numbers to have a next one, got '0'"):
        propose(sweep, {"random": [0.3], "full": [0.4]}, store)

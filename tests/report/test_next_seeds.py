"""What to run next: which differences a table claims, what their seeds cost, and that the proposed lines add them."""

import dataclasses
import statistics

import numpy as np
import pytest
from scipy import stats

from raysynth import (
    Dataset,
    Finetune,
    FullInit,
    InputError,
    Pretrain,
    RandomInit,
    Sweep,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
    token_space,
)
from raysynth.report.next_seeds import edits, next_seeds, row, summary
from raysynth.report.significance import LEVEL, Origin, comparisons
from raysynth.specs.identity import in_order
from raysynth.store.store import State, Status, Store
from tests.records import done
from tests.test_paper import sweep as paper_sweep

MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=1_000)
SYNTHETIC = dataclasses.replace(synthetic_tasks["set"], tokens=token_space(num_pieces=412))
RATES = {"random": 0.001, "slow": 0.0001, "fast": 0.01}
FINETUNE_SECONDS, PRETRAIN_SECONDS = 3.6, 7.2


def trial(init, seed):
    """Full init has a new pre-training of 5,000 steps for every seed, "shared" the same one for all."""
    if init in RATES:
        return Finetune(task=dataclasses.replace(TASK, learning_rate=RATES[init]), init=RandomInit(MODEL), seed=seed)
    of = 0 if init == "shared" else seed
    source = Pretrain(data=Dataset(task=SYNTHETIC, seed=of), model=MODEL, seed=of, num_steps=5_000)
    return Finetune(task=TASK, init=FullInit(source), seed=seed)


def grid(**inits):
    sweep = Sweep(name="s", claim="c")
    for init, count in inits.items():
        sweep.add(trial, init=[init], seed=range(count))
    sweep.table(title="t", rows=("init",), baseline=("random",))
    return sweep


def record(store, artifact, value):
    """A finished fine-tuning of that exact match, with its inputs."""
    result = {"validation": {"token_accuracy": 0.5}, "evaluations": {}, "test": {"exact_match": value}}
    for needed in in_order([artifact])[:-1]:
        store.record(needed, result={}, provenance={"seconds_per_step": PRETRAIN_SECONDS})
    store.record(artifact, result=result, provenance={"seconds_per_step": FINETUNE_SECONDS})


def outlook(sweep, values, tmp_path):
    """What to run next, after records of the values of each init."""
    store = Store(str(tmp_path))
    for init, told in values.items():
        for seed, value in enumerate(told):
            record(store, trial(init, seed), value)
    cells = sweep.cells()
    statuses = store.statuses(in_order([cell.artifact for cell in cells]))
    return next_seeds(sweep.tables[0], cells, statuses, store), store


VALUES = {"random": [0.30, 0.34, 0.38], "full": [0.40, 0.36, 0.44]}
"""Not settled: p is 0.14."""


def test_a_difference_is_that_of_the_records(tmp_path):
    told, _ = outlook(grid(random=3, full=3), VALUES, tmp_path)
    (proposal,) = told.proposals
    found = proposal.comparison.difference
    assert found.p == pytest.approx(stats.ttest_ind(VALUES["full"], VALUES["random"], equal_var=False).pvalue)
    assert found.p > LEVEL
    assert found.value == pytest.approx(statistics.fmean(VALUES["full"]) - statistics.fmean(VALUES["random"]))
    assert row(proposal)[0] == "full against random"
    assert summary(told) == "0 of 1 differences are settled at two-sided 95 %, each alone"


def test_new_pre_trainings_count_and_move_the_seeds_to_the_cheaper_side(tmp_path):
    """A seed of full is an hour of fine-tuning and ten of pre-training, one of random an hour, shared's needs none."""
    told, _ = outlook(grid(random=3, full=3), VALUES, tmp_path / "full")
    (proposal,) = told.proposals
    full, random = proposal.add
    assert random > full
    assert proposal.cost.hours == pytest.approx(full * (1 + 10) + random)
    assert told.cost == proposal.cost
    shared = {"random": VALUES["random"], "shared": VALUES["full"]}
    told, _ = outlook(grid(random=3, shared=3), shared, tmp_path / "shared")
    (proposal,) = told.proposals
    assert sum(proposal.add) < full + random
    assert proposal.cost.hours == pytest.approx(sum(proposal.add))


def test_what_is_in_the_store_costs_nothing(tmp_path):
    told, store = outlook(grid(random=3, full=3), VALUES, tmp_path)
    before = told.proposals[0].cost.hours
    store.record(trial("random", 3), result={}, provenance={})
    told, _ = outlook(grid(random=3, full=3), VALUES, tmp_path)
    assert told.proposals[0].cost.hours == pytest.approx(before - 1)


def test_the_lines_add_the_seeds_and_nothing_else_and_the_difference_is_then_settled(tmp_path):
    sweep = grid(random=3, full=3)
    told, store = outlook(sweep, VALUES, tmp_path)
    (proposal,) = told.proposals
    before = [cell.artifact for cell in sweep.cells()]
    for line in edits(sweep.tables[0], told):
        exec(line, {"sweep": sweep})
    new = [cell.artifact for cell in sweep.cells() if cell.artifact not in before]
    full, random = proposal.add
    wanted = [trial("full", 3 + seed) for seed in range(full)] + [trial("random", 3 + seed) for seed in range(random)]
    assert set(new) == set(wanted)
    assert len(new) == len(wanted)
    for init, more in (("full", full), ("random", random)):
        values = np.random.default_rng(0).normal(size=3 + more)
        values = (values - values.mean()) / values.std(ddof=1)  # as many values of the same mean and SD
        for seed, value in enumerate(statistics.fmean(VALUES[init]) + statistics.stdev(VALUES[init]) * values):
            record(store, trial(init, seed), float(value))
    statuses = store.statuses(in_order([cell.artifact for cell in sweep.cells()]))
    assert len(next_seeds(sweep.tables[0], sweep.cells(), statuses, store).settled) == 1


def test_seeds_that_the_grid_has_already_come_first_and_need_no_line(tmp_path):
    told, _ = outlook(grid(random=30, full=3), VALUES, tmp_path)
    (proposal,) = told.proposals
    assert proposal.add[1] > 0
    assert [each.where for each in told.additions] == [{"init": ("full",)}] * (proposal.add[0] > 0)


def test_a_cell_of_several_comparisons_gets_the_most_that_one_of_them_asks_for(tmp_path):
    """Slow is near random, so that it asks for more seeds than fast."""
    values = {"random": VALUES["random"], "slow": [0.37, 0.33, 0.41], "fast": [0.40, 0.36, 0.44]}
    told, _ = outlook(grid(random=3, slow=3, fast=3), values, tmp_path)
    most = {each.comparison.names[0]: each.add[1] for each in told.proposals}
    assert most["slow"] > most["fast"] > 0
    (new,) = [each.seeds for each in told.additions if "random" in each.where["init"]]
    assert new == tuple(range(3, 3 + most["slow"]))


def test_equal_seeds_of_several_cells_are_one_line(tmp_path):
    told, _ = outlook(grid(random=1, full=1, shared=1), {"random": [0.3], "full": [0.4], "shared": [0.5]}, tmp_path)
    sweep = grid(random=1, full=1, shared=1)
    assert edits(sweep.tables[0], told) == ["sweep.extend({'init': ['full', 'random', 'shared']}, seed=[1])"]


def test_a_single_seed_borrows_the_pooled_sd_of_the_table_and_says_so(tmp_path):
    told, _ = outlook(grid(random=3, full=1), {"random": VALUES["random"], "full": [0.40]}, tmp_path)
    (proposal,) = told.proposals
    full, random = proposal.comparison.samples
    assert (full.origin, random.origin) == (Origin.POOLED, Origin.OWN)
    assert (full.spread, full.freedom) == (pytest.approx(random.spread), 2)
    assert row(proposal)[3].endswith(" (pooled SD)")
    assert proposal.add[0] >= 1


def test_without_any_sd_a_second_seed_comes_first(tmp_path):
    told, _ = outlook(grid(random=1, full=1), {"random": [0.3], "full": [0.9]}, tmp_path)
    (proposal,) = told.proposals
    assert proposal.comparison.difference is None
    assert proposal.add == (1, 1)
    assert row(proposal)[1] == "both +1 first, for an SD"
    assert proposal.cost.hours == pytest.approx(1 + 10 + 1)


def test_a_cell_without_a_result_waits(tmp_path):
    told, _ = outlook(grid(random=3, full=3), {"random": VALUES["random"]}, tmp_path)
    assert (len(told.settled), len(told.proposals), len(told.waiting)) == (0, 0, 1)
    assert summary(told).endswith("; 1 wait for a first result")


def test_an_unknown_cost_is_said_and_seeds_are_then_weighed_by_steps(tmp_path):
    sweep = grid(random=3, full=3)
    cells = sweep.cells()
    store = Store(str(tmp_path))
    statuses = {artifact: Status(state=State.NEW) for artifact in in_order([cell.artifact for cell in cells])}
    for cell, value in zip(cells, VALUES["random"] + VALUES["full"], strict=True):
        result = {"validation": {"token_accuracy": 0.5}, "test": {"exact_match": value}}
        statuses[cell.artifact] = done(**result)
    (proposal,) = next_seeds(sweep.tables[0], cells, statuses, store).proposals
    full, random = proposal.add
    assert random > full
    assert proposal.cost.steps == full * (1_000 + 5_000) + random * 1_000
    assert row(proposal)[-1] == "unknown"


def test_no_number_of_seeds_is_said(tmp_path):
    told, _ = outlook(grid(random=3, full=3), {"random": [0.30, 0.34, 0.38], "full": [0.301, 0.341, 0.381]}, tmp_path)
    (proposal,) = told.proposals
    assert proposal.add is None
    assert row(proposal)[1:2] + row(proposal)[-2:] == ["none up to 30 a side would", "", ""]
    assert told.additions == ()


# -------------------------------------------------------------------------------- the paper's tables


def claims(name, number=0):
    """The comparisons of a table of the paper before anything is run."""
    sweep = paper_sweep(name)
    cells = sweep.cells()
    statuses = {artifact: Status(state=State.NEW) for artifact in in_order([cell.artifact for cell in cells])}
    return [each.told for each in comparisons(sweep.tables[number], cells, statuses)]


def test_rows_are_held_against_baseline_and_ceiling():
    told = claims("table6")
    assert len(told) == len(set(told)) == 6 * (6 * 2 + 1)
    assert {"MTOP: Set against Random Init", "MTOP: Set against Pre-trained T5"} < set(told)
    assert "MTOP: Pre-trained T5 against Random Init" in told
    assert "MTOP: Random Init against Pre-trained T5" not in told


def test_without_a_baseline_neighbours_of_one_task_are_compared():
    assert claims("table5")[0] == "CNNDM-10K LIME: Full Init against Per Param Mean/SD"
    assert len(claims("table5")) == 9 * 6
    sizes = claims("table4")
    assert len(sizes) == 9 * 2
    assert sizes[:2] == ["Retrosyn-1K: Pre-trained T5 against LIME", "Retrosyn-1K: LIME against Random Init"]
    assert "SQuAD Set: Full Init against Per Param Mean/SD" in claims("table7")
    assert claims("table7", 1)[0] == "CNNDM-10K: Random Init against Pre-trained T5"


def test_the_papers_sd_stands_in_where_the_table_has_none_of_its_own():
    sweep = paper_sweep("table3")
    cells = [cell for cell in sweep.cells() if cell.fields["seed"] == 0]
    statuses = {artifact: Status(state=State.NEW) for artifact in in_order([cell.artifact for cell in cells])}
    for cell in cells:
        result = {"validation": {"token_accuracy": 0.5}, "test": {"rouge1": 0.2, "exact_match": 0.4}}
        statuses[cell.artifact] = done(**result)
    told = {each.told: each for each in comparisons(sweep.tables[0], cells, statuses)}
    value, random = told["MTOP: 0.2 against Random Init"].samples
    assert (random.origin, random.spread, random.freedom) == (Origin.PAPER, pytest.approx(0.021), 4)
    squares = [0.021**2, 0.003**2]  # Random Init and Pre-trained T5, the only two with a printed SD
    assert (value.origin, value.spread) == (Origin.PAPER, pytest.approx(statistics.fmean(squares) ** 0.5))


# -------------------------------------------------------------------------------- layouts without an answer


def test_a_cell_that_folds_more_than_seeds_has_no_sd_over_seeds():
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda init, extra, seed: trial(init, 10 * extra + seed), init=["random"], extra=[0, 1], seed=range(2))
    sweep.table(title="t", rows=("init",))
    artifacts = in_order([cell.artifact for cell in sweep.cells()])
    with pytest.raises(InputError, match="cell 'random' folds extra besides seed"):
        comparisons(sweep.tables[0], sweep.cells(), {artifact: Status(state=State.NEW) for artifact in artifacts})


def test_only_whole_numbers_have_a_next_one(tmp_path):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda init, seed: trial(init, int(seed)), init=["random", "full"], seed=["0"])
    sweep.table(title="t", rows=("init",), baseline=("random",))
    with pytest.raises(InputError, match="whole numbers to tell the next one, got '0'"):
        outlook(sweep, {"random": [0.3], "full": [0.4]}, tmp_path)

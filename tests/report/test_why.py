"""Why two artifacts differ, and which parameters the init schemes of fine-tunings set."""

import dataclasses

from raysynth.report.why import print_why
from raysynth.specs.identity import name
from tests.report.grids import record, trial


def test_fine_tunings_say_which_parameters_their_schemes_set(store, capsys):
    full = trial("full", 0)
    part = dataclasses.replace(full, init=dataclasses.replace(full.init, where=("attention", "relative_bias")))
    for artifact in (full, part, trial("random", 0)):
        record(store, artifact, 0.5)
    print_why(name(full), name(part), store)
    text = " ".join(capsys.readouterr().out.split())
    assert "init.where default ['attention', 'relative_bias']" in text
    assert "parameters set 25 of 26: " in text
    print_why(name(full), name(trial("random", 0)), store)
    assert " 0 of 26 " in capsys.readouterr().out

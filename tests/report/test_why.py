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
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("   sets 25 of 26 parameters: ")
    modules = "relpos_bias 2, encoder_decoder_attention 4, self_attention 4, attention 4"
    assert sorted(lines[3].split(": ")[1].split(", ")) == sorted(modules.split(", "))
    [where] = [line for line in lines if "init.where" in line]
    assert "['attention', 'relative_bias']" in where
    print_why(name(full), name(trial("random", 0)), store)
    assert "   sets 0 of 26 parameters" in capsys.readouterr().out.splitlines()

"""Why two artifacts differ, and which parameters the init schemes of fine-tunings set."""

import dataclasses

from raysynth.report.why import why
from raysynth.specs.identity import name
from tests.report.grids import record, trial


def test_fine_tunings_say_which_parameters_their_schemes_set(store):
    full = trial("full", 0)
    part = dataclasses.replace(full, init=dataclasses.replace(full.init, where=("attention", "relative_bias")))
    for artifact in (full, part, trial("random", 0)):
        record(store, artifact, 0.5)
    lines = why(name(full), name(part), store).splitlines()
    assert lines[0] == "init.where (None against ['attention', 'relative_bias'])"
    assert lines[-2].startswith(f"{name(full)} sets 25 of 26 parameters: ")
    modules = "relpos_bias 2, encoder_decoder_attention 4, self_attention 4, attention 4"
    assert sorted(lines[-1].split(": ")[1].split(", ")) == sorted(modules.split(", "))
    assert why(name(full), name(trial("random", 0)), store).splitlines()[-1].endswith(" sets 0 of 26 parameters")

"""USPTO-50K: reactions with and without atom mapping, and broken rows and files."""

import sys
from collections import Counter

import pytest

from raysynth.downstream.chemistry import rdkit
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.errors import InputError


def test_removing_the_atom_mapping_gives_the_reactions_of_the_unmapped_file(shared):
    pytest.importorskip("rdkit", reason="the extra `chemistry` is not installed")
    mapped = USPTO50K().read(str(shared / "data/uspto50k/mapped"))["validation"]
    unmapped = {}
    for pairs in USPTO50K().read(str(shared / "data/uspto50k")).values():
        for pair in pairs:
            unmapped.setdefault(pair.source, set()).add(pair.target)
    in_both = [pair for pair in mapped if pair.source in unmapped]
    assert len(mapped) == 1_000
    assert len(in_both) > 950  # about 1 % of the products in the unmapped file are not in RDKit's form
    assert Counter(pair.target in unmapped[pair.source] for pair in in_both)[True] / len(in_both) > 0.95


def test_without_rdkit_mapped_reactions_are_one_line_even_if_bad_rows_are_skipped(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    rdkit.cache_clear()
    folder = write({"train.csv": "class,id,rxn_smiles\n1,a,[CH4:1]>>[CH4:1]\n"})
    with pytest.raises(InputError, match=r"^RDKit is needed to read molecules: pip install 'raysynth\[chemistry\]'$"):
        USPTO50K().read(folder, lambda error: None)
    rdkit.cache_clear()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("CC > C.C", r"train\.smi, line 2: must have one '>>' between product and reactants, has 0"),
        ("CC >> ", r"train\.smi, line 2: empty reactants"),
    ],
    ids=["arrow", "empty"],
)
def test_a_bad_row_is_one_line_or_skipped_and_counted(line, message, check_bad_row):
    check_bad_row(USPTO50K(), {"train.smi": f"CC >> C.C\n{line}\n"}, message)


def test_a_bad_first_row_is_one_line(write):
    with pytest.raises(InputError, match=r"line 1: must have one '>>'") as error:
        USPTO50K().read(write({"train.smi": "x"}))
    assert "\n" not in str(error.value)

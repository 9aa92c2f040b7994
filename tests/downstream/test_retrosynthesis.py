"""USPTO-50K: reactions with and without atom mapping, and broken rows and files."""

import sys
from collections import Counter

import pytest

from raysynth.downstream.chemistry import rdkit
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.rows import Pair
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


@pytest.mark.parametrize("column", ["rxn_smiles", "reactants>reagents>production"])
@pytest.mark.parametrize("file", ["train.csv", "raw_train.csv"])
def test_both_names_of_the_column_of_reactions_are_read(write, column, file):
    pytest.importorskip("rdkit", reason="the extra `chemistry` is not installed")
    rows = f"id,class,{column}\nUS1,1,[CH3:1][OH:2].[OH2:3]>[Na+]>[CH3:1][O:2][CH3:3]\n\n"
    assert USPTO50K().read(write({file: rows}))["train"] == [Pair("COC", "CO.O")]
    with pytest.raises(InputError, match=rf"line 2: {column} must be REACTANTS>>PRODUCT, got 'CC'"):
        USPTO50K().read(write({file: f"id,{column}\n1,CC\n"}))


def test_molecules_on_which_rdkit_would_crash_are_bad_rows(write):
    pytest.importorskip("rdkit", reason="the extra `chemistry` is not installed")
    with pytest.raises(InputError, match="RDKit cannot read the product of rxn_smiles"):
        USPTO50K().read(write({"train.csv": f"rxn_smiles\nC>>{'C' * 50_000}\n"}))


def test_a_bad_first_row_is_one_line(write):
    with pytest.raises(InputError, match=r"line 1: must have one '>>'") as error:
        USPTO50K().read(write({"train.smi": "x"}))
    assert "\n" not in str(error.value)

"""USPTO-50K: products of chemical reactions to their reactants (Appendix D.2)."""

from collections.abc import Iterator
from pathlib import Path

from raysynth.downstream.chemistry import canonical_smiles, rdkit
from raysynth.downstream.formats import csv_rows, line_rows
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import SOURCE_TARGET_FORMATS, FileFormat, read_splits
from raysynth.errors import InputError, brief
from raysynth.fields import spec


@spec
class USPTO50K:
    """Products of chemical reactions and the reactants that give them, as SMILES (Appendix D.2).

    Reads `retrosynthesis-train.smi` or `train.smi`, with one reaction `PRODUCT >> REACTANT.REACTANT` per line and no
    atom mapping, and `train.csv` or `raw_train.csv`, with a column `rxn_smiles` or `reactants>reagents>production` of
    the form `REACTANTS>>PRODUCT`. RDKit removes the atom mapping of the tables.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        formats = [
            FileFormat("retrosynthesis-{}.smi", line_rows, _unmapped_pair),
            FileFormat("{}.smi", line_rows, _unmapped_pair),
            FileFormat("{}.csv", _mapped_rows, _mapped_pair),
            FileFormat("raw_{}.csv", _mapped_rows, _mapped_pair),
            *SOURCE_TARGET_FORMATS,
        ]
        return read_splits("retrosynthesis", location, formats, bad_row)


def _unmapped_pair(row: Row) -> Pair:
    sides = row.record.split(">>")
    if len(sides) != 2:
        raise row.error(f"must have one '>>' between product and reactants, has {len(sides) - 1}")
    record = Row(row.place, dict(zip(("product", "reactants"), sides, strict=True)))
    return Pair(record.text("product"), record.text("reactants"))


def _mapped_rows(file: Path) -> Iterator[Row | InputError]:
    rdkit()  # fail here if RDKit is missing, before every row counts as bad
    yield from csv_rows(file)


_COLUMNS = ("rxn_smiles", "reactants>reagents>production")
"""The names of the column with the reactions: of most tables, and of those that GLN's authors published."""


def _mapped_pair(row: Row) -> Pair:
    column = next((column for column in _COLUMNS if column in row.record), _COLUMNS[0])
    sides = row.text(column).split(">")
    if len(sides) != 3:
        raise row.error(f"{column} must be REACTANTS>>PRODUCT, got {brief(row.record[column])}")
    product, reactants = canonical_smiles(sides[2]), canonical_smiles(sides[0])
    if product is None or reactants is None:
        raise row.error(f"RDKit cannot read the {'reactants' if product else 'product'} of {column}")
    return Pair(product, reactants)

"""USPTO-50K: products of chemical reactions to their reactants (Appendix D.2)."""

from collections.abc import Iterator
from pathlib import Path

from raysynth.downstream.chemistry import canonical_smiles, rdkit
from raysynth.downstream.rows import READY, BadRow, Form, Pair, Row, comma_separated, lines, read_splits, refuse
from raysynth.errors import InputError
from raysynth.fields import spec


@spec
class USPTO50K:
    """Products of chemical reactions and the reactants that give them, as SMILES (Appendix D.2).

    Read are lines `PRODUCT >> REACTANT.REACTANT` without atom mapping (`retrosynthesis-train.smi`), and tables with
    `rxn_smiles` as `REACTANTS>>PRODUCT` (`train.csv`), whose atom mapping RDKit takes out.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Pairs by split; see the module."""
        forms = [
            Form("retrosynthesis-{}.smi", lines, _reaction_line),
            Form("{}.smi", lines, _reaction_line),
            Form("{}.csv", _mapped_reactions, _mapped_reaction),
            Form("raw_{}.csv", _mapped_reactions, _mapped_reaction),
            *READY,
        ]
        return read_splits("retrosynthesis", location, forms, bad_row)


def _reaction_line(row: Row) -> Pair:
    sides = row.record.split(">>")
    if len(sides) != 2:
        raise row.error(f"must have one '>>' between product and reactants, has {len(sides) - 1}")
    record = Row(row.place, dict(zip(("product", "reactants"), sides, strict=True)))
    return Pair(record.text("product"), record.text("reactants"))


def _mapped_reactions(file: Path) -> Iterator[Row | InputError]:
    rdkit()  # its absence is no fault of a row
    yield from comma_separated(file)


def _mapped_reaction(row: Row) -> Pair:
    sides = row.text("rxn_smiles").split(">")
    if len(sides) != 3:
        raise row.error(f"rxn_smiles must be REACTANTS>>PRODUCT, got {row.record['rxn_smiles']!r:.60}")
    product, reactants = canonical_smiles(sides[2]), canonical_smiles(sides[0])
    if product is None or reactants is None:
        raise row.error(f"RDKit cannot read the {'reactants' if product else 'product'} of rxn_smiles")
    return Pair(product, reactants)

"""Molecules as RDKit reads them; RDKit comes with the extra `chemistry` and is loaded only where it is used."""

from functools import lru_cache
from typing import Any

from raysynth.errors import InputError


def canonical_smiles(smiles: str) -> str | None:
    """RDKit's canonical form of molecules joined by dots, without atom mapping; None where it can read none.

    Raises `InputError` where RDKit is not installed.
    """
    chemistry = rdkit()
    molecule = chemistry.MolFromSmiles(smiles) if smiles.strip() else None
    if molecule is None:
        return None
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    # Once more, since the order of atoms in the first form may still follow the mapping.
    return chemistry.CanonSmiles(chemistry.MolToSmiles(molecule))


@lru_cache(maxsize=1)
def rdkit() -> Any:
    """RDKit's `Chem` with its warnings turned off; raises `InputError` where it is not installed."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        raise InputError("RDKit is needed to read molecules: pip install 'raysynth[chemistry]'") from None
    RDLogger.DisableLog("rdApp.*")
    return Chem

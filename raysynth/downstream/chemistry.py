"""Canonical SMILES from RDKit, which comes with the extra `chemistry` and is imported on first use."""

from functools import lru_cache
from types import ModuleType

from raysynth.errors import InputError


def canonical_smiles(smiles: str) -> str | None:
    """RDKit's canonical form of molecules that are joined by dots, without atom mapping; None if RDKit rejects them.

    Very long texts count as rejected, because RDKit's recursion ends the process. Raises `InputError` if RDKit is not
    installed.
    """
    chemistry = rdkit()
    molecule = chemistry.MolFromSmiles(smiles) if smiles.strip() and len(smiles) <= _MAX_LENGTH else None
    if molecule is None:
        return None
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    # Canonicalize the output once more: its order of atoms may still depend on the mapping.
    return str(chemistry.CanonSmiles(chemistry.MolToSmiles(molecule)))


_MAX_LENGTH = 2_000
"""In characters; the longest reactants of USPTO-50K have fewer than a thousand."""


@lru_cache(maxsize=1)
def rdkit() -> ModuleType:
    """RDKit's module `Chem`, with RDKit's warnings turned off; raises `InputError` if RDKit is not installed."""
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise InputError("RDKit is needed to read molecules: pip install 'raysynth[chemistry]'") from None
    rdBase.DisableLog("rdApp.*")
    chemistry: ModuleType = Chem
    return chemistry

"""Everything that computes: the T5, its optimizer, training, decoding and checkpoints."""

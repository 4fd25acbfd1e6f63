"""Mathematics on arrays: losses, penalties, augmentation, image formulas, Fréchet distance."""

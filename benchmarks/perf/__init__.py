"""How fast is it? Ratios against plain references, side by side in one run."""

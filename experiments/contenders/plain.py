"""A plain PyTorch loop: one run after another, the data in memory.

python -m contenders.plain mlp_digits      # in experiments/
"""

from __future__ import annotations

from contenders.loop import one_after_another

if __name__ == "__main__":
    one_after_another(__doc__)

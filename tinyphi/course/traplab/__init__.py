"""Traps: real mistakes of real programs, planted into tinyphi for the time of a `with` block.

    with tinyphi.course.trap("stale_longrope"):
        …                                       # the library has that bug here, and nowhere else
    with tinyphi.course.trap(seed=3) as case:   # one of the suspects, and nobody says which
        …
    case.reveal()

`tinyphi.course.traps()` lists them. forward.py holds the mistakes inside of the forward pass, which
`parity.bisect` finds; outside.py those before and after it, which show in ids and text; miniature.py a model
and a tokenizer so small that every test is quick, and with everything that can go wrong.
"""

from tinyphi.course.traplab import forward, outside  # noqa: F401  (they enter their traps)
from tinyphi.course.traplab.lab import Planted, Thread, Trap, trap, traps
from tinyphi.course.traplab.miniature import miniature

__all__ = ["Planted", "Thread", "Trap", "miniature", "trap", "traps"]

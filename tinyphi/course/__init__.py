"""What surrounds the library for learning: exercises that judge, traps, and comparing with a reference.

    tinyphi.course.check("attention.causal_mask", causal_mask)    # judge your function
    tinyphi.course.solution("attention.causal_mask")              # give up
    with tinyphi.course.trap("stale_longrope"): …                  # a real mistake, for the time of the block

On the command line, `tinyphi course` shows your progress and builds folders for a class.
"""

from tinyphi.course.check import Feedback, check, solution
from tinyphi.course.traplab import trap, traps

__all__ = ["Feedback", "check", "solution", "trap", "traps"]

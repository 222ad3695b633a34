"""What may be asked and said: a policy, a filter, attacks, and runs that measure both."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyphi.safety.filter import SafetyFilter

__all__ = ["SafetyFilter"]


def __getattr__(name: str) -> Any:
    if name == "SafetyFilter":  # when it is used, so that the policy can be read without numpy
        from tinyphi.safety.filter import SafetyFilter

        return SafetyFilter
    raise AttributeError(f"module 'tinyphi.safety' has no attribute {name!r}")

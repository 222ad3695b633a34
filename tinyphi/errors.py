"""One family of errors. Each says what was wrong, where, and what to do next."""


class TinyphiError(Exception):
    """The base of every error that tinyphi raises on purpose."""


class ConfigError(TinyphiError):
    """A configuration that no model can have, or that tinyphi cannot represent."""


class InputError(TinyphiError):
    """An argument of the wrong type, shape or range."""


class TokenizerError(TinyphiError):
    """Tokenizer files that are missing or damaged, or text or ids that cannot be converted."""


class WeightsError(TinyphiError):
    """Weight files that are missing, truncated, corrupt or do not fit the configuration."""


class FetchError(TinyphiError):
    """A file that could not be downloaded, or that arrived different from what was promised."""


class MemoryShortage(TinyphiError):
    """A request that needs more memory than this machine has free."""


class TrainingError(TinyphiError):
    """Training that cannot go on: numbers that are not finite, or a checkpoint that does not fit."""

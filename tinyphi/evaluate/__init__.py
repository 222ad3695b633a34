"""How good a model is: the scores that were `published`, each with its source."""

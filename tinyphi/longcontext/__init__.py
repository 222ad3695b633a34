"""Long texts: how a model trained on short ones is extended, and the search for LongRoPE's factors."""

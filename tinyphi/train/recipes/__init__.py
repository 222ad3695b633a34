"""Whole trainings, from nothing to a finished model, each with its data and its numbers."""

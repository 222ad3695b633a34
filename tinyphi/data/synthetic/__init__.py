"""A textbook, stories, questions and conversations about a small world, made by rule, all with their truth.

Phi-1 to Phi-3 were trained in large part on text that other models wrote (Gunasekar et al. 2023, "Textbooks
are all you need", arXiv 2306.11644). Here rules write it, so that every sentence can be checked and every
question marked.
"""

"""Measure tinyphi beside the libraries that do the same, on the same weights: `tinyphi bench`.

engines     tinyphi, llama.cpp and transformers behind one interface
timing      work that alternates, and the tables of its medians and ratios
fresh       time and memory, each in a process of its own
bandwidth   how fast this machine reads memory, and what reading the weights takes
models      whole models: the commands decode, quantized and phi3
long        prompts that double in length: the commands long and layer
sparse      block-sparse attention beside dense: the command sparse
trainers    training of tinyphi, transformers and TRL behind one interface
train       tokens/s and memory of training, and of DPO: the command train
random_phi3 a file of Phi-3-mini's shape, for phi3 and layer
kernels     single matrices: the command kernels
formats     the quality of each format: the command formats
report      tables into a Markdown file
command     the command line
"""

from tinyphi.bench.command import main

__all__ = ["main"]

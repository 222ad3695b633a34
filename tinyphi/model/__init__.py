"""The architecture of Phi-3. It knows no file, no tokenizer and no widget.

Read in this order: `norm`, `rope`, `mask`, `attention`, `mlp`, `transformer`, then `cache` and `trace`;
`blocksparse` is for Phi-3-small alone.

The axes have the same letters everywhere: b batch, t tokens (queries), s source tokens (keys, cached ones
included), d model width, h query heads, n key/value heads, g query heads per key/value head, c channels per
head, r rotated pairs of channels, f MLP width, v vocabulary.
"""

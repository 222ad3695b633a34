"""From logits to text: `sampling` chooses a token, `decode` repeats, `chat` keeps a conversation."""

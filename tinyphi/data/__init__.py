"""What a model is trained on: text made by rule, text that was chosen, and how it is packed into rows."""

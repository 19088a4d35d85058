"""From tensor to model."""

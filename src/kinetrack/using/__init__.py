"""From model to answer."""

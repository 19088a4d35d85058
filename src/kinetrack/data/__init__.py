"""From video to tensor."""

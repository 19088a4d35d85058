"""The lecture's way and Kinetrack's, side by side: `make bench`, or `python -m benchmarks.run`."""

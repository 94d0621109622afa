"""Measuring wsd: `python -m bench` beside its peers, `python -m bench.micro` in small; see docs/performance.md."""

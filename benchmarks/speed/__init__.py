"""How fast, against others and against the floor of the machine: python -m benchmarks.speed."""

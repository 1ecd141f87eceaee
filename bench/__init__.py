"""Benchmarks of the whole path over real servers; each program prints one JSON object."""

"""`python -m benchmarks`: list the benchmarks, each with the first line of its description."""

from __future__ import annotations

from benchmarks.harness import benchmarks

if __name__ == "__main__":
    for name, description in benchmarks().items():
        print(f"python -m {name:32} {description}")

"""`python -m distill_prune` is the command."""

from distill_prune.cli import main

if __name__ == "__main__":
    main()

"""`distill-prune` is this module, and so is `python -m distill_prune`."""

from distill_prune import interrupts

interrupts.end_at_once()

from distill_prune.cli import main  # noqa: E402 - an interrupt may come while this is imported

if __name__ == "__main__":
    main()

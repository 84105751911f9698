"""What the tests of removal ask of a store, and somebody at a terminal who answers the command."""

from __future__ import annotations

from typing import Any

import pytest

from distill_prune.store.store import Store


def keys(store: Store) -> set[str]:
    return {r.key for r in store.all()}


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Made a fixture by its tests: somebody at a terminal who gives an answer."""

    def answer(text: str) -> None:
        import io

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("sys.stdin", Terminal(text))

    return answer

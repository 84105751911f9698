"""Arithmetic of whole numbers."""


def ceil_div(a: int, b: int) -> int:
    """The quotient a / b of integers, b > 0, rounded up."""
    return -(-a // b)

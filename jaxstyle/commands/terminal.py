"""What commands print."""


def printable(text: str) -> str:
    r"""Escape what would break the line or the terminal; file names may hold anything.

    Args:
      text: one line.

    Returns:
      The line, of printable characters only.

    Example:
      >>> print(printable('two\nlines'))
      two\nlines
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

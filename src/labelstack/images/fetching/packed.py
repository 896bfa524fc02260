"""Bodies that a server packed, unasked or not, unpacked within a limit."""

from __future__ import annotations

import zlib

from labelstack.images.fetching.status import RefusedError

_CODINGS = 4  # over one another
_MEMBERS = 4096
_PIECE = 2**16
_GZIP = b"\x1f\x8b"
_ANY = 47  # gzip or zlib
_RAW = -15


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content codings; those that are not known, and ``identity``, are taken for none.

    Parameters
    ----------
    body : bytes
    encoding : str
        The Content-Encoding header: codings in the order in which they were applied.
    limit : int
        Bytes that no unpacked body may exceed.

    Raises
    ------
    RefusedError
        ``too_large``; ``not_an_image`` when the body is not packed as the header says.
    """
    codings = [each.strip().lower() for each in encoding.split(",")]
    packed = [each for each in reversed(codings) if each in {"gzip", "x-gzip", "deflate"}]
    if len(packed) > _CODINGS:
        raise RefusedError("not_an_image")
    for coding in packed:
        body = _streams(body, limit, raw=coding == "deflate")
    return body


def _streams(body: bytes, limit: int, *, raw: bool) -> bytes:
    """The contents of a gzip or zlib stream, of gzip's further members, or of a bare deflate stream where ``raw``."""
    parts, start, left = list[bytes](), 0, limit
    for _ in range(_MEMBERS):
        try:
            part, end = _inflated(body, start, left, _ANY)
        except zlib.error:
            if start:
                break
            try:
                part, end = _inflated(body, start, left, _RAW if raw else _ANY)
            except zlib.error:
                raise RefusedError("not_an_image") from None
        parts.append(part)
        start, left = end, left - len(part)
        if body[start : start + 2] != _GZIP:
            break
    return b"".join(parts)


def _inflated(body: bytes, start: int, limit: int, wbits: int) -> tuple[bytes, int]:
    """The contents of the stream that begins at ``start``, and where it ends."""
    stream, parts, size = zlib.decompressobj(wbits), list[bytes](), 0
    while start < len(body) and not stream.eof:
        piece = body[start : start + _PIECE]
        parts.append(stream.decompress(piece, limit + 1 - size))
        size += len(parts[-1])
        if size > limit:
            raise RefusedError("too_large")
        start += len(piece) - len(stream.unconsumed_tail) - len(stream.unused_data)
    return b"".join(parts), start

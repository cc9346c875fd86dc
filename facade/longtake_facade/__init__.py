"""The server: normalises a chain, renders its stages on Triton, stitches, and streams what happens."""

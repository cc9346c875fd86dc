"""What Longtake costs, measured: ``python -m benchmarks`` runs every module here that has a ``measure()``.

``measure() -> list[dict]`` gives rows of ``name``, ``value``, ``unit``, ``goal`` (a number, or None where there is
none) and ``better`` (``"lower"`` or ``"higher"``).
"""

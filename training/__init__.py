"""How the default checkpoint is made: a tiny LTX-2 of a small procedural world, trained on a CPU.

``python -m training`` makes it (``make train-tiny``), ``python -m training.evaluation`` scores it (``make eval-tiny``).
"""

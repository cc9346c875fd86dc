"""The steps of the diffusion pipeline, as they run inside Triton's Python-backend models.

``contract`` and ``geometry`` are light and shared with the facade; everything else needs the ``stages`` extra.
"""

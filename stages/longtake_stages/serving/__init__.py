"""Between Triton's Python backend and the models: tensors, errors, cancellation and counters.

The backend's module ``triton_python_backend_utils`` exists only inside the backend's own process, so
``model_repository/*/1/model.py`` hand it over, and everything here works with a stand-in for it.

Heavy work runs inside ``execute``, not on a thread of its own: an instance that returned from ``execute`` counts as
idle, so Triton would queue further work behind the running one while other instances stand by. This way every
instance has exactly one request, and what waits, waits in Triton, where it can be cancelled.
"""

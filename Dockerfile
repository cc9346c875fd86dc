# syntax=docker/dockerfile:1
# Two images: `triton` serves the models, `facade` serves the users.
#   docker build --target triton -t longtake-triton .
#   docker build --target facade -t longtake-facade .

# Releases before 25.07 have CVE-2025-23319 and its chain (remote code), before 26.03 CVE-2026-24207 (critical), and
# NVIDIA's bulletins up to 5875 ask for 26.07 or later. 26.09 fixes a crash of Python models that use metrics, 26.11
# streams that were cancelled silently under backpressure; these models do both.
ARG TRITON_TAG=26.11-py3
ARG PYTHON_TAG=3.11.15-slim-trixie

# ---- models -------------------------------------------------------------------------------------------------------

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS triton-build
WORKDIR /src
# An environment of its own: packages of the distribution cannot be replaced by pip. The Python backend's stub embeds
# the system's libpython and finds this environment by the `python3` that is first in PATH.
RUN python3 -m venv --without-pip /opt/longtake
# First the dependencies alone (gigabytes), so that a change of the source does not install them again. On x86-64
# Linux the registry's torch is the CUDA build; numpy stays below 2 (pyproject.toml says why).
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir client facade stages \
    && python3 -m pip --python /opt/longtake/bin/python install --no-cache-dir -c constraints.txt ".[stages]"
COPY client client
COPY facade facade
COPY stages stages
COPY model_repository model_repository
RUN python3 -m pip --python /opt/longtake/bin/python install --no-cache-dir --no-deps --force-reinstall .

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS triton
COPY --from=triton-build /opt/longtake /opt/longtake
COPY model_repository /models
ENV PATH=/opt/longtake/bin:$PATH \
    LONGTAKE_CHECKPOINT=/checkpoints/tiny-ltx2 \
    HF_HUB_CACHE=/checkpoints/hub \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The unprivileged user triton-server of the base image.
USER 1000:1000
EXPOSE 8001
# The facade speaks gRPC; HTTP, where most of the server's flaws were, is left to a health check inside the container.
# No request loads a model, and none registers shared memory (the way of the 2025 attacks).
CMD ["tritonserver", \
     "--model-repository=/models", \
     "--model-control-mode=explicit", \
     "--load-model=*", \
     "--http-address=127.0.0.1", \
     "--metrics-address=0.0.0.0", \
     "--allow-client-shm=false", \
     "--exit-timeout-secs=30", \
     "--log-format=ISO8601"]

# ---- facade -------------------------------------------------------------------------------------------------------

FROM python:${PYTHON_TAG} AS facade-build
WORKDIR /src
RUN python -m venv /opt/longtake
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir client facade stages \
    && /opt/longtake/bin/pip install --no-cache-dir -c constraints.txt ".[facade]"
COPY client client
COPY facade facade
COPY stages stages
COPY model_repository model_repository
RUN /opt/longtake/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:${PYTHON_TAG} AS facade
RUN groupadd --system --gid 10001 longtake \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin longtake \
    && install -d -o longtake -g longtake /data
COPY --from=facade-build /opt/longtake /opt/longtake
ENV PATH=/opt/longtake/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /data
EXPOSE 8188
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8188/health', timeout=4)"]
ENTRYPOINT ["longtake"]
CMD ["serve", "--help"]

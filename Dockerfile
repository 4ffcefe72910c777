# docker build --target cpu -t vnp:cpu .      docker build --target cuda -t vnp:cuda .      (docs/install.md)
ARG PYTHON=python:3.12.12-slim-bookworm

FROM ${PYTHON} AS wheel
ENV HOME=/cache
WORKDIR /src
COPY . .
ARG EXTRAS=all
RUN --mount=type=cache,target=/cache/.cache/pip \
    python packaging/requirements.py "${EXTRAS}" > /requirements.txt \
    && python -m pip wheel --no-deps --wheel-dir /wheels .

FROM ${PYTHON} AS base
# Whatever user a container is run as, it may write to /cache: weights, compiled kernels and loops.
RUN useradd --uid 1000 --home-dir /cache --no-create-home vnp \
    && mkdir -m 1777 /cache /cache/.cache /data
ENV HOME=/cache \
    XDG_CACHE_HOME=/cache/.cache \
    HF_HOME=/cache/huggingface \
    NUMBA_CACHE_DIR=/cache/numba \
    TRITON_CACHE_DIR=/cache/triton \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /data
ENTRYPOINT ["vnp"]
CMD ["--help"]

# torch brings CUDA's libraries; the host has the driver. Triton compiles its launcher with gcc.
FROM base AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=wheel,source=/requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/cache/.cache/pip \
    python -m pip install --constraint /constraints.txt --requirement /requirements.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-deps /wheels/*.whl
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000

FROM base AS cpu
ARG INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,from=wheel,source=/requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/cache/.cache/pip \
    python -m pip install --extra-index-url "${INDEX}" --constraint /constraints.txt --requirement /requirements.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-deps /wheels/*.whl
USER 1000

# Images of timbre. Targets: cpu, and gpu (the last: what `docker build .` makes).
#
#   docker build --target cpu --tag timbre:cpu .
#   docker build --target gpu --tag timbre:gpu .
#
# They run as no root, from a root file system that may be read-only: what is written goes to /tmp and $HOME
# (docs/operations/install.md). Every step of cpu is executed by `make image`, in a chroot, where no image can be pulled.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
# bash and wget: KubeRay's probes are made of them.
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends python3 python3-venv ca-certificates bash wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS sources
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE NOTICE serve_config.yaml serve_config.cpu.yaml ./
COPY pipeline pipeline
COPY deployments deployments
COPY cache_store cache_store
RUN python3 -m venv /opt/timbre \
 && /opt/timbre/bin/pip install --quiet --no-cache-dir --constraint constraints.txt 'setuptools>=77' wheel \
 && /opt/timbre/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist .

FROM sources AS with-cpu
# Where torch comes from without CUDA's libraries, for example: --index-url https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=""
RUN /opt/timbre/bin/pip install --quiet --no-cache-dir --constraint constraints.txt ${TORCH_INDEX} torch \
 && /opt/timbre/bin/pip install --quiet --no-cache-dir --constraint constraints.txt "$(ls /dist/timbre-*.whl)[cpu,embedded,oidc]" \
 && /opt/timbre/bin/pip uninstall --quiet --yes wheel pip \
 && cd /opt/timbre/lib/python3*/site-packages && rm -rf torch/include pyarrow/include \
      pyarrow/tests scipy/*/tests sklearn/*/tests pandas/tests numba/tests sympy/*/tests

FROM sources AS with-gpu
RUN /opt/timbre/bin/pip install --quiet --no-cache-dir --constraint constraints.txt torch \
 && /opt/timbre/bin/pip install --quiet --no-cache-dir --constraint constraints.txt "$(ls /dist/timbre-*.whl)[gpu,embedded,oidc]" \
 && /opt/timbre/bin/pip uninstall --quiet --yes wheel pip

# What both have when they run.
FROM python AS runtime
RUN useradd --uid 10001 --create-home --home-dir /var/lib/timbre --shell /usr/sbin/nologin timbre
ENV PATH=/opt/timbre/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/timbre PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/tmp/numba RAY_USAGE_STATS_ENABLED=0
WORKDIR /srv/timbre
COPY serve_config.yaml serve_config.cpu.yaml ./
EXPOSE 8000
# A start reads the weights: minutes with the released model from a cold disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["wget", "--quiet", "--tries=1", "--timeout=4", "--output-document=-", "http://127.0.0.1:8000/healthz"]
STOPSIGNAL SIGINT

FROM runtime AS cpu
COPY --from=with-cpu /opt/timbre /opt/timbre
USER timbre
CMD ["serve", "run", "--address", "local", "serve_config.cpu.yaml"]

FROM runtime AS gpu
# Triton compiles what launches its kernels on the machine that runs them.
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends gcc libc6-dev python3-dev \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=with-gpu /opt/timbre /opt/timbre
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility TRITON_CACHE_DIR=/var/lib/timbre/triton
USER timbre
CMD ["serve", "run", "--address", "local", "serve_config.yaml"]

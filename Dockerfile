# The server as an image: `docker build -t twinrank .`
#
# The generations come from outside, mounted at /var/lib/twinrank/generations, and the store keeps its files beside them, in
# /var/lib/twinrank/store; the image holds code and libraries only.
# Configuration by environment (TWINRANK_<SECTION>__<KEY>, docs/configuration.md) or by a mounted file and `--config`.
# The admin listener is off; to use it, mount a token file of at least 16 characters and set
# TWINRANK_ADMIN__ENABLED=true and TWINRANK_ADMIN__TOKEN_FILE; it listens on the container's loopback.

FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY client/twinrank_client client/twinrank_client
COPY protos/twinrank protos/twinrank
# torch: the index that pip is configured with decides which build of the pinned version comes. The CPU build is enough,
# and is a fraction of the CUDA build's size; where the default index has the CUDA build, name the index of the CPU
# builds with --build-arg PIP_EXTRA_INDEX_URL=… (https://pytorch.org/get-started/locally/).
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir ".[server]"

FROM python:3.11-slim

# Compiled kernels go to /var/cache/twinrank: keep it (a volume) and only the first start on a kind of processor compiles.
RUN useradd --uid 10001 --no-log-init --no-create-home --home-dir /nonexistent twinrank \
    && install --directory --owner twinrank /var/lib/twinrank /var/lib/twinrank/generations /var/cache/twinrank
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY towers towers
COPY index index
COPY server server

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/var/cache/twinrank \
    TWINRANK_LISTEN__HOST=0.0.0.0 \
    TWINRANK_METRICS__HOST=0.0.0.0 \
    TWINRANK_ADMIN__ENABLED=false \
    TWINRANK_GENERATIONS__ROOT=/var/lib/twinrank/generations

USER twinrank
VOLUME ["/var/lib/twinrank", "/var/cache/twinrank"]
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# SERVING, not only listening: a server without a good generation is unhealthy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import os, grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; port = os.environ.get('TWINRANK_LISTEN__PORT', '50051'); answer = health_pb2_grpc.HealthStub(grpc.insecure_channel('127.0.0.1:' + port)).Check(health_pb2.HealthCheckRequest(service='twinrank.v1.RecommendationService'), timeout=2); raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)"]
CMD ["python", "-m", "server"]

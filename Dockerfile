# syntax=docker/dockerfile:1
# OPMAS: manager, API and command line in one image. Packages are mounted at /packages, state is kept in /var/lib/opmas.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock ./
# uv itself comes from the lock too, with its hash.
RUN python -m venv /tools \
 && sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.lock \
 && /tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r uv.lock
# The lock as a constraint: only what the program itself needs is installed, in the locked versions with the locked
# hashes; what is needed to test it stays out.
COPY pyproject.toml README.md LICENSE ./
COPY opmas opmas
COPY agent_manager agent_manager
COPY management_api management_api
COPY migrations migrations
RUN python -m venv --without-pip /opt/opmas \
 && /tools/bin/uv build --wheel --out-dir dist --build-constraints requirements.lock \
 && /tools/bin/uv pip install --no-cache --python /opt/opmas --compile-bytecode --constraints requirements.lock dist/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/opmas --shell /usr/sbin/nologin opmas \
 && install -d -o opmas -g opmas -m 0700 /var/lib/opmas \
 && install -d /packages /etc/opmas
COPY --from=build /opt/opmas /opt/opmas
COPY config /etc/opmas/config
ENV PATH=/opt/opmas/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OPMAS_HOME=/var/lib/opmas \
    OPMAS_PACKAGES=/packages
# Settings are read from ./config.
WORKDIR /etc/opmas
USER opmas
VOLUME /var/lib/opmas
EXPOSE 8000
# Everything in one container, for a trial; docker-compose.yml runs the servers apart and overrides both lines. Started
# with --init, so that somebody reaps what killed processes leave behind.
CMD ["opmas", "up"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

# DistIL without a GPU: `docker build -f docker/cpu.Dockerfile -t distil .` in the root of a clone.
# docs/containers.md says how it is run.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# git for workspaces and snapshots; bubblewrap for code that a model wrote.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap git \
    && rm -rf /var/lib/apt/lists/*
# pip's own variables choose the index. With one that has torch's CPU build, the image is gigabytes smaller.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements/core.txt /tmp/core.txt
RUN pip install --no-cache-dir --requirement /tmp/core.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -rf /tmp/wheels /tmp/core.txt
RUN useradd --create-home --uid 1000 distil && mkdir /campaigns && chown distil:distil /campaigns
USER distil
ENV OMP_NUM_THREADS=1
WORKDIR /campaigns
ENTRYPOINT ["distil"]
CMD ["--help"]

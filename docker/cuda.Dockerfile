# DistIL with vLLM for a CUDA GPU: `docker build -f docker/cuda.Dockerfile -t distil-cuda .` in the root
# of a clone. docs/containers.md says how it is run.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# git for workspaces and snapshots; bubblewrap for code that a model wrote; a compiler for kernels that
# are made on the spot. The driver comes from the machine, CUDA's libraries with torch.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap g++ git \
    && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements/vllm-gpu.txt requirements/core.txt /tmp/
# The second lock leaves out what the CUDA build of torch brings, so pip follows what torch asks for.
RUN pip install --no-cache-dir --requirement /tmp/core.txt \
    && pip install --no-cache-dir --no-deps --requirement /tmp/vllm-gpu.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -rf /tmp/wheels /tmp/*.txt
RUN useradd --create-home --uid 1000 distil && mkdir /campaigns && chown distil:distil /campaigns
USER distil
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /campaigns
ENTRYPOINT ["distil"]
CMD ["--help"]

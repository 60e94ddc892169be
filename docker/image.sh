#!/usr/bin/env bash
# How does this commit become an image of a registry? `image.sh build`, then `image.sh push`, which notes in build/image
# the one line that helm-values/deploy.sh takes: NAME@DIGEST COMMIT.
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    echo "image: $*" >&2
    exit 2
}

[[ ${REGISTRY:-} ]] || die "no registry: say REGISTRY=localhost:32000, or the one that terraform/ made"
engine=${DOCKER:-docker}
command -v "$engine" >/dev/null || die "no $engine on PATH; DOCKER=podman takes another engine"
commit=$(git rev-parse --short=12 HEAD)
[[ -z $(git status --porcelain) ]] || commit+=-dirty
name=$REGISTRY/stilt-assets

case ${1:-} in
build)
    "$engine" build --platform linux/amd64 --file docker/Dockerfile --build-arg "COMMIT=$commit" --tag "$name:$commit" .
    ;;
push)
    "$engine" push "$name:$commit"
    digest=$("$engine" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$name:$commit" |
        grep -m 1 -x "$name@sha256:[0-9a-f]\{64\}") || die "$engine knows no digest of $name:$commit after its push"
    mkdir -p build
    echo "$digest $commit" >build/image
    echo "image: pushed $digest"
    ;;
*)
    die "say build or push"
    ;;
esac

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
[[ $REGISTRY =~ ^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*$ ]] ||
    die "'$REGISTRY' is no registry: say HOST:PORT or HOST/FOLDER, without https:// and without a slash at the end"
engine=${DOCKER:-docker}
command -v "$engine" >/dev/null || die "no $engine on PATH; DOCKER=podman takes another engine"
[[ $("$engine" --version) == podman* ]] && podman=yes || podman=
commit=$(git rev-parse --short=12 HEAD) || die "this is no clone of the repository: an image is named by its commit"
if [[ $(git status --porcelain) ]]; then # a name of what the files are now, since a registry may keep each name for ever
    index=$(mktemp)
    trap 'rm -f "$index"' EXIT
    cp "$(git rev-parse --git-path index)" "$index"
    GIT_INDEX_FILE=$index git add --all
    tree=$(GIT_INDEX_FILE=$index git write-tree)
    commit+=-dirty-${tree::8}
fi
name=$REGISTRY/stilt-assets
image=$name:$commit

case ${1:-} in
build)
    DOCKER_BUILDKIT=1 "$engine" build --platform linux/amd64 --file docker/Dockerfile --build-arg "COMMIT=$commit" \
        --tag "$image" . || die "$engine could not build $image; its words are above"
    ;;
push)
    mkdir -p build
    rm -f build/image build/digest
    words=()
    if [[ $podman ]]; then # which packs layers anew as it pushes: the digest is known only then
        words+=(--digestfile build/digest)
        [[ ! $REGISTRY =~ ^([a-z0-9.-]+\.)?localhost: ]] || words+=(--tls-verify=false)
    fi
    "$engine" push ${words[@]+"${words[@]}"} "$image" || {
        # The registry may hold this commit's image already, and let nothing take its place.
        [[ $commit != *-dirty-* && ! $podman ]] && "$engine" pull "$image" ||
            die "$engine could not push $image; its words are above: not signed in, no such registry, no room, or the registry keeps this tag"
        echo "image: $REGISTRY has an image of this commit already, which is taken"
    }
    if [[ $podman ]]; then
        digest=$name@$(<build/digest)
    else
        digest=$("$engine" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image" |
            grep -m 1 -x "$name@sha256:[0-9a-f]\{64\}") || die "$engine knows no digest of $image after its push"
    fi
    echo "$digest $commit" >build/image
    echo "image: pushed $digest"
    ;;
*)
    die "say build or push"
    ;;
esac

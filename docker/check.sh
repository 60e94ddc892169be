#!/usr/bin/env bash
# Does the image build, and does its container do its work, where no registry can be reached?
#
# For root on Debian 12 with: apt-get install buildah podman runc debootstrap. A base made by debootstrap stands in for
# the official one; Dockerfile, locks and entrypoint are the real ones. All of it lies below $WORK and can be removed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(realpath -m "${WORK:-/var/tmp/stilt-assets-image}")
base=localhost/python:3.11-slim-bookworm
image=localhost/stilt-assets:check
for program in buildah podman runc debootstrap; do
    command -v "$program" >/dev/null || { echo "check: apt-get install buildah podman runc debootstrap" >&2; exit 2; }
done
[[ $(id -u) == 0 ]] || { echo "check: needs root" >&2; exit 2; }
mkdir -p "$work"
store=(--root "$work/storage" --runroot "$work/run" --storage-driver "${DRIVER:-overlay}")

# ---- a base that stands in for the official image: Debian 12 and its Python 3.11 at the official image's places

if ! buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    rm -rf "$work/debian"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$work/debian"
    rm -f "$work/debian/usr/lib/python3.11/EXTERNALLY-MANAGED"
    ln -sf /usr/bin/python3.11 "$work/debian/usr/local/bin/python3.11"
    cp -L /etc/ssl/certs/ca-certificates.crt "$work/debian/etc/ssl/certs/" # of this machine's network
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add --quiet "$container" "$work/debian" / >/dev/null
    buildah "${store[@]}" commit --quiet "$container" "$base" >/dev/null
    buildah "${store[@]}" rm "$container" >/dev/null
fi

# ---- the image; AGAIN=yes takes that of the last time

secrets=()
for name in pip:/etc/pip.conf uv:"${HOME:-/root}/.config/uv/uv.toml"; do
    [[ ! -f ${name#*:} ]] || secrets+=(--secret "id=${name%%:*},src=${name#*:}")
done
[[ ${AGAIN:-} ]] || buildah "${store[@]}" bud --isolation chroot --network host --pull=never --build-arg "BASE=$base" "${secrets[@]}" \
    --build-arg "COMMIT=$(git rev-parse --short=12 HEAD)" --file docker/Dockerfile --tag "$image" .

# ---- its container, as the deployment runs it: no root, read-only, no capability, folders for what is written

rm -rf "$work/home" "$work/scratch"
install -d -o 10001 -g 10001 "$work/home" "$work/scratch"

run() { # from there: what watches a container leaves a file `oom` where it began
    cd "$work" && podman "${store[@]}" --cgroup-manager cgroupfs --events-backend file --runtime /usr/sbin/runc run --rm --pull=never \
        --network none --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges \
        --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --memory "${MEMORY:-2g}" \
        --tmpfs /tmp:mode=1777,size=512m --volume "$work/home:/opt/dagster/dagster_home" "${also[@]}" "$image" "$@"
}
holds() {
    [[ $2 == *"$3"* ]] || { echo "check: $1: expected '$3', got: $2" >&2; exit 1; }
    echo "check: $1: $(grep -m 1 -F -- "$3" <<<"$2")"
}

also=()
holds "user" "$(run id -u)" 10001
holds "read-only" "$(run sh -c 'touch /opt/x 2>&1 || true')" "Read-only file system"
holds "memory" "$(MEMORY=100m run python -c 'bytearray(10**9).count(1)' 2>&1 || echo "exit $?")" "exit 137"
for command in dagster dagster-webserver dagster-daemon; do holds "$command" "$(run "$command" --version)" "version 1."; done
holds "packages" "$(run python -c 'import dagster_k8s, dagster_postgres, dagster_gcp, gcsfs, s3fs; print("all there")')" "all there"
holds "definitions" "$(run dagster definitions validate -m stilt_assets.definitions 2>&1)" "successful"
also=(--volume "$PWD/docker/Dockerfile:/opt/stilt-assets/lib/python3.11/site-packages/stilt/transport/hysplit/bin/linux_x64/hycs_std:ro")
holds "another hycs_std" "$(run echo started 2>&1 || echo "exit $?")" "is not the file that the wheel of pystilt brought"
also=(--volume "$work/scratch:/scratch/private" --env TMPDIR=/scratch/private --env STILT_ASSETS_IMAGE=place/name@sha256:0)
scene=$(run sh -c 'stilt-assets demo --folder /scratch/private/demo 2>&1 && cat /scratch/private/demo/store/scenes/*/scene.json')
holds "a scene" "$scene" "jacobian "
holds "scene.json" "$scene" '"image": "place/name@sha256:0"'
echo "check: size: $(buildah "${store[@]}" images --format '{{.Size}}' "$image"); everything holds"

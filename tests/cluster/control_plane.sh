#!/usr/bin/env bash
# Where do a real etcd, kube-apiserver and kube-controller-manager come from, where only Debian's packages can be had?
#
# `control_plane.sh FOLDER` puts the three programs there: etcd as Debian 12 brings it, the others built from Debian's
# source package `kubernetes`. Nothing is installed; no root. A quarter of an hour of two cores, 4 GB of disk below
# WORK, which can be removed afterwards.
set -euo pipefail

programs=(etcd kube-apiserver kube-controller-manager)
folder=$(mkdir -p "${1:?say a folder for the programs}" && cd "$1" && pwd)
work=${WORK:-/var/tmp/stilt-assets-control-plane}
for program in apt-get dpkg; do
    command -v "$program" >/dev/null || { echo "control_plane: needs Debian 12" >&2; exit 2; }
done
mkdir -p "$work"/{lists/partial,cache/archives/partial,none,root,gopath/src/k8s.io,out}

# ---- this machine's Debian, with its sources, beside the system's own lists

sed 's/^Types: deb$/Types: deb deb-src/' /etc/apt/sources.list.d/debian.sources >"$work/all.sources"
cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/all.sources";
Dir::Etc::sourceparts "$work/none";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "$(id -un)";
END
export APT_CONFIG=$work/apt.conf
cd "$work"
apt-get -q -q update
[[ -e go ]] || {
    apt-get -q -q download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server
    for package in ./*.deb; do dpkg -x "$package" root; done
    ln -s root/usr/lib/go-1.19 go
}
kubernetes=$work/gopath/src/k8s.io/kubernetes
[[ -d $kubernetes ]] || {
    apt-get -q -q source --download-only kubernetes
    mkdir -p unpacked
    tar xf kubernetes_*.orig.tar.gz -C unpacked --strip-components=1
    # That of the source is too old for Go 1.18 and later: the server would crash after some minutes, walking over a map.
    rm -r unpacked/vendor/github.com/modern-go/reflect2
    cp -r root/usr/share/gocode/src/github.com/modern-go/reflect2 unpacked/vendor/github.com/modern-go/
    mv unpacked "$kubernetes"
}
release=$(basename kubernetes_*.orig.tar.gz .orig.tar.gz)
release=${release##*really}

# ---- the programs; Go's own cache keeps what is done if this is stopped

cd "$kubernetes"
export GO111MODULE=off GOPATH=$work/gopath GOROOT=$work/go GOCACHE=$work/gocache CGO_ENABLED=0 GOFLAGS= PATH=$work/go/bin:$PATH
within=k8s.io/kubernetes
schema=pkg/generated/openapi/zz_generated.openapi.go
[[ -e $schema ]] || { # the one generated file that the source is without
    parts=$(grep -RlF --include='*.go' --exclude='*_test.go' '+k8s:openapi-gen=' cmd pkg plugin vendor/k8s.io |
        grep -v -e /code-generator/ -e /sample- -e /kube-openapi/ -e /testdata/ | xargs -n 1 dirname | sort -u | sed "s|^|$within/|" | paste -s -d ,)
    go build -o "$work/out/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    "$work/out/openapi-gen" -i "$parts" -p $within/pkg/generated/openapi -O zz_generated.openapi -r "$work/out/violations" \
        -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt
}
said=""
for part in client-go/pkg component-base; do
    said+=" -X $within/vendor/k8s.io/$part/version.gitVersion=v$release"
    said+=" -X $within/vendor/k8s.io/$part/version.gitMajor=1 -X $within/vendor/k8s.io/$part/version.gitMinor=$(cut -d . -f 2 <<<"$release")"
done
for program in kube-apiserver kube-controller-manager; do
    go build -tags providerless -ldflags "-s -w$said" -o "$work/out/" "./cmd/$program" # no clouds' own libraries
done
install "$work/root/usr/bin/etcd" "$work/out/kube-apiserver" "$work/out/kube-controller-manager" "$folder"
for program in "${programs[@]}"; do echo "control_plane: $folder/$program $("$folder/$program" --version | head -1)"; done

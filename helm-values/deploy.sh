#!/usr/bin/env bash
# How does a pushed image come into service, in the one environment that is meant and in no other?
#
#   deploy.sh local|dev|prod [more words for helm, such as --dry-run=server]
#
# It refuses unless the image is named by its digest, the context of kubectl fits the environment, the namespace is
# labelled as that environment's, and, for prod, CONFIRM says its name and the commit is clean. docs/deploy.md.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
    echo "deploy: refused: $*" >&2
    exit 2
}

environment=${1:-}
shift || true
namespace=stilt-$environment
case $environment in
local) layers=(base local) ;;
dev | prod) layers=(base gke "$environment") ;;
*) refuse "'$environment' is no environment: say local, dev or prod" ;;
esac
for program in kubectl helm; do
    command -v "$program" >/dev/null || refuse "no $program on PATH: docs/deploy.md says where it comes from"
done
for word in "$@"; do
    case $word in
    -[!-]*n* | -n* | --namespace* | --kube*) refuse "'$word' among ARGS would deploy elsewhere than $environment: leave it out" ;;
    esac
done
unset "${!HELM_KUBE@}" HELM_NAMESPACE # these would lead Helm elsewhere than kubectl
if [[ $environment != local ]]; then
    [[ ${PROJECT:-} && ${REGION:-} ]] || refuse "say PROJECT=… and REGION=…, those that terraform/ was applied with"
fi

# ---- the image

[[ ${IMAGE:-} || -f build/image ]] || refuse "no image: run make push_images, or say IMAGE=NAME@sha256:…"
read -r image commit <<<"${IMAGE:-$(<build/image)}"
[[ $image =~ ^[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}$ ]] || refuse "'$image' is not named by its digest"

# ---- the cluster

context=${KUBE_CONTEXT:-$(kubectl config current-context)} || refuse "kubectl has no context"
at=(--context "$context")
case $context in
kind-* | k3d-* | microk8s | minikube | docker-desktop | rancher-desktop) on=local ;;
*) on=cloud ;;
esac
if [[ $environment == local && $on == cloud ]]; then
    refuse "the context '$context' is no local cluster (kind-…, k3d-…, microk8s, minikube, docker-desktop, rancher-desktop)"
elif [[ $environment != local && $on == local ]]; then
    refuse "the context '$context' is a local cluster, $environment is not"
fi
if [[ $context == gke_* && $on == cloud && $environment != local ]]; then # gke_PROJECT_ZONE_NAME, as gcloud names them
    IFS=_ read -r _ project _ <<<"$context"
    [[ $project == "$PROJECT" ]] || refuse "the context '$context' is of the project '$project', PROJECT says '$PROJECT'"
fi
chosen=$(kubectl config view "${at[@]}" --minify --output 'jsonpath={..namespace}') ||
    refuse "kubectl has no context '$context'"
case $chosen in
"" | default | "$namespace") ;;
*) refuse "the context '$context' points at the namespace '$chosen', not at '$namespace'" ;;
esac

# ---- the namespace

label='jsonpath={.metadata.labels.stilt-assets/environment}'
if [[ $environment == local ]]; then
    kubectl "${at[@]}" create namespace "$namespace" --dry-run=client --output yaml | kubectl "${at[@]}" apply --filename -
    kubectl "${at[@]}" label namespace "$namespace" stilt-assets/environment=local --overwrite
fi
found=$(kubectl "${at[@]}" get namespace "$namespace" --output "$label") ||
    refuse "kubectl cannot read the namespace '$namespace' (its words are above): docs/deploy.md says how it is made"
[[ $found == "$environment" ]] ||
    refuse "the namespace '$namespace' is labelled stilt-assets/environment='$found', not '$environment'"

# ---- production

if [[ $environment == prod ]]; then
    [[ $chosen == "$namespace" ]] ||
        refuse "production wants its namespace chosen: kubectl config set-context --current --namespace $namespace"
    [[ ${commit:-} && $commit != *-dirty* ]] || refuse "production takes an image of a clean commit, made by make push_images"
    [[ -z $(git status --porcelain) && $(git rev-parse --short=12 HEAD) == "$commit" ]] ||
        refuse "the checkout is not the clean commit $commit that the image was made of"
    [[ ${CONFIRM:-} == "$namespace" ]] || refuse "production wants its name typed: CONFIRM=$namespace"
fi

# ---- the release

settings=(--set-string "stilt.image=$image" --set-string "stilt.commit=${commit:-unknown}")
code='dagster-user-deployments.deployments[0]'
for place in dagsterWebserver.image dagsterDaemon.image pipelineRun.image "$code.image"; do
    settings+=(--set-string "$place.repository=${image%@*}" --set-string "$place.digest=${image#*@}")
done
settings+=(
    --set-string "$code.env[0].name=STILT_ASSETS_IMAGE" --set-string "$code.env[0].value=$image"
    --set-string "runLauncher.config.k8sRunLauncher.envVars[0]=STILT_ASSETS_IMAGE=$image"
)
if [[ $environment != local ]]; then
    settings+=(--set-string "stilt.project=$PROJECT" --set-string "stilt.region=$REGION")
    settings+=(--set-string "postgresql.postgresqlUsername=stilt-$environment-postgres@$PROJECT.iam")
fi
files=()
for layer in "${layers[@]}"; do files+=(--values "helm-values/$layer.yaml"); done
# Pods that read what values made start again when values change.
digest=$(cd helm-values && cat "${layers[@]/%/.yaml}" | git hash-object --stdin)
for place in dagsterWebserver dagsterDaemon "$code"; do
    settings+=(--set-string "$place.annotations.stilt-values=${digest::16}")
done
version=$(sed -n 's/^dagster==\([0-9.]*\).*/\1/p' docker/requirements.lock) # chart and library are released together
chart=(dagster --repo https://dagster-io.github.io/helm --version "$version")
[[ ! ${STILT_DAGSTER_CHART:-} ]] || { chart=("$STILT_DAGSTER_CHART") && version="of $STILT_DAGSTER_CHART"; }

echo "deploy: $image to $namespace on $context, chart $version"
helm upgrade stilt "${chart[@]}" --install --kube-context "$context" --namespace "$namespace" \
    "${files[@]}" "${settings[@]}" --atomic --timeout 15m --history-max 20 "$@"

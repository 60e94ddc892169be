#!/usr/bin/env bash
# How do cluster and environments come to be? First a look at the quotas, then a plan to read, then a word of yours.
#
#   PROJECT=… REGION=… ZONE=… AUTHORIZED='{"office":"192.0.2.0/24"}' apply.sh cluster
#   PROJECT=… REGION=… apply.sh dev|prod
#
# States lie in the bucket PROJECT-stilt-terraform, each part's for itself.
set -euo pipefail
cd "$(dirname "$0")"

refuse() {
    echo "infra: refused: $*" >&2
    exit 2
}

part=${1:-}
[[ ${PROJECT:-} && ${REGION:-} ]] || refuse "say PROJECT=… and REGION=…"
for program in terraform gcloud python3; do
    command -v "$program" >/dev/null || refuse "no $program on PATH"
done
state=(-backend-config "bucket=$PROJECT-stilt-terraform" -input=false -reconfigure)
given=(-var "project=$PROJECT" -var "region=$REGION" -input=false)

case $part in
cluster)
    [[ ${ZONE:-} && ${AUTHORIZED:-} ]] || refuse "say ZONE=… and AUTHORIZED='{\"NAME\": \"CIDR\"}'"
    given+=(-var "zone=$ZONE" -var "authorized=$AUTHORIZED")
    # Where this cluster already has nodes, what is in use is mostly theirs, and counts as free for them.
    region=$(gcloud compute regions describe "$REGION" --project "$PROJECT" --format 'json(quotas)')
    own=$(gcloud compute instances list --project "$PROJECT" --filter 'labels.app=stilt-assets' --format 'value(name)' |
        grep -c . || true)
    python3 -c '
import json, sys
quotas, own = json.loads(sys.argv[1])["quotas"], int(sys.argv[2])
limits = {each["metric"]: each["limit"] for each in quotas}
used = {each["metric"]: 0 if own else each["usage"] for each in quotas}
print(json.dumps({"limits": limits, "used": used}))' "$region" "$own" >cluster/quota.auto.tfvars.json
    folder=cluster
    ;;
dev | prod)
    network=$(terraform -chdir=cluster output -raw network) || refuse "apply cluster first, on this machine"
    given+=(-var "network=$network" -var-file "$part.tfvars")
    folder=environment
    ;;
*)
    refuse "'$part' is no part: say cluster, dev or prod"
    ;;
esac

terraform -chdir="$folder" init "${state[@]}" -backend-config "prefix=$part"
terraform -chdir="$folder" plan "${given[@]}" -out "$part.tfplan"
[[ ${CONFIRM:-} == "stilt-$part" ]] || refuse "nothing was changed; read the plan, then say CONFIRM=stilt-$part"
terraform -chdir="$folder" apply -input=false "$part.tfplan"

#!/usr/bin/env bash
# How do cluster and environments come to be, and go? First a look at the quotas, then a plan to read, then a word of yours.
#
#   PROJECT=… REGION=… ZONE=… AUTHORIZED='{"office":"192.0.2.0/24"}' apply.sh cluster
#   PROJECT=… REGION=… apply.sh dev|prod
#
# REMOVE=yes takes the part away instead. States lie in the bucket PROJECT-stilt-terraform, each part's for itself.
set -euo pipefail
cd "$(dirname "$0")"

refuse() {
    echo "infra: refused: $*" >&2
    exit 2
}

part=${1:-}
case $part in
cluster) folder=cluster ;;
dev | prod) folder=environment ;;
*) refuse "'$part' is no part: say PART=cluster, dev or prod" ;;
esac
[[ ${PROJECT:-} && ${REGION:-} ]] || refuse "say PROJECT=… and REGION=…"
[[ $part != cluster || (${ZONE:-} && ${AUTHORIZED:-}) ]] || refuse "say ZONE=… and AUTHORIZED='{\"NAME\": \"CIDR\"}'"
for program in terraform gcloud python3; do
    command -v "$program" >/dev/null || refuse "no $program on PATH"
done
given=(-var "project=$PROJECT" -var "region=$REGION" -input=false)
word=stilt-$part
if [[ ${REMOVE:-} ]]; then
    [[ $REMOVE == yes ]] || refuse "REMOVE=$REMOVE means nothing: say REMOVE=yes, or leave it out"
    given+=(-destroy)
    word=remove-stilt-$part
fi

begin() { # reads the state of a part
    terraform -chdir="$1" init -input=false -reconfigure -backend-config "bucket=$PROJECT-stilt-terraform" \
        -backend-config "prefix=$2" >&2 ||
        refuse "terraform has no state for '$2' (its words are above); is there a bucket gs://$PROJECT-stilt-terraform?"
}

if [[ $part == cluster ]]; then
    given+=(-var "zone=$ZONE" -var "authorized=$AUTHORIZED")
    # Where this cluster already has nodes, what is in use is mostly theirs, and counts as free for them.
    region=$(gcloud compute regions describe "$REGION" --project "$PROJECT" --format 'json(quotas)') ||
        refuse "gcloud cannot read the quotas of '$REGION' in '$PROJECT' (its words are above)"
    own=$(gcloud compute instances list --project "$PROJECT" --filter 'labels.app=stilt-assets' --format 'value(name)' |
        grep -c . || true)
    python3 -c '
import json, sys
quotas, own = json.loads(sys.argv[1])["quotas"], int(sys.argv[2])
limits = {each["metric"]: each["limit"] for each in quotas}
used = {each["metric"]: 0 if own else each["usage"] for each in quotas}
print(json.dumps({"limits": limits, "used": used}))' "$region" "$own" >cluster/quota.auto.tfvars.json
else
    begin cluster cluster # whoever applied it, and wherever
    network=$(terraform -chdir=cluster output -raw network) ||
        refuse "there is no cluster in '$PROJECT' yet: make infra PART=cluster comes first"
    given+=(-var "network=$network" -var-file "$part.tfvars")
fi

begin "$folder" "$part"
terraform -chdir="$folder" plan "${given[@]}" -out "$part.tfplan"
[[ ${CONFIRM:-} == "$word" ]] || refuse "nothing was changed; read the plan, then say CONFIRM=$word"
terraform -chdir="$folder" apply -input=false "$part.tfplan"

#!/bin/sh
# Makes the Secret `postgres-credentials` with a random password, unless it exists: `password` is for the server, `url`
# for customer-management-api. The password is never printed and stands in no process list.
set -eu

namespace=purchase-system
secret=postgres-credentials

command -v kubectl >/dev/null || { echo "kubectl is missing" >&2; exit 1; }
found=$(kubectl --namespace "$namespace" get secret "$secret" --ignore-not-found --output name)
if [ -n "$found" ]; then
  echo "$found exists"
  exit 0
fi

password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
kubectl create --filename - <<SECRET
apiVersion: v1
kind: Secret
metadata:
  name: $secret
  namespace: $namespace
  labels:
    app.kubernetes.io/part-of: purchase-pipeline
type: Opaque
stringData:
  password: "$password"
  url: "postgres://purchase:$password@postgres.$namespace.svc.cluster.local:5432/purchases"
SECRET

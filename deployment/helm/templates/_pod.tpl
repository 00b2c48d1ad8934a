{{/* What the pods of both services have alike. Argument: list of the root and the workload's name. */}}
{{- define "purchase-pipeline.pod" -}}
serviceAccountName: {{ last . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ (first .).Values.shutdown.graceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app: {{ last $ }}
  {{- end }}
{{- end }}

{{/* What their containers have alike. Argument: the root. */}}
{{- define "purchase-pipeline.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- /* Only whether the process answers: Kafka or SQL being away must not restart a pod. */}}
startupProbe:
  httpGet:
    path: /livez
    port: operations
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: operations
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: operations
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
lifecycle:
  {{- /* Serve on until every node has heard that this pod is going; done by the kubelet, the image has no shell. */}}
  preStop:
    sleep:
      seconds: {{ .Values.shutdown.preStopSeconds }}
{{- end }}

{{/* Labels of a workload's objects and pods. Argument: its name. */}}
{{- define "purchase-pipeline.labels" -}}
app: {{ . }}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: purchase-pipeline
{{- end }}

{{/* Every object of a workload has the workload's name. Argument: list of the root and that name. */}}
{{- define "purchase-pipeline.metadata" -}}
name: {{ last . }}
namespace: {{ (first .).Release.Namespace }}
labels:
  {{- include "purchase-pipeline.labels" (last .) | nindent 2 }}
{{- end }}

{{/* A Service's full name: KEDA asks from another namespace. Argument: list of the root and the Service's name. */}}
{{- define "purchase-pipeline.host" -}}
{{ last . }}.{{ (first .).Release.Namespace }}.svc.cluster.local
{{- end }}
